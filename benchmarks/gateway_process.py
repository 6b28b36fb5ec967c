"""One real gateway process under measurement: `gateway.service.Gateway` as in production, and a stopwatch.

Prints one line of JSON. Rates are taken from the first commit after the warm-up to the last one before the end,
so that only what was durable in both stores counts.
"""

import argparse
import asyncio
import json
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import uvloop

from config.settings import Settings, load
from dormpower.books.database import Books, open_books
from dormpower.clock import load_clock
from dormpower.domain.samples import ChannelSample
from gateway.collection import collect_seldom, collecting_by_the_clock, leave_what_is_loaded
from gateway.composition import FieldLine, open_readings
from gateway.exclusive import give_lease_back, take_lease
from gateway.poll import LinePoller
from gateway.ports import FieldModule, Rate
from gateway.service import Gateway

_LOOK_EVERY_S = 0.01
# Flat out, polling waits for intake while this many samples are queued, a batch and a little more: a rate at
# which samples are dropped, or at which the queue grows, is not one that can be kept up.
QUEUE_FOR_POLLING = 5_500
# Shorter than any cycle, so that each is a full one and the next follows at once; stale as after 100 s.
FLAT_OUT_POLL_S = 0.0005
FLAT_OUT_MISSED_POLLS = 200_000
MIN_COMMITS = 3


class _Brake:
    """Holds all lines up while intake is behind. One task looks for them all: hundreds that each woke up every
    few milliseconds would be measured as the gateway's work."""

    def __init__(self, behind: Callable[[], bool]) -> None:
        self._behind = behind
        self._looking: asyncio.Task[None] | None = None

    async def released(self) -> None:
        if self._looking is None and self._behind():
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.shield(self._looking)

    async def _look(self) -> None:
        while self._behind():  # noqa: ASYNC110 - an event would have to be set by intake, which is measured
            await asyncio.sleep(0.005)
        self._looking = None


class _Gate:
    """A line's first module, which waits for the brake: so the line goes as fast as all of it can."""

    def __init__(self, module: FieldModule, brake: _Brake) -> None:
        self.module_id = module.module_id
        self._module = module
        self._brake = brake

    async def read(self, rate: Rate) -> Sequence[ChannelSample]:
        await self._brake.released()
        return await self._module.read(rate)


class _FlatOutGateway(Gateway):
    def __init__(self, **parts: Any) -> None:
        self._brake = _Brake(lambda: self.intake.counters.queue_depth > QUEUE_FOR_POLLING)
        super().__init__(**parts)

    def _poller(self, field_line: FieldLine) -> LinePoller:
        first, *others = field_line.modules
        return super()._poller(replace(field_line, modules=[_Gate(first, self._brake), *others]))


def _cpu_s() -> float:
    """Return the processor time of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _watch(gateway: Gateway, wanted: argparse.Namespace, stopped: asyncio.Event) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    counters = gateway.intake.counters
    channels = 2 * wanted.rooms
    limit_s = loop.time() + wanted.start_timeout_s
    while counters.accepted < wanted.warm_up_cycles * channels:
        if loop.time() > limit_s:
            raise SystemExit(f"not warm after {wanted.start_timeout_s} s: {gateway.figures()}")
        await asyncio.sleep(_LOOK_EVERY_S)
    await asyncio.sleep(wanted.settle_s)
    commits: list[tuple[float, float, int]] = []
    started_s, cpu_s, before = loop.time(), _cpu_s(), gateway.figures()
    batches, deepest = counters.batches, 0
    while loop.time() - started_s < wanted.measure_s:
        await asyncio.sleep(wanted.look_every_s)
        deepest = max(deepest, counters.queue_depth)
        if counters.batches != batches:
            batches = counters.batches
            commits.append((loop.time(), _cpu_s(), counters.accepted))
    elapsed_s, used_s, after = loop.time() - started_s, _cpu_s() - cpu_s, gateway.figures()
    stopped.set()
    if len(commits) < MIN_COMMITS and wanted.flat_out:
        raise SystemExit(f"only {len(commits)} commits in {elapsed_s:.1f} s: measure longer")
    (first_s, first_cpu_s, first), (last_s, last_cpu_s, last) = commits[0], commits[-1]
    return {
        "elapsed_s": elapsed_s,
        "cpu_s": used_s,
        "commits": len(commits),
        "accepted": last - first,
        "between_commits_s": last_s - first_s,
        "between_commits_cpu_s": last_cpu_s - first_cpu_s,
        "deepest_queue": deepest,
        "measured": {name: after[name] - before[name] for name in after},
    }


async def _run(settings: Settings, books: Books, wanted: argparse.Namespace) -> dict[str, Any]:
    clock = load_clock(settings.folder)
    readings = open_readings(settings)
    stopped = asyncio.Event()
    try:
        kind = _FlatOutGateway if wanted.flat_out else Gateway
        gateway = kind(settings=settings, books=books, readings=readings, clock=clock)
        take_lease(gateway_id=gateway.gateway_id, books=books, clock=clock)
        async with collecting_by_the_clock():
            running = asyncio.create_task(gateway.run(stopped, loaded=leave_what_is_loaded))
            watching = asyncio.create_task(_watch(gateway, wanted, stopped))
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                watching.cancel()
            await running
            found = await watching
        return {**found, "whole_run": gateway.figures()}
    finally:
        await asyncio.to_thread(readings.close)
        give_lease_back(gateway_id=settings.gateway.gateway_id, books=books)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway_process", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rooms", type=int, required=True)
    parser.add_argument("--warm-up-cycles", type=int, default=3)
    parser.add_argument("--settle-s", type=float, default=0.0)
    parser.add_argument("--measure-s", type=float, default=10.0)
    parser.add_argument("--look-every-s", type=float, default=_LOOK_EVERY_S)
    parser.add_argument("--start-timeout-s", type=float, default=300.0)
    parser.add_argument("--flat-out", action="store_true", help="polling waits where intake is behind")
    wanted = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    settings = load(wanted.config)
    if wanted.flat_out:
        pace = {
            "poll_s": FLAT_OUT_POLL_S,
            "fast_poll_s": FLAT_OUT_POLL_S,
            "missed_polls": FLAT_OUT_MISSED_POLLS,
        }
        settings = replace(settings, gateway=replace(settings.gateway, **pace))
    books = open_books(settings.database, base=settings.folder)
    collect_seldom()
    try:
        found = uvloop.run(_run(settings, books, wanted))
    finally:
        books.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
