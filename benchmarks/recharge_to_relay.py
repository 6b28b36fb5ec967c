"""From a recharge at the API to the relay closed and read back, while 10,000 rooms a minute are polled.

Real processes: API, gateway, light responder. Some lines are Modbus TCP on loopback; some are RTU over TCP with
the timing of a 9600-baud bus (`simulators.lines.Wire`). On both, circuits that were cut for arrears are
recharged one after the other by HTTP. The clock starts before the request is sent and stops when the books show
the command as confirmed, which the gateway writes after reading the relay back; then the benchmark reads the
relay itself, over a connection of its own.

Measured twice: while a new campus is first believed, from the first register that the gateway believes to the
last one (a poll cycle, in which the state of every circuit goes on record), and once all are believed.

Beside each recharge, in turns: the bare floor on the same line, a datagram that wakes a task which writes the
same relay and reads it back with pymodbus. One room and the next are in different buildings, so that no closing
has to wait for its turn in its building (`policies.closings`).
"""

import asyncio
import http.client
import json
import random
import socket
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.framer import FramerType

from benchmarks import campus, peers
from benchmarks.report import Report, parser, percentile
from config.settings import Settings
from dormpower.books import proof
from dormpower.books.users import Role
from dormpower.domain.samples import Relay

BOUNDS_MS = {"loopback": 100.0, "9600 baud": 500.0}
FIRST, STEADY = "a new campus first believed", "every register believed"
BAUD = 9600
AMOUNT_FEN = 5_000
DEADLINE_S = 10.0
_LOOK_EVERY_S = 0.001
_STATUS, _COMMAND, _CLOSE = 0x18, 0x1B, 0xAA55


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A lighting circuit that was cut for arrears, and where its relay is."""

    circuit_id: str
    room_id: str
    port: int
    unit: int


@dataclass(slots=True, kw_only=True)
class Group:
    """The targets on one kind of line at one time, and what was measured on them, in milliseconds."""

    line: str
    time: str
    framer: FramerType
    targets: list[Target]
    from_request_ms: list[float] = field(default_factory=list)
    from_answer_ms: list[float] = field(default_factory=list)
    floor_ms: list[float] = field(default_factory=list)
    open_after: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.line}, {self.time}"


def main() -> int:
    arguments = parser("recharge_to_relay", __doc__)
    arguments.add_argument("--recharges", type=int, default=None, help="on each kind of line")
    wanted = arguments.parse_args()
    count = wanted.recharges or (6 if wanted.quick else 224)
    rooms = 320 if wanted.quick else 10_000
    report = Report(
        name="recharge_to_relay",
        assumptions={
            "rooms": rooms,
            "rooms polled a minute": 10_000 if rooms >= 10_000 else rooms * 12,
            "recharges on each kind of line, each time": count,
            "pause between recharges": "20 to 120 ms, drawn",
            "answer time of a 9600-baud module": "20 ms",
        },
    )
    with tempfile.TemporaryDirectory(prefix="dormpower-recharge-") as folder:
        _measure(Path(folder), report, rooms=rooms, count=count)
    report.publish(wanted.results)
    return report.exit_code(quick=wanted.quick)


def _measure(folder: Path, report: Report, *, rooms: int, count: int) -> None:
    lines, slow = campus.lines_needed(rooms), campus.lines_needed(2 * count) + 1  # the last may be a short one
    with ExitStack() as stack:
        fast_ports = stack.enter_context(peers.responder(lines=lines - slow, core=None))
        slow_ports = [peers.free_port() for _ in range(slow)]
        _simulate_slow_lines(stack, folder, slow_ports)
        ports = [*fast_ports, *slow_ports]
        api_port = peers.free_port()
        settings = campus.write_site(
            folder,
            rooms=rooms,
            ports=ports,
            poll_s=60.0 if rooms >= 10_000 else 5.0,
            api_port=api_port,
            framers=dict.fromkeys(range(lines - slow, lines), "rtu"),
        )
        kinds = (("loopback", FramerType.SOCKET, 0), ("9600 baud", FramerType.RTU, lines - slow))
        groups = [
            Group(
                line=kind, time=when, framer=framer, targets=_targets(ports, line, range(start, start + count))
            )
            for when, start in ((FIRST, 0), (STEADY, count))
            for kind, framer, line in kinds
        ]
        cut = [target.circuit_id for group in groups for target in group.targets]
        books = campus.make_books(settings, without=frozenset(cut))
        stack.callback(books.close)
        campus.cut_for_arrears(books, cut)
        token = campus.make_token(books, role=Role.FINANCE)
        for name in ("gateway", "api"):
            command = [sys.executable, "-m", name, "--config", str(settings.path)]
            stack.enter_context(peers.running(command, log=folder / f"{name}.log"))
        _wait_for_api(api_port)
        _wait_until_open(settings, len(cut))
        uvloop.run(_both_times(settings, groups, token, api_port))
        findings = proof.prove(books)
    for group in groups:
        _tell(report, group)
    report.check("every relay recharged is closed on its line", not any(group.open_after for group in groups))
    report.check("the proof of the books finds nothing", not findings)
    report.figures["findings"] = [str(one) for one in findings]


def _simulate_slow_lines(stack: ExitStack, folder: Path, ports: Sequence[int]) -> None:
    """Run the simulators for the lines that have a bus's timing, from a site file of their own."""
    slow_folder = folder / "slow"
    slow_folder.mkdir()
    site = campus.write_site(
        slow_folder,
        rooms=len(ports) * campus.UNITS_PER_LINE,
        ports=ports,
        poll_s=60,
        framers=dict.fromkeys(range(len(ports)), "rtu"),
    )
    command = [sys.executable, "-m", "simulators", "--config", str(site.path), "--wire-baud", str(BAUD)]
    stack.enter_context(peers.running(command, log=folder / "simulators.log"))


def _targets(ports: Sequence[int], first_line: int, numbers: range) -> list[Target]:
    first = first_line * campus.UNITS_PER_LINE
    return [
        Target(
            circuit_id=f"{campus.room_name(index)}-lighting",
            room_id=campus.room_name(index),
            port=ports[index // campus.UNITS_PER_LINE],
            unit=index % campus.UNITS_PER_LINE + 1,
        )
        for index in range(first + numbers.start, first + numbers.stop)
    ]


def _wait_for_api(port: int) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline_s:
            raise peers.PeerError("the API did not answer within 60 s")
        time.sleep(0.1)


def _wait_until_open(settings: Settings, count: int) -> None:
    """Wait until the gateway has opened and read back every relay that is to be closed."""
    connection = _look_into(settings)
    deadline_s = time.monotonic() + 240
    sql = "SELECT count(*) FROM commands WHERE outcome = 'confirmed' AND relay = 'open'"
    while connection.execute(sql).fetchone()[0] < count:
        if time.monotonic() > deadline_s:
            raise peers.PeerError(f"fewer than {count} relays were opened within 240 s")
        time.sleep(0.2)
    connection.close()


class _Belief:
    """How far the gateway has come in believing the registers of a new campus."""

    def __init__(self, settings: Settings) -> None:
        self._books = _look_into(settings)
        self._circuits = self._of("SELECT count(*) FROM meter_points")

    def _of(self, sql: str) -> int:
        return int(self._books.execute(sql).fetchone()[0])

    def has_begun(self) -> bool:
        return self._unbelieved() < self._circuits

    def is_complete(self) -> bool:
        return self._unbelieved() == 0

    def _unbelieved(self) -> int:
        return self._of("SELECT count(*) FROM meter_points WHERE register_at IS NULL")

    async def wait(self, reached: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 360
        while not reached():
            if time.monotonic() > deadline_s:
                raise peers.PeerError("registers that nobody believes after 360 s")
            await asyncio.sleep(0.1)

    def close(self) -> None:
        self._books.close()


def _look_into(settings: Settings) -> sqlite3.Connection:
    path = settings.folder / "books.db"
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=15)


async def _both_times(settings: Settings, groups: Sequence[Group], token: str, api_port: int) -> None:
    api = http.client.HTTPConnection("127.0.0.1", api_port, timeout=DEADLINE_S)
    floor = await _Floor.open(settings.folder / "floor")
    belief = _Belief(settings)

    async def recharge(group: Group, target: Target) -> None:
        await asyncio.to_thread(_recharge, api, settings=settings, group=group, target=target, token=token)
        if not await floor.is_closed(group, target):  # before the floor's own write
            group.open_after.append(target.circuit_id)

    draw = random.Random(1)
    await belief.wait(belief.has_begun)
    for when in (FIRST, STEADY):
        for group, target in _in_turns([group for group in groups if group.time == when]):
            await asyncio.sleep(draw.uniform(0.02, 0.12))
            if when == FIRST and belief.is_complete():
                break
            await recharge(group, target)
            await asyncio.sleep(draw.uniform(0.02, 0.12))
            group.floor_ms.append(await floor.measure(group, target))
        await belief.wait(belief.is_complete)
    belief.close()
    floor.close()
    api.close()


def _in_turns(groups: Sequence[Group]) -> Iterator[tuple[Group, Target]]:
    """Give the first target of each group, then the second of each, and so on."""
    for targets in zip(*(group.targets for group in groups), strict=True):
        yield from zip(groups, targets, strict=True)


def _recharge(
    api: http.client.HTTPConnection, *, settings: Settings, group: Group, target: Target, token: str
) -> None:
    """Recharge, and wait until the books show the relay's closing as confirmed."""
    books = _look_into(settings)
    sql = (
        "SELECT 1 FROM commands WHERE circuit_id = ? AND relay = ? AND outcome = 'confirmed'"
        " AND read_back_relay = ? LIMIT 1"
    )
    wanted = (target.circuit_id, Relay.CLOSED.value, Relay.CLOSED.value)
    if books.execute(sql, wanted).fetchone():
        raise peers.PeerError(f"{target.circuit_id}: closed before its recharge")
    body = json.dumps({"amount_fen": AMOUNT_FEN, "channel": "cash"})
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid.uuid4()),
    }
    sent_s = time.perf_counter()
    api.request("POST", f"/api/v1/circuits/{target.circuit_id}/recharges", body, headers)
    answer = api.getresponse()
    answer.read()
    answered_s = time.perf_counter()
    if answer.status != 201:
        raise peers.PeerError(f"{target.circuit_id}: the recharge got {answer.status}")
    while not books.execute(sql, wanted).fetchone():
        if time.perf_counter() - sent_s > DEADLINE_S:
            raise peers.PeerError(f"{target.circuit_id}: not closed {DEADLINE_S:g} s after its recharge")
        time.sleep(_LOOK_EVERY_S)
    closed_s = time.perf_counter()
    books.close()
    group.from_request_ms.append((closed_s - sent_s) * 1000)
    group.from_answer_ms.append((closed_s - answered_s) * 1000)


class _Floor:
    """The least that any design needs: a datagram that wakes a task, one write and one read of the relay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._woken = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._clients: dict[int, AsyncModbusTcpClient] = {}

    @staticmethod
    async def open(path: Path) -> "_Floor":
        floor = _Floor(path)
        floor._socket.bind(str(path))
        floor._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(floor._socket.fileno(), floor._drain)
        return floor

    def _drain(self) -> None:
        self._socket.recv(64)
        self._woken.set()

    async def measure(self, group: Group, target: Target) -> float:
        client = await self._client(group, target)
        started_s = time.perf_counter()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(self._path))
        await self._woken.wait()
        self._woken.clear()
        written = await client.write_register(_COMMAND, _CLOSE, device_id=target.unit)
        read = await client.read_holding_registers(_STATUS, count=1, device_id=target.unit)
        if written.isError() or read.isError() or not read.registers[0] & 1:
            raise peers.PeerError(f"{target.circuit_id}: the bare write and read failed: {written} {read}")
        return (time.perf_counter() - started_s) * 1000

    async def is_closed(self, group: Group, target: Target) -> bool:
        client = await self._client(group, target)
        read = await client.read_holding_registers(_STATUS, count=1, device_id=target.unit)
        return not read.isError() and bool(read.registers[0] & 1)

    async def _client(self, group: Group, target: Target) -> AsyncModbusTcpClient:
        client = self._clients.get(target.port)
        if client is None:
            client = AsyncModbusTcpClient(
                "127.0.0.1", port=target.port, framer=group.framer, retries=0, timeout=5
            )
            await client.connect()
            self._clients[target.port] = client
        return client

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        for client in self._clients.values():
            client.close()


def _tell(report: Report, group: Group) -> None:
    named = (
        ("from the request", group.from_request_ms),
        ("from the API's answer", group.from_answer_ms),
        ("bare wake-up, write and read", group.floor_ms),
    )
    figures = {}
    for what, values in named:
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        report.row(
            f"{group.name}, {what}",
            f"{p50:.1f} / {p99:.1f} ms",
            f"p50 / p99 of {len(values)}, max {max(values):.1f}",
        )
        figures[what] = {"p50_ms": p50, "p99_ms": p99, "max_ms": max(values), "count": len(values)}
    report.figures[group.name] = figures
    bound_ms = BOUNDS_MS[group.line]
    passed = percentile(group.from_request_ms, 0.99) <= bound_ms
    report.bound(f"{group.name}: p99 from the request at most {bound_ms:g} ms", passed)


if __name__ == "__main__":
    sys.exit(main())
