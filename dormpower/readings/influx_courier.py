"""The delivering side of InfluxDB readings: one thread takes lines from the outbox and writes them.

It writes with the client's synchronous write (its batching writer drops what it can't deliver) and removes
lines only after the server's 2xx. What the server answers decides:

- 400, 413, 422: some line is unusable (or too old for the bucket). The batch is halved until the lines at fault
  stand alone; they go to the file of rejected lines and are counted, all others are delivered.
- everything else (no connection, time-out, 401, 403, 404, 429, 5xx): nothing is wrong with the lines. They are
  kept and retried with back-off until the server takes them or the outbox overflows.
"""

import random
import threading
from collections.abc import Sequence
from typing import Any

import structlog
import urllib3
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from dormpower.readings.outbox import Outbox, Parcels
from dormpower.readings.port import UnableToReachReadingsError

WRITE_TIMEOUT_S = 10
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
MAX_REJECTS_BYTES = 64 * 1024 * 1024
_UNUSABLE_LINE = frozenset({400, 413, 422})

log = structlog.get_logger()


class _UnusableLinesError(Exception):
    """The server refuses the content of a batch."""


class _ServerAwayError(Exception):
    """The server does not take anything now; nothing is said about the lines."""


class Server:
    """The writing side of one bucket."""

    def __init__(self, *, url: str, org: str, bucket: str, token: str) -> None:
        self.name = f"{url} bucket {bucket}"
        self._bucket = bucket
        self._org = org
        self._client: Any = InfluxDBClient(url=url, token=token, org=org, timeout=WRITE_TIMEOUT_S * 1000)
        self._write_api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, lines: Sequence[bytes]) -> None:
        """Write and return after the server's 2xx."""
        try:
            self._write_api.write(self._bucket, self._org, b"\n".join(lines), write_precision="ms")
        except InfluxDBError as fault:
            status = getattr(fault, "status", None) or getattr(fault.response, "status", None)
            body = getattr(fault, "body", None)
            told = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or fault.message)
            told = f"{status} {told.strip()[:500]}"
            raise (_UnusableLinesError if status in _UNUSABLE_LINE else _ServerAwayError)(told) from fault
        except (urllib3.exceptions.HTTPError, OSError) as fault:
            raise _ServerAwayError(f"{type(fault).__name__}: {str(fault)[:500]}") from fault

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()


class Courier:
    """The thread that empties the outbox; logs when the server goes and when it is back, not each try."""

    def __init__(self, *, outbox: Outbox, server: Server, first_retry_s: float, longest_retry_s: float) -> None:
        self._outbox = outbox
        self._server = server
        self._first_retry_s = first_retry_s
        self._longest_retry_s = longest_retry_s
        self._rejects_path = outbox.path.with_suffix(".rejected")
        self._state = threading.Condition()
        self._work = True  # look at once: the outbox may hold lines of the run before
        self._stopping = False
        self._empty = False
        self._away = False
        self._overflowing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="readings-courier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the write that is under way; what waits stays in the outbox."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._server.close()

    def wake(self) -> None:
        """Say that there is something to deliver."""
        with self._state:
            self._work = True
            self._empty = False
            self._state.notify_all()

    def tell_overflow(self, dropped: int) -> None:
        """Log the first drop of an overflow; the outbox counts all."""
        if not self._overflowing:
            self._overflowing = True
            log.error("readings.outbox_overflow", path=str(self._outbox.path), dropped_lines=dropped)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until everything is delivered; False after the time-out."""
        with self._state:
            return self._state.wait_for(lambda: self._empty, timeout_s)

    def _run(self) -> None:
        retry_s = self._first_retry_s
        while self._wait_for_work():
            try:
                self._drain()
            except (_ServerAwayError, UnableToReachReadingsError) as fault:
                self._note_away(str(fault))
            except Exception:
                log.exception("readings.courier_failed", server=self._server.name)
            else:
                retry_s = self._first_retry_s
                continue
            if not self._pause(retry_s * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads retries
                return
            retry_s = min(2 * retry_s, self._longest_retry_s)

    def _note_away(self, detail: str) -> None:
        if not self._away:
            self._away = True
            log.warning("readings.server_away", server=self._server.name, detail=detail)

    def _wait_for_work(self) -> bool:
        with self._state:
            self._state.wait_for(lambda: self._work or self._stopping)
            return not self._stopping

    def _pause(self, seconds: float) -> bool:
        with self._state:
            self._work = True
            return not self._state.wait_for(lambda: self._stopping, seconds)

    def _drain(self) -> None:
        while not self._stopping:
            with self._state:
                self._work = False
            parcels = self._outbox.take()
            if parcels is None:
                with self._state:
                    # An append between the look and here has set `_work` again and will be found.
                    self._empty = not self._work
                    self._state.notify_all()
                    if self._empty:
                        return
                continue
            self._deliver(parcels)
            self._overflowing = False
            if self._away:
                self._away = False
                log.info("readings.server_back", server=self._server.name)

    def _deliver(self, parcels: Parcels) -> None:
        rejected: list[tuple[bytes, str]] = []
        self._write(parcels.lines, rejected)
        if rejected:
            self._keep_rejects(rejected)
        self._outbox.acknowledge(parcels, rejected_lines=len(rejected))

    def _write(self, lines: Sequence[bytes], rejected: list[tuple[bytes, str]]) -> None:
        """Write lines, halving a refused batch until each line at fault stands alone."""
        waiting = [lines]
        while waiting:
            part = waiting.pop()
            try:
                self._server.write(part)
            except _UnusableLinesError as fault:
                if len(part) == 1:
                    rejected.append((part[0], str(fault)))
                else:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
                if self._stopping:
                    raise _ServerAwayError("stopping") from fault

    def _keep_rejects(self, rejected: Sequence[tuple[bytes, str]]) -> None:
        """Keep refused lines for a person, as far as the file is not full; the counter counts all of them."""
        line, reason = rejected[0]
        log.error(
            "readings.lines_rejected",
            server=self._server.name,
            rejected_lines=len(rejected),
            first_line=line.decode("utf-8", "replace")[:500],
            detail=reason,
            kept_in=str(self._rejects_path),
        )
        try:
            with self._rejects_path.open("ab") as file:
                for line, reason in rejected:
                    if file.tell() > MAX_REJECTS_BYTES:
                        break
                    file.write(b"# " + " ".join(reason.split()).encode() + b"\n" + line + b"\n")
        except OSError as fault:
            raise UnableToReachReadingsError(
                f"{self._rejects_path}: can't keep rejected lines: {fault}"
            ) from fault
