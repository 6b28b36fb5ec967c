"""Polling a line in virtual time, with modules that take as long as a slow bus does."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from dormpower.clock import ManualClock
from dormpower.domain.samples import ChannelSample, ModuleSample
from gateway.poll import LinePoller
from gateway.ports import ConnectionLostError, LineDownError, NoAnswerError, Rate, RefusedError

ANSWER_S = 0.13
TIMEOUT_S = 0.5
START = datetime(2026, 3, 1, tzinfo=UTC)

pytestmark = pytest.mark.looptime


class Bus:
    """A line whose modules answer after 130 ms, or not at all after the time-out; one request at a time."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.hanging_up: set[str] = set()
        self.hard_to_reopen = False
        self.down = False
        self.lost_once = False
        self.retry_in_s = 0.0
        self.reads: list[tuple[float, str, Rate]] = []

    async def read(self, module_id: str, rate: Rate) -> Sequence[ChannelSample]:
        self.reads.append((asyncio.get_running_loop().time(), module_id, rate))
        if self.down or self.lost_once:
            self.lost_once = False
            raise LineDownError("line l1: refused")
        if module_id in self.hanging_up:
            await asyncio.sleep(ANSWER_S)
            self.down = self.hard_to_reopen
            raise ConnectionLostError(f"line l1: connection lost while {module_id} was asked")
        if module_id in self.dead:
            await asyncio.sleep(TIMEOUT_S)
            raise NoAnswerError(f"{module_id}: no answer")
        await asyncio.sleep(ANSWER_S)
        if module_id in self.refusing:
            raise RefusedError("exception 2", code=2)
        return [ChannelSample(channel=0, register_wh=1 if rate is Rate.FULL else None)]


class BusModule:
    def __init__(self, bus: Bus, module_id: str) -> None:
        self.module_id = module_id
        self.bus = bus

    async def read(self, rate: Rate) -> Sequence[ChannelSample]:
        return await self.bus.read(self.module_id, rate)


class Watched:
    """A poller and everything that it told."""

    def __init__(
        self,
        bus: Bus,
        count: int,
        *,
        poll_s: float,
        fast_poll_s: float,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.bus = bus
        self.samples: list[ModuleSample] = []
        self.modules: list[tuple[str, bool]] = []
        self.lines: list[bool] = []
        self.clock = ManualClock(START)
        self.poller = LinePoller(
            line_id="l1",
            line=bus,
            modules=[BusModule(bus, f"m{number}") for number in range(count)],
            poll_s=poll_s,
            fast_poll_s=fast_poll_s,
            clock=self.clock,
            submit=self.samples.append,
            on_module=lambda module_id, online, detail: self.modules.append((module_id, online)),
            on_line=lambda line_id, online, detail: self.lines.append(online),
            jitter=jitter,
        )

    async def run(self, seconds: float) -> None:
        if self.poller._task is None:
            self.poller.start()
        await asyncio.sleep(seconds)

    def times(self, module_id: str, since_s: float = 0.0) -> list[float]:
        return [at_s for at_s, name, _ in self.bus.reads if name == module_id and at_s >= since_s]


def longest_step(times: list[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(times))


async def test_four_dead_modules_of_32_leave_the_others_their_rhythm_on_a_busy_line() -> None:
    healthy = Watched(Bus(), 32, poll_s=1, fast_poll_s=1)
    await healthy.run(60)
    await healthy.poller.close()
    usual_s = longest_step(healthy.times("m0"))
    assert usual_s == pytest.approx(32 * ANSWER_S, rel=0.05)

    bus = Bus()
    bus.dead = {"m3", "m9", "m20", "m31"}
    watched = Watched(bus, 32, poll_s=1, fast_poll_s=1)
    await watched.run(120)
    await watched.poller.close()
    assert longest_step(watched.times("m0")) <= 1.5 * usual_s
    assert {name for name, online in watched.modules if not online} == bus.dead


async def test_full_and_fast_polls_alternate_at_their_periods() -> None:
    watched = Watched(Bus(), 2, poll_s=30, fast_poll_s=5, jitter=lambda: 0.0)  # a whole period at first
    await watched.run(62)
    await watched.poller.close()
    first = watched.bus.reads[0][0]
    full = [round(at_s - first) for at_s, name, rate in watched.bus.reads if name == "m0" and rate is Rate.FULL]
    fast = [round(at_s - first) for at_s, name, rate in watched.bus.reads if name == "m0" and rate is Rate.FAST]
    assert full[:2] == [0, 30]
    assert fast[:6] == [5, 10, 15, 20, 25, 35]


async def test_lines_spread_their_starts_and_their_full_reads() -> None:
    firsts, seconds = set(), set()
    for share in (0.0, 0.25, 0.5, 0.75):
        watched = Watched(Bus(), 1, poll_s=40, fast_poll_s=4, jitter=lambda share=share: share)
        began_s = asyncio.get_running_loop().time()
        await watched.run(90)
        await watched.poller.close()
        full = [round(at_s - began_s) for at_s, _, rate in watched.bus.reads if rate is Rate.FULL]
        firsts.add(full[0])
        seconds.add(full[1])
        assert full[2] - full[1] == 40
    assert firsts == {0, 1, 2, 3}  # soon everywhere, but not all at once
    assert seconds == {40, 33, 22, 15}  # and the long reads lie all over the long period


async def test_a_sample_carries_the_campus_time_of_its_answer() -> None:
    watched = Watched(Bus(), 1, poll_s=5, fast_poll_s=5)
    await watched.run(2.55)  # asked at 2.5 s
    watched.clock.advance(60)
    await watched.run(0.2)
    await watched.poller.close()
    assert [(sample.module_id, (sample.at - START).total_seconds()) for sample in watched.samples] == [
        ("m0", 60)
    ]


async def test_a_module_goes_offline_after_two_misses_and_online_again_each_told_once() -> None:
    bus = Bus()
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    bus.dead.add("m1")
    await watched.run(60)
    assert watched.modules == [("m0", True), ("m1", True), ("m1", False)]
    bus.dead.clear()
    await watched.run(320)
    await watched.poller.close()
    assert watched.modules[3:] == [("m1", True)]
    assert watched.lines == [True]


async def test_one_lost_answer_is_no_transition() -> None:
    bus = Bus()
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(5)
    bus.dead.add("m1")
    await watched.run(3)
    bus.dead.clear()
    await watched.run(20)
    await watched.poller.close()
    assert watched.poller.counters.timeouts == 1
    assert watched.modules == [("m0", True), ("m1", True)]


async def test_probes_of_a_dead_module_grow_rarer_within_a_bound() -> None:
    bus = Bus()
    bus.dead.add("m1")
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(3000)
    await watched.poller.close()
    steps = [b - a for a, b in zip(watched.times("m1"), watched.times("m1")[1:], strict=False)]
    assert steps[-1] > steps[2]
    assert max(steps) <= 300 * 1.25 + 10


async def test_a_refusing_module_is_offline_too_and_counted_as_refused() -> None:
    bus = Bus()
    bus.refusing.add("m1")
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(20)
    await watched.poller.close()
    assert ("m1", False) in watched.modules
    assert watched.poller.counters.refused >= 2


async def test_a_line_that_is_down_says_nothing_of_its_modules() -> None:
    bus = Bus()
    watched = Watched(bus, 3, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    bus.down, bus.retry_in_s = True, 4.0
    await watched.run(60)
    assert watched.lines == [True, False]
    assert watched.modules == [("m0", True), ("m1", True), ("m2", True)]
    asked = len(bus.reads)
    await watched.run(40)
    assert len(bus.reads) - asked <= 11  # tried no faster than the line allows
    bus.down, bus.retry_in_s = False, 0.0
    await watched.run(20)
    await watched.poller.close()
    assert watched.lines == [True, False, True]
    assert len(watched.modules) == 3


async def test_one_lost_connection_that_opens_again_is_no_line_down() -> None:
    bus = Bus()
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    bus.lost_once = True
    await watched.run(20)
    await watched.poller.close()
    assert watched.poller.counters.line_downs == 1
    assert watched.lines == [True]


async def test_lost_connections_that_open_again_are_no_line_down_however_many_hours_apart() -> None:
    bus = Bus()
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    for _ in range(3):
        bus.lost_once = True
        await watched.run(3600)
    await watched.poller.close()
    assert watched.poller.counters.line_downs == 3
    assert watched.lines == [True]


@pytest.mark.parametrize("hanging_up", [{"m4"}, {"m0"}, {"m7"}, {"m2", "m3", "m4", "m5"}])
async def test_modules_that_cost_the_connection_are_backed_off_and_leave_the_others_their_rhythm(
    hanging_up: set[str],
) -> None:
    bus = Bus()
    bus.hanging_up, bus.retry_in_s = hanging_up, 0.5
    watched = Watched(bus, 8, poll_s=5, fast_poll_s=5)
    await watched.run(1200)
    await watched.poller.close()
    for name in {f"m{number}" for number in range(8)} - hanging_up:
        assert longest_step(watched.times(name)) <= 1.5 * 5
    for name in hanging_up:
        assert len(watched.times(name)) <= 12
    assert {name for name, online in watched.modules if not online} == hanging_up
    assert watched.lines == [True]


async def test_of_two_modules_the_one_that_costs_the_connection_is_blamed_not_the_line() -> None:
    bus = Bus()
    bus.hanging_up, bus.retry_in_s = {"m1"}, 0.5
    watched = Watched(bus, 2, poll_s=5, fast_poll_s=5)
    await watched.run(600)
    await watched.poller.close()
    assert watched.modules == [("m0", True), ("m1", False)]
    assert watched.lines == [True]


async def test_a_line_that_each_time_is_hard_to_reopen_still_serves_the_modules_behind() -> None:
    bus = Bus()
    bus.hanging_up, bus.hard_to_reopen, bus.retry_in_s = {"m1"}, True, 2.0
    watched = Watched(bus, 4, poll_s=5, fast_poll_s=5)
    began_s = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < began_s + 600:
        await watched.run(7)
        bus.down = False  # a converter that takes its time before it listens again
    await watched.poller.close()
    assert len(watched.times("m3")) >= 90
    assert len(watched.times("m1")) <= 30  # asked again by probes alone, though the line went down and up
    assert ("m1", False) in watched.modules


async def test_a_converter_that_takes_every_connection_and_drops_it_is_a_line_that_is_down() -> None:
    bus = Bus()
    watched = Watched(bus, 32, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    bus.hanging_up, bus.retry_in_s = {f"m{number}" for number in range(32)}, 0.5
    await watched.run(300)
    assert watched.lines == [True, False]
    assert all(online for _, online in watched.modules)
    bus.hanging_up, bus.retry_in_s = set(), 0.0
    since_s = asyncio.get_running_loop().time()
    await watched.run(30)
    await watched.poller.close()
    assert watched.lines == [True, False, True]
    assert all(len(watched.times(f"m{number}", since_s)) >= 3 for number in range(32))


async def test_after_a_silent_bus_the_first_answer_brings_everybody_back_at_once() -> None:
    bus = Bus()
    watched = Watched(bus, 10, poll_s=5, fast_poll_s=5)
    await watched.run(10)
    bus.dead = {f"m{number}" for number in range(10)}
    await watched.run(2000)
    assert sum(not online for _, online in watched.modules) == 10
    bus.dead = set()
    watched.modules.clear()
    reads = len(bus.reads)
    await watched.run(390)
    await watched.poller.close()
    first_at_s = bus.reads[reads][0]
    assert {name for name, online in watched.modules if online} == {f"m{number}" for number in range(10)}
    back = next(at_s for at_s, name, _ in bus.reads[reads:] if name == "m9")
    assert back - first_at_s <= 10


async def test_closing_stops_polling_in_the_middle_of_a_request() -> None:
    watched = Watched(Bus(), 2, poll_s=5, fast_poll_s=5)
    await watched.run(2.55)
    await watched.poller.close()
    asked = len(watched.bus.reads)
    await asyncio.sleep(60)
    assert len(watched.bus.reads) == asked == 1
