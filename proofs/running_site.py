"""A whole site of its own: simulated modules, the gateway and the API as real processes on loopback.

`RunningSite` starts and ends the processes of a folder (`proofs.site_folder`) and asks them. Nothing here knows
the gateway's or the API's insides: the site is driven by its HTTP interface, its command line, the simulators'
control socket, and what stands in the books.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import sqlalchemy as sa

from proofs.site_folder import SiteFolder
from simulators.control import CONTROL_SOCKET, ControlClient, UnableToControlError

ROOT = Path(__file__).parents[1]
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
_LOOK_EVERY_S = 0.05

Found = TypeVar("Found")


class NotInTimeError(AssertionError):
    """What had to come about did not, within its deadline; the message says what was seen last."""


def eventually(
    look: Callable[[], Found | None], *, what: str, within_s: float = 45.0, every_s: float = _LOOK_EVERY_S
) -> Found:
    """Return the first true thing that `look` returns. Raises NotInTimeError after `within_s` seconds.

    A connection refused while a process starts, and an assertion that does not hold yet, count as not yet.
    """
    deadline = time.monotonic() + within_s
    last: object = None
    while True:
        try:
            last = found = look()
        except (httpx.TransportError, UnableToControlError, AssertionError) as not_yet:
            last, found = not_yet, None
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{what}: not within {within_s:g} s; last seen: {last!r}")
        time.sleep(every_s)


@dataclass(slots=True)
class Process:
    """One process of a site, and where it writes."""

    name: str
    arguments: Sequence[str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.popen is not None and self.popen.poll() is None

    def start(self) -> None:
        """Start it; what it writes is added to its log."""
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                list(self.arguments), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.popen is None:
            return 0
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired as fault:
            self.popen.kill()
            self.popen.wait()
            raise NotInTimeError(f"{self.name}: no end after signal {number}; log: {self.tail()}") from fault

    def tail(self, lines: int = 12) -> str:
        """Return the end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass(slots=True)
class RunningSite:
    """The processes of a site, and the ways to ask them."""

    files: SiteFolder
    processes: dict[str, Process] = field(default_factory=dict)
    _client: httpx.Client | None = None

    def __post_init__(self) -> None:
        """Describe the processes; nothing is started yet."""
        config = ["--config", str(self.files.path)]
        simulator = [sys.executable, "-m", "simulators", *config, "--seed", "1"]
        if self.files.plan.broker == "embedded" and self.files.plan.mqtt_rooms:
            simulator.append("--broker")
        if self.files.plan.wire_baud is not None:
            simulator += ["--wire-baud", str(self.files.plan.wire_baud)]
        for name, arguments in (
            ("simulators", simulator),
            ("gateway", [sys.executable, "-m", "gateway", *config]),
            ("api", [sys.executable, "-m", "api", *config]),
        ):
            self.processes[name] = Process(name, arguments, self.files.folder / f"{name}.log")

    def __enter__(self) -> Self:
        """Start simulators and API, give every account energy, and then let the gateway poll."""
        try:
            self.start("simulators", "api")
            self.wait_for_simulators()
            self.wait_for_api()
        except BaseException:
            self.end_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_all()

    # --- processes -----------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start processes that do not run."""
        for name in names:
            if not self.processes[name].running:
                self.processes[name].start()

    def stop(self, name: str) -> int:
        """End a process as an operator does; returns its exit code."""
        return self.processes[name].end(signal.SIGTERM)

    def kill(self, name: str) -> None:
        """End a process with kill -9."""
        self.processes[name].end(signal.SIGKILL)

    def restart_gateway(self, *, kill: bool = False) -> None:
        """End the gateway and start it again, and wait until it has taken something in."""
        if kill:
            self.kill("gateway")
        else:
            code = self.stop("gateway")
            if code != 0:
                raise AssertionError(f"gateway: exit code {code}: {self.processes['gateway'].tail()}")
        self.start_gateway()

    def start_gateway(self) -> None:
        """Start the gateway and wait until it polls."""
        before = self._started()
        self.start("gateway")
        self.expect_alive("gateway", lambda: self._started() > before, what="the gateway starts")

    def _started(self) -> int:
        log = self.processes["gateway"].log
        return log.read_bytes().count(b"gateway.started") if log.exists() else 0

    def expect_alive(self, name: str, look: Callable[[], Any], *, what: str) -> None:
        """Wait for a condition; a process that ends meanwhile is told with its last words."""

        def alive() -> Any:
            if not self.processes[name].running:
                raise RuntimeError(f"{name} has ended: {self.processes[name].tail()}")
            return look()

        eventually(alive, what=what, within_s=START_DEADLINE_S)

    def wait_for_simulators(self) -> None:
        """Wait until the simulators' control socket answers."""
        self.expect_alive("simulators", lambda: self.control("ping"), what="the simulators answer")

    def wait_for_api(self) -> None:
        """Wait until the API answers."""
        self.expect_alive(
            "api", lambda: self.client().get("/healthz").status_code == 200, what="the API answers"
        )

    def end_all(self) -> None:
        """End everything that still runs, the gateway first."""
        for name in ("gateway", "api", "simulators"):
            process = self.processes[name]
            if process.running:
                process.end(signal.SIGTERM)
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- asking --------------------------------------------------------------------------------------------

    def client(self) -> httpx.Client:
        """Return a client without any rights; `ask` adds them."""
        if self._client is None:
            self._client = httpx.Client(base_url=self.files.url, timeout=10.0, trust_env=False)
        return self._client

    def ask(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API as a user."""
        headers = {"Authorization": f"Bearer {self.files.tokens[who]}", **options.pop("headers", {})}
        return self.client().request(method, f"/api/v1{path}", headers=headers, **options)

    def get(self, path: str, *, who: str = "admin", **options: Any) -> Any:
        """Return what a page of the API says; anything but success is a failure."""
        answer = self.ask(who, "GET", path, **options)
        if answer.status_code != 200:
            raise AssertionError(f"GET {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def circuit(self, circuit_id: str) -> dict[str, Any]:
        """Return a circuit as the API shows it."""
        room_id = circuit_id.rpartition("-")[0]
        for circuit in self.get(f"/rooms/{room_id}")["circuits"]:
            if circuit["circuit_id"] == circuit_id:
                return dict(circuit)
        raise AssertionError(f"{circuit_id}: not in its room")

    def alarms(self, kind: str, *, subject: str | None = None, state: str = "active") -> list[dict[str, Any]]:
        """Return the alarms of a kind."""
        items = self.get(f"/alarms?kind={kind}&state={state}&limit=200", who="maintenance")["items"]
        return [one for one in items if subject is None or one["subject_id"] == subject]

    def recharge(self, circuit_id: str, amount_fen: int, *, key: str) -> httpx.Response:
        """Take money at the counter."""
        return self.ask(
            "finance",
            "POST",
            f"/circuits/{circuit_id}/recharges",
            json={"amount_fen": amount_fen, "channel": "cash"},
            headers={"Idempotency-Key": key},
        )

    def fund_all(self, amount_fen: int = 10_000_000, *, but: Sequence[str] = ()) -> None:
        """Give every circuit plenty, so that only what a test means to run out does."""
        for circuit_id in self.files.circuits:
            if circuit_id not in but:
                answer = self.recharge(circuit_id, amount_fen, key=f"fund-{circuit_id}")
                if answer.status_code not in (200, 201):
                    raise AssertionError(f"recharge {circuit_id}: {answer.status_code} {answer.text}")

    # --- the field -----------------------------------------------------------------------------------------

    def control(self, do: str, **arguments: Any) -> Any:
        """Ask the simulators' control socket, on a connection for this once."""
        with ControlClient(self.files.folder / CONTROL_SOCKET) as control:
            return control.call(do, **arguments)

    def fault(self, subject: str, kind: str, **params: Any) -> None:
        """Let a fault begin."""
        self.control("fault", subject=subject, kind=kind, params=params)

    def clear(self, subject: str | None = None, kind: str | None = None) -> None:
        """End a fault."""
        self.control("clear", subject=subject, kind=kind)

    def truth(self, circuit_id: str) -> dict[str, Any]:
        """Return what really is with a circuit."""
        return dict(self.control("truth", circuit_id=circuit_id))

    def set_power(self, circuit_id: str, power_w: float | None) -> None:
        """Let a circuit draw exactly so much."""
        self.control("set_power", circuit_id=circuit_id, power_w=power_w)

    def set_all_powers(self, power_w: float) -> None:
        """Let every simulated circuit draw exactly so much."""
        for circuit_id in self.control("names")["circuits"]:
            self.set_power(circuit_id, power_w)

    # --- the books -----------------------------------------------------------------------------------------

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Return rows of the books, read as they stand."""
        with self.files.books.read() as connection:
            return list(connection.execute(sa.text(statement), parameters).all())

    def point(self, circuit_id: str) -> Any:
        """Return where a circuit's metering stands."""
        (row,) = self.rows("SELECT * FROM meter_points WHERE circuit_id = :circuit_id", circuit_id=circuit_id)
        return row

    def commands(self, circuit_id: str) -> list[Any]:
        """Return the commands on record of a circuit, oldest first."""
        return self.rows(
            "SELECT * FROM commands WHERE circuit_id = :circuit_id ORDER BY recorded_at, command_id",
            circuit_id=circuit_id,
        )

    def dormpower(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line on this site."""
        return subprocess.run(  # noqa: S603 - our own program, no shell
            [
                sys.executable,
                "-c",
                "from dormpower.cli import main; main()",
                *arguments,
                "--config",
                str(self.files.path),
            ],
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def logs(self) -> str:
        """Return the last words of all processes, for a failure's message."""
        return "\n".join(f"--- {name}\n{process.tail(30)}" for name, process in self.processes.items())
