"""A full RTU line at 9600 baud in virtual time: our line and poller on the simulated bus with its timing."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest

from config.profiles import ModbusProfile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import ModuleSample
from dormpower.domain.site import Framer, Line, Transport
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.poll import LinePoller
from simulators.campus import single_module_line
from simulators.faults import FaultKind
from simulators.frames import RtuFraming
from simulators.lines import SimulatedLine, Wire
from simulators.modules.base import SimulatedModule

UNITS = range(1, 33)
BROKEN = (4, 5, 17, 32)
PERIOD_S = 3.0  # shorter than a cycle: the line is never idle
NOW_MS = 1_800_000_000_000

pytestmark = pytest.mark.looptime


class Connection:
    """A connection to the simulated line without sockets; what is said after its end is lost."""

    def __init__(
        self, bus: SimulatedLine, receive: Callable[[bytes], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self._bus = bus
        self._framing = RtuFraming()
        self._receive = receive
        self._lost = lost
        self._open = True

    def write(self, data: bytes) -> None:
        if self._open:
            asyncio.get_running_loop().call_soon(self._ask, data)

    def _ask(self, data: bytes) -> None:
        for request in self._framing.feed(data):
            self._bus.accept(request, Answers(self))

    def answer(self, data: bytes) -> None:
        if self._open:
            self._receive(data)

    def hang_up(self) -> None:
        if self._open:
            self._open = False
            self._lost(None)

    def close(self) -> None:
        self._open = False


class Answers:
    """The bus's side of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.answer(data)

    def abort(self) -> None:
        self._connection.hang_up()


class FullLine:
    """32 modules on one converter, polled; and everything that was told."""

    def __init__(self) -> None:
        self.modules: dict[int, SimulatedModule] = {}
        self.bus, _ = single_module_line(
            "dormpower-dual", rtu=True, wire=Wire(baud=9600), now_ms=lambda: NOW_MS
        )
        for unit in UNITS:
            _, self.modules[unit] = single_module_line("dormpower-dual", rtu=True, now_ms=lambda: NOW_MS)
        self.bus.units = dict(self.modules)
        described = Line(
            line_id="l", transport=Transport.TCP, host="127.0.0.1", port=1, framer=Framer.RTU, timeout_ms=500
        )
        profile = load_profiles()["dormpower-dual"]
        assert isinstance(profile, ModbusProfile)
        plans, clock = PreparedPlans(profile), real_clock()
        self.line = ModbusLine(described, connector=self._connect, jitter=lambda: 0.5)
        self.seen: dict[int, list[float]] = defaultdict(list)
        self.offline: set[int] = set()
        self.line_told: list[bool] = []
        self.poller = LinePoller(
            line_id="l",
            line=self.line,
            modules=[
                ModbusModule(module_id=str(unit), unit=unit, plans=plans, line=self.line, clock=clock)
                for unit in UNITS
            ],
            poll_s=PERIOD_S,
            fast_poll_s=PERIOD_S,
            clock=clock,
            submit=self._submit,
            on_module=self._on_module,
            on_line=lambda _line, online, _detail: self.line_told.append(online),
            jitter=lambda: 0.5,
        )

    async def _connect(
        self,
        _line: Line,
        *,
        receive: Callable[[bytes], None],
        lost: Callable[[Exception | None], None],
        timeout_s: float,
    ) -> Connection:
        return Connection(self.bus, receive, lost)

    def _submit(self, sample: ModuleSample) -> None:
        self.seen[int(sample.module_id)].append(asyncio.get_running_loop().time())

    def _on_module(self, module_id: str, online: bool, _detail: str) -> None:
        (self.offline.discard if online else self.offline.add)(int(module_id))

    def longest_steps_s(self, since_s: float) -> dict[int, float]:
        """Return each answering unit's longest time from one sample to the next."""
        late = {unit: [at_s for at_s in seen if at_s >= since_s] for unit, seen in self.seen.items()}
        return {
            unit: max(later - earlier for earlier, later in itertools.pairwise(seen))
            for unit, seen in late.items()
            if len(seen) > 1
        }


@pytest.fixture
async def full() -> AsyncIterator[FullLine]:
    made = FullLine()
    yield made
    await made.poller.close()
    made.line.close()
    await made.bus.stop()


@pytest.mark.parametrize("kind", [FaultKind.DEAD, FaultKind.HANG_UP, FaultKind.CRC_ERROR])
async def test_four_broken_modules_of_32_leave_the_others_their_rhythm(full: FullLine, kind: FaultKind) -> None:
    loop = asyncio.get_running_loop()
    full.poller.start()
    await asyncio.sleep(60)
    usual_s = full.longest_steps_s(since_s=0)
    assert set(usual_s) == set(UNITS)
    assert max(usual_s.values()) == pytest.approx(32 * 0.126, rel=0.05)

    for unit in BROKEN:
        full.modules[unit].fault(kind, {}, now_ms=NOW_MS)
    await asyncio.sleep(30)
    assert full.offline == set(BROKEN)
    since_s = loop.time()
    await asyncio.sleep(200)
    with_broken_s = full.longest_steps_s(since_s)
    assert set(with_broken_s) == set(UNITS) - set(BROKEN)
    assert all(with_broken_s[unit] <= 1.5 * usual_s[unit] for unit in with_broken_s)
    assert full.line_told == [True]

    for unit in BROKEN:
        full.modules[unit].clear(None, now_ms=NOW_MS)
    await asyncio.sleep(300)
    assert full.offline == set()
