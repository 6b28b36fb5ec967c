"""Polling one line: every module in turn, silent ones backed off so that their neighbours keep their rhythm.

Theory of operation
-------------------
A line has one task. Each *cycle* reads every module once: all quantities each `poll_s`, power, relay and flags
each `fast_poll_s` between. A cycle that takes longer than its period is followed by the next at once; nothing
piles up.

A module that failed to answer is *suspect*, after `MISSES_BEFORE_OFFLINE` failures in a row *offline*. Suspect
and offline modules leave the cycle and are *probed*: at most one a cycle while the line is busy, more in the
time that a cycle leaves over, each module with a delay that doubles up to a bound. So a dead module costs the
others at most one time-out a cycle, however many are dead. When the line itself comes back, or the first module
answers after all were silent, every module is tried again in the next cycle.

A line that is down says nothing of its modules: they keep what was last known of them. The cycle waits for it
and goes on where it stopped, so that nobody behind is passed over for ever.

A connection that is lost while a module is asked is that module's failure first: many converters hang up when
their slave is silent or talks nonsense. Such a module is backed off like a silent one, and stays so when the
line comes back. Connections lost one after the other without an answer between are the line's own failure.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dormpower.clock import Clock
from dormpower.domain.samples import ChannelSample, ModuleSample
from gateway.ports import (
    ConnectionLostError,
    FieldError,
    FieldModule,
    LineDownError,
    NoAnswerError,
    Rate,
    ReadInTurn,
    RefusedError,
    UnusableReplyError,
)

MISSES_BEFORE_OFFLINE = 2
LONGEST_BACK_OFF_S = 300.0
SHORTEST_WAIT_S = 0.1
_FAILURES_BEFORE_LINE_DOWN = 2
_LOSSES_BEFORE_LINE_DOWN = 5  # so many modules side by side that hang up are still the modules' own trouble

_log = structlog.get_logger()


class PolledLine(Protocol):
    """What polling needs to know of a line."""

    @property
    def retry_in_s(self) -> float:
        """Seconds until a connection may be tried again."""


@dataclass(slots=True)
class PollCounters:
    """What happened since the poller was made."""

    polls: int = 0
    probes: int = 0
    timeouts: int = 0
    unusable: int = 0
    refused: int = 0
    line_downs: int = 0
    cycles: int = 0
    cycle_s: float = 0.0
    """How long the last cycle took."""


@dataclass(slots=True, eq=False)
class _Polled:
    module: FieldModule
    online: bool | None = None
    misses: int = 0
    costs_line: bool = False
    """Whether its last failure cost the connection."""
    probe_at_s: float = 0.0


async def _read_first(
    modules: Sequence[FieldModule], rate: Rate, take: Callable[[Sequence[ChannelSample]], None]
) -> None:
    take(await modules[0].read(rate))


class LinePoller:
    """Polls the modules of one line and hands their samples on."""

    def __init__(
        self,
        *,
        line_id: str,
        line: PolledLine,
        modules: Sequence[FieldModule],
        poll_s: float,
        fast_poll_s: float,
        clock: Clock,
        submit: Callable[[ModuleSample], None],
        on_module: Callable[[str, bool, str], None],
        on_line: Callable[[str, bool, str], None],
        read_in_turn: ReadInTurn | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.line_id = line_id
        self.counters = PollCounters()
        self._line = line
        self._polled = [_Polled(module) for module in modules]
        self._poll_s = poll_s
        self._fast_poll_s = min(fast_poll_s, poll_s)
        self._clock = clock
        self._submit = submit
        self._on_module = on_module
        self._on_line = on_line
        self._read_in_turn = read_in_turn or _read_first
        self._jitter = jitter
        self._line_online: bool | None = None
        self._line_failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Start polling in the running loop; the task ends only by `close` or by a fault of ours."""
        self._task = asyncio.get_running_loop().create_task(self.run(), name=f"poll-{self.line_id}")
        return self._task

    async def close(self) -> None:
        """Stop polling; a request in flight is given up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Poll until cancelled.

        Lines spread over both periods: each starts at a random instant of the short one, with all quantities,
        and reads them again after a random number of short ones.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._fast_poll_s * self._jitter())
        tick_at_s = loop.time()
        full_at_s = tick_at_s - self._fast_poll_s * int(self._poll_s / self._fast_poll_s * self._jitter())
        while True:
            rate = Rate.FULL if loop.time() >= full_at_s else Rate.FAST
            started_s = loop.time()
            await self._cycle(rate)
            self.counters.cycles += 1
            self.counters.cycle_s = loop.time() - started_s
            if rate is Rate.FULL:
                full_at_s = max(full_at_s + self._poll_s, loop.time())
            tick_at_s = min(max(tick_at_s + self._fast_poll_s, loop.time()), max(full_at_s, loop.time()))
            await self._use_idle_time(tick_at_s)

    # --- one cycle -----------------------------------------------------------------------------------------

    async def _cycle(self, rate: Rate) -> None:
        if not self._polled:
            await asyncio.sleep(self._fast_poll_s)
            return
        await self._poll_all([polled for polled in self._polled if polled.misses == 0], rate)
        await self._probe_one()

    async def _probe_one(self) -> bool:
        if self._line_failures and any(polled.misses == 0 for polled in self._polled):
            return (
                False  # the connection was lost just now: those in contact show first whether the line is well
            )
        now_s = asyncio.get_running_loop().time()
        due = [polled for polled in self._polled if polled.misses and polled.probe_at_s <= now_s]
        if not due:
            return False
        self.counters.probes += 1
        await self._poll_all([min(due, key=lambda polled: polled.probe_at_s)], Rate.FULL)
        return True

    async def _use_idle_time(self, until_s: float) -> None:
        """Probe in the time that is left before the next cycle, then wait for it."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            began_s = loop.time()
            if not await self._probe_one() or loop.time() + (loop.time() - began_s) >= until_s:
                break
        await asyncio.sleep(max(0.0, until_s - loop.time()))  # 0 still lets others run

    async def _poll_all(self, waiting: Sequence[_Polled], rate: Rate) -> None:
        """Ask modules in order, each once the line is there to ask on."""
        position = 0

        def take(channels: Sequence[ChannelSample]) -> None:
            nonlocal position
            polled = waiting[position]
            position += 1
            self.counters.polls += 1
            sample = ModuleSample(polled.module.module_id, self._clock.now(), channels)
            self._answered(polled)
            self._submit(sample)

        while position < len(waiting):
            try:
                await self._read_in_turn([one.module for one in waiting[position:]], rate, take)
            except FieldError as fault:
                self.counters.polls += 1
                if not await self._is_asked_again(waiting[position], fault):
                    position += 1

    async def _is_asked_again(self, polled: _Polled, fault: FieldError) -> bool:
        """Judge a failed attempt; return whether it was the line's, so that the module has yet to be asked."""
        if isinstance(fault, ConnectionLostError):
            await self._lost_with(polled, fault)
            return False
        if isinstance(fault, LineDownError):
            await self._wait_for_line(fault, tolerated=_FAILURES_BEFORE_LINE_DOWN)
            return True
        self._count(fault)
        self._line_is(online=True, detail="")
        self._missed(polled, fault)
        return False

    async def _lost_with(self, polled: _Polled, fault: ConnectionLostError) -> None:
        """Blame the module that was asked, unless the line is at fault; then let the line recover."""
        tolerated = max(_FAILURES_BEFORE_LINE_DOWN, min(len(self._polled), _LOSSES_BEFORE_LINE_DOWN))
        if self._line_online is not False and self._line_failures + 1 < tolerated:
            self._missed(polled, fault)
        await self._wait_for_line(fault, tolerated=tolerated)

    # --- transitions ---------------------------------------------------------------------------------------

    def _answered(self, polled: _Polled) -> None:
        if polled.online and polled.misses == 0 and self._line_online:
            self._line_failures = 0
            return  # as in nearly every poll: nothing became different
        nobody_was = not any(other.online for other in self._polled)
        polled.misses, polled.costs_line = 0, False
        self._line_is(online=True, detail="")
        if polled.online is not True:
            polled.online = True
            self._tell_module(polled, "")
        if nobody_was:
            self._try_all_again()

    def _count(self, fault: FieldError) -> None:
        if isinstance(fault, NoAnswerError):
            self.counters.timeouts += 1
        elif isinstance(fault, UnusableReplyError):
            self.counters.unusable += 1
        elif isinstance(fault, RefusedError):
            self.counters.refused += 1

    def _missed(self, polled: _Polled, fault: FieldError) -> None:
        polled.misses += 1
        polled.costs_line = isinstance(fault, ConnectionLostError)
        doubled = min(polled.misses - 1, 16)
        delay_s = 0.0 if polled.misses < MISSES_BEFORE_OFFLINE else self._fast_poll_s * 2**doubled
        delay_s = min(LONGEST_BACK_OFF_S, delay_s) * (0.75 + 0.5 * self._jitter())
        polled.probe_at_s = asyncio.get_running_loop().time() + delay_s
        if polled.misses >= MISSES_BEFORE_OFFLINE and polled.online is not False:
            polled.online = False
            self._tell_module(polled, str(fault))

    def _tell_module(self, polled: _Polled, detail: str) -> None:
        event = "module.online" if polled.online else "module.offline"
        _log.info(event, line=self.line_id, module=polled.module.module_id, detail=detail)
        self._on_module(polled.module.module_id, bool(polled.online), detail)

    def _line_is(self, *, online: bool, detail: str) -> None:
        if online:
            self._line_failures = 0
        if self._line_online is online:
            return
        came_back = online and self._line_online is False
        self._line_online = online
        _log.info("line.up" if online else "line.down", line=self.line_id, detail=detail)
        self._on_line(self.line_id, online, detail)
        if came_back:
            self._try_all_again()

    def _try_all_again(self) -> None:
        """Make every silent module due now, and part of the next cycle; one that costs the line stays out."""
        for polled in self._polled:
            if polled.misses and not polled.costs_line:
                polled.misses, polled.probe_at_s = 0, 0.0

    async def _wait_for_line(self, fault: LineDownError, *, tolerated: int) -> None:
        """Wait until the line may be tried again; it is down after so many failures without an answer."""
        self.counters.line_downs += 1
        self._line_failures += 1
        if self._line_failures >= tolerated:
            self._line_is(online=False, detail=str(fault))
        await asyncio.sleep(max(SHORTEST_WAIT_S, self._line.retry_in_s))
