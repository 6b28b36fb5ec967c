"""Readings in InfluxDB: durable in an outbox on disk first, delivered from there by a courier thread.

`append` returns once the lines are in the outbox (`outbox.py`); the courier (`influx_courier.py`) writes them
until the server acknowledges. Writing a line twice changes nothing: same series, same timestamp, same values.

Reads are InfluxQL over `/query`, the one language of InfluxDB 1.x, 2.x (each bucket answers as a database of
its name) and 3 Core. They show what the server has: lines still in the outbox are not merged in, so while the
server is away reads raise, and after it came back they lag until the outbox is drained (`counts()` shows it).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import urllib3

from dormpower.readings.influx_courier import FIRST_RETRY_S, LONGEST_RETRY_S, Courier, Server
from dormpower.readings.influx_lines import Lines, between_query, every_query
from dormpower.readings.instants import check_page, from_ms, to_ms, to_ms_up
from dormpower.readings.outbox import Outbox, OutboxCounts
from dormpower.readings.port import MAX_ITEMS, Reading, ReadingTags, UnableToReachReadingsError

READ_TIMEOUT_S = 10


class InfluxReadings:
    """The readings port on an InfluxDB server. Without an outbox it only reads (the API's side)."""

    def __init__(
        self,
        *,
        url: str,
        org: str,
        bucket: str,
        token: str,
        site: str,
        tags: Mapping[str, ReadingTags],
        outbox: Outbox | None,
        first_retry_s: float = FIRST_RETRY_S,
        longest_retry_s: float = LONGEST_RETRY_S,
    ) -> None:
        self._site = site
        self._outbox = outbox
        self._lines = Lines(site=site, tags=tags)
        self._reader = _Reader(url=url, bucket=bucket, token=token)
        self._courier = (
            None
            if outbox is None
            else Courier(
                outbox=outbox,
                server=Server(url=url, org=org, bucket=bucket, token=token),
                first_retry_s=first_retry_s,
                longest_retry_s=longest_retry_s,
            )
        )

    def start(self) -> None:
        """Start delivering what is in the outbox."""
        if self._courier is not None:
            self._courier.start()

    def append(self, readings: Sequence[Reading]) -> None:
        """Store durably in the outbox; the courier delivers. A full outbox drops its oldest and counts them."""
        if self._outbox is None or self._courier is None:
            raise UnableToReachReadingsError(f"{self._reader.name}: opened for reading only, can't append")
        dropped = self._outbox.append([self._lines.line(reading) for reading in readings])
        if dropped:
            self._courier.tell_overflow(dropped)
        self._courier.wake()

    def between(
        self, circuit_id: str, start: datetime, end: datetime, *, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return the readings of `[start, end)` in order of time, at most `limit`."""
        check_page(limit=limit)
        query = between_query(
            site=self._site,
            circuit_id=circuit_id,
            start_ms=to_ms_up(start),
            end_ms=to_ms_up(end),
            limit=limit,
        )
        return self._reader.select(query, circuit_id)[:limit]

    def every(
        self, circuit_id: str, start: datetime, end: datetime, *, every_s: int, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return one row for each non-empty step of `every_s` seconds, aligned to the epoch."""
        check_page(limit=limit, every_s=every_s)
        query = every_query(
            site=self._site,
            circuit_id=circuit_id,
            start_ms=to_ms_up(start),
            end_ms=to_ms_up(end),
            every_s=every_s,
            limit=limit,
        )
        return self._reader.select(query, circuit_id)[:limit]

    def drop_before(self, at: datetime) -> int:  # noqa: ARG002 - the port's signature
        """Return 0: the retention of the bucket lets readings age out."""
        return 0

    def compact(self) -> int:
        """Return 0: the server compacts."""
        return 0

    def counts(self) -> OutboxCounts | None:
        """Return what waits in the outbox and what became of the rest; None where this side only reads."""
        return None if self._outbox is None else self._outbox.counts()

    def wait_until_delivered(self, *, timeout_s: float) -> bool:
        """Wait until the outbox is empty; False when it is not within the time-out."""
        return self._courier is None or self._courier.wait_until_empty(timeout_s)

    def close(self) -> None:
        """Stop delivering and close; what waits stays on disk for the next start."""
        if self._courier is not None:
            self._courier.stop()
        if self._outbox is not None:
            self._outbox.close()
        self._reader.close()


class _Reader:
    """The reading side: InfluxQL over GET /query."""

    def __init__(self, *, url: str, bucket: str, token: str) -> None:
        self.name = f"{url} bucket {bucket}"
        self._url = f"{url.rstrip('/')}/query"
        # InfluxDB 1.x writes a bucket as database/retention-policy.
        database, _, policy = bucket.partition("/")
        self._parameters = {"db": database, "epoch": "ms"} | ({"rp": policy} if policy else {})
        self._pool = urllib3.PoolManager(
            maxsize=8,
            headers={"Authorization": f"Token {token}"} if token else {},
            timeout=READ_TIMEOUT_S,
            retries=urllib3.Retry(connect=1, read=1, redirect=0, other=0, backoff_factor=0.1),
        )

    def select(self, query: str, circuit_id: str) -> list[Reading]:
        """Return the rows of a query in order of time, one for each instant."""
        try:
            answer = self._pool.request("GET", self._url, fields={**self._parameters, "q": query})
            told = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
            raise UnableToReachReadingsError(
                f"{self.name}: no usable answer to a query: {type(fault).__name__}: {str(fault)[:300]}"
            ) from fault
        (result,) = told.get("results") or [{}]
        refusal = told.get("error") or told.get("message") or result.get("error")
        if answer.status != 200 or refusal:
            raise UnableToReachReadingsError(
                f"{self.name}: refuses a query: {answer.status} {refusal or ''}".rstrip()
            )
        readings: dict[int, Reading] = {}
        for series in result.get("series", []):
            if series.get("partial") or result.get("partial"):
                raise UnableToReachReadingsError(
                    f"{self.name}: cuts answers short: set its max-row-limit to 0 or above {MAX_ITEMS}"
                )
            for values in series["values"]:
                reading = _reading(circuit_id, dict(zip(series["columns"], values, strict=True)))
                if reading is not None:
                    readings[to_ms(reading.at)] = reading
        return [readings[at_ms] for at_ms in sorted(readings)]

    def close(self) -> None:
        self._pool.clear()


def _reading(circuit_id: str, row: Mapping[str, Any]) -> Reading | None:
    """Return a row as a reading; None for one without a register, which this store never writes."""
    if row.get("register_wh") is None:
        return None
    at = row["time"]
    return Reading(
        circuit_id=circuit_id,
        at=datetime.fromisoformat(at) if isinstance(at, str) else from_ms(int(at)),
        register_wh=int(row["register_wh"]),
        power_w=_number(row.get("power_w")),
        voltage_v=_number(row.get("voltage_v")),
        current_a=_number(row.get("current_a")),
        power_factor=_number(row.get("power_factor")),
        relay=row.get("relay"),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
