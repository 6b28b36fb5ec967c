"""A whole site of its own: simulated modules, the gateway and the API as real processes on loopback.

`SiteFolder` makes the files, the books and the users in a folder; `RunningSite` starts and ends the processes
and asks them. Nothing here knows the gateway's or the API's insides: the site is driven by its HTTP interface,
its command line, the simulators' control socket, and what stands in the books.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import sqlalchemy as sa
import yaml

from config.settings import Settings, load
from dormpower.books import migration, users
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.clock import CampusClock, start_clock
from proofs.own_profiles import PROFILES_FOLDER, write_profile
from simulators.__main__ import CREDENTIALS_FILE
from simulators.access import GATEWAY_USER, make_credentials, save_credentials
from simulators.control import CONTROL_SOCKET, ControlClient, UnableToControlError
from simulators.demo_site import free_ports

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
SITE_ID = "proof"
TCP_LINE, RTU_LINE = "line-tcp", "line-rtu"
ROLES = ("student", "finance", "maintenance", "admin")
OTHER_MAINTENANCE = "maintenance-2"
PRICE_MILLIFEN_PER_KWH = 56_530
NOON = datetime(2026, 5, 20, 4, 0, tzinfo=UTC)  # noon in Shanghai
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a site consists of and how fast it lives. Periods are real seconds, policies campus seconds."""

    tcp_rooms: int = 2
    rtu_rooms: int = 2
    mqtt_rooms: int = 2
    speed: float = 120.0
    campus_start: datetime = NOON
    poll_s: float = 0.5
    missed_polls: int = 6
    timeout_ms: int = 200
    low_wh: int = 2_000
    critical_wh: int = 1_000
    warning_lead_s: int = 120
    courtesy: tuple[str, ...] = ("03:00-04:00",)
    database: str = "sqlite:///books.db"
    readings: Mapping[str, Any] | None = None
    broker: str = "embedded"  # or mosquitto, or none
    own_profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name → like, and other values
    more_lines: tuple[Mapping[str, Any], ...] = ()
    more_modules: tuple[Mapping[str, Any], ...] = ()
    more_rooms: tuple[Mapping[str, Any], ...] = ()
    fast_poll_s: float | None = None
    wire_baud: int | None = None  # the timing of a serial bus for the simulated lines
    synced: bool = True  # whether the books know the rooms before any process runs
    policies: Mapping[str, Any] = field(default_factory=dict)  # sections beside prices and arrears


class SiteFolder:
    """The files, the books and the users of one site, in a folder of its own."""

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        # A Unix socket's path holds about 100 bytes: not every folder for tests is short enough.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="dormpower-site-"))
        self.plan = plan
        self.ports = dict(zip(("tcp", "rtu", "mqtt", "api"), free_ports(4), strict=True))
        self.path = self.folder / "dormpower.yaml"
        self.credentials: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self._write()
        self.settings: Settings = load(self.path)
        self.clock: CampusClock = start_clock(self.folder, speed=plan.speed, campus_start=plan.campus_start)
        self.books: Books = open_books(self.settings.database, base=self.folder)
        self._fill()

    @property
    def circuits(self) -> list[str]:
        """All circuits by id."""
        return [circuit.circuit_id for room in self.settings.site.rooms for circuit in room.circuits]

    @property
    def url(self) -> str:
        """Where the API listens."""
        return f"http://{HOST}:{self.ports['api']}"

    def remove(self) -> None:
        """Close the books and remove the folder."""
        self.books.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart_clock(self) -> None:
        """Let campus time begin again at the plan's start: set-up took some of it."""
        self.clock = start_clock(self.folder, speed=self.plan.speed, campus_start=self.plan.campus_start)

    def _write(self) -> None:
        plan, folder = self.plan, self.folder
        for name, said in plan.own_profiles.items():
            write_profile(folder, name=name, **said)
        modules, rooms = self._modules_and_rooms()
        self.credentials = make_credentials([one["id"] for one in modules if "line" not in one])
        save_credentials(folder / CREDENTIALS_FILE, self.credentials)
        secret = folder / "mqtt.password"
        secret.touch(0o600)
        secret.write_text(self.credentials[GATEWAY_USER] + "\n", encoding="utf-8")
        lines: list[Mapping[str, Any]] = [
            {
                "id": line_id,
                "transport": "tcp",
                "host": HOST,
                "port": self.ports[name],
                "framer": framer,
                "timeout_ms": plan.timeout_ms,
            }
            for line_id, name, framer, count in (
                (TCP_LINE, "tcp", "socket", plan.tcp_rooms),
                (RTU_LINE, "rtu", "rtu", plan.rtu_rooms),
            )
            if count
        ]
        document = {
            "site": {"id": SITE_ID, "name": "Proof campus", "zone": "Asia/Shanghai"},
            "database": plan.database,
            "readings": dict(plan.readings or {"store": "embedded", "path": "readings.db", "keep_days": 90}),
            "api": {"host": HOST, "port": self.ports["api"]},
            "gateway": {
                "id": "g1",
                "poll_s": plan.poll_s,
                "fast_poll_s": plan.fast_poll_s or plan.poll_s,
                "missed_polls": plan.missed_polls,
            },
            "lines": [*lines, *plan.more_lines],
            "modules": modules,
            "rooms": rooms,
            "policies": {
                "prices": [
                    {
                        "from": plan.campus_start.date().replace(month=1, day=1),
                        "kind": "all",
                        "price_millifen_per_kwh": PRICE_MILLIFEN_PER_KWH,
                    }
                ],
                "arrears": {
                    "low_wh": plan.low_wh,
                    "critical_wh": plan.critical_wh,
                    "overdraft_wh": 0,
                    "warning_lead_s": plan.warning_lead_s,
                    "courtesy": list(plan.courtesy),
                    "channels": ["wechat"],
                    "mode": "enforce",
                },
                **plan.policies,
            },
        }
        if plan.own_profiles:
            document["profiles_folder"] = PROFILES_FOLDER
        if plan.mqtt_rooms:
            document["mqtt"] = {
                "url": f"mqtt://{HOST}:{self.ports['mqtt']}",
                "username": GATEWAY_USER,
                "password_file": "mqtt.password",
            }
        self.path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _modules_and_rooms(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        plan = self.plan
        modules: list[dict[str, Any]] = []
        rooms: list[dict[str, Any]] = []
        for campus, count, line_id in (
            ("tcp", plan.tcp_rooms, TCP_LINE),
            ("rtu", plan.rtu_rooms, RTU_LINE),
            ("mqtt", plan.mqtt_rooms, None),
        ):
            for number in range(1, count + 1):
                room_id = f"{campus}-01-{100 + number}"
                module: dict[str, Any] = {
                    "id": f"m-{room_id}",
                    "profile": "dormpower-dual" if line_id else "dormpower-mqtt",
                }
                if line_id:
                    module |= {"line": line_id, "unit": number}
                modules.append(module)
                rooms.append(describe_room(room_id, module_id=module["id"]))
        modules += [dict(one) for one in plan.more_modules]
        rooms += [dict(one) for one in plan.more_rooms]
        return modules, rooms

    def _fill(self) -> None:
        migration.upgrade(self.books)
        if self.plan.synced:
            now = self.clock.now()
            today = now.astimezone(self.settings.zone).date()
            sync_site(books=self.books, site=self.settings.site, now=now, today=today)
        real_now = self.clock.real_now()
        with self.books.write() as connection:
            for name in (*ROLES, OTHER_MAINTENANCE):
                user_id = users.add_user(
                    connection,
                    username=name,
                    role=users.Role(name.removesuffix("-2")),
                    password_hash=None,
                    now=real_now,
                )
                issued = users.issue_token(connection, user_id=user_id, days=1, now=real_now)
                self.tokens[name] = issued.secret


def describe_room(
    room_id: str, *, module_id: str, ac_module_id: str | None = None, ac: bool = True
) -> dict[str, Any]:
    """Return a room of the site file whose circuits hang on channels 0 and 1 of a module."""
    campus, building, door = room_id.rsplit("-", 2)
    room: dict[str, Any] = {
        "room_id": room_id,
        "campus": campus,
        "building": f"{campus}-{building}",
        "floor": door[0],
        "name": door,
        "lighting_module": module_id,
        "lighting_channel": 0,
        "rated_current_a": 32,
    }
    if ac:
        room |= {"ac_module": ac_module_id or module_id, "ac_channel": 1}
    return room


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
