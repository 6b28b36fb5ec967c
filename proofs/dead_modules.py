"""A full line with dead modules on real sockets: what they cost the others.

One RTU-over-TCP converter with 32 modules and the timing of a 9600 baud bus, polled without a pause by the real
gateway. First all modules answer, then four are dead: the other 28 are to be read at least every one and a half
times their usual cycle, and the line is never called offline. `python -m proofs.dead_modules` measures both in
the same run.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proofs.running_site import RunningSite, eventually
from proofs.site_folder import Plan, SiteFolder
from simulators.faults import FaultKind

MODULES = 32
DEAD = (4, 5, 17, 32)
BOUND = 1.5
# Shorter than a cycle takes, so that the line is never idle; campus time is real time.
PLAN = Plan(tcp_rooms=0, rtu_rooms=MODULES, mqtt_rooms=0, poll_s=3.0, timeout_ms=500, speed=1.0, wire_baud=9600)


@dataclass(slots=True)
class Cycles:
    """The seconds from one reading to the next, by circuit."""

    steps_s: dict[str, list[float]] = field(default_factory=dict)

    @property
    def usual_s(self) -> float:
        """What a cycle usually takes."""
        return statistics.median(step_s for steps_s in self.steps_s.values() for step_s in steps_s)

    @property
    def longest_s(self) -> float:
        """The longest that anybody waited."""
        return max(step_s for steps_s in self.steps_s.values() for step_s in steps_s)


@dataclass(slots=True)
class Outcome:
    """Both measurements, and what does not hold whatever the machine's speed."""

    healthy: Cycles
    with_dead: Cycles
    broken: list[str]

    @property
    def usual_ratio(self) -> float:
        """How many times its usual length the usual cycle has."""
        return self.with_dead.usual_s / self.healthy.usual_s

    @property
    def longest_ratio(self) -> float:
        """How many times the longest healthy one the longest has."""
        return self.with_dead.longest_s / self.healthy.longest_s


def prove(*, cycles: int = 10) -> Outcome:
    """Run the site and measure so many cycles of each."""
    with ExitStack() as stack:
        files = SiteFolder(PLAN)
        stack.callback(files.remove)
        files.restart_clock()
        site = stack.enter_context(RunningSite(files))
        site.start_gateway()
        rooms = {unit: f"rtu-01-{100 + unit}" for unit in range(1, MODULES + 1)}
        healthy = _measure(site, list(rooms.values()), cycles)
        for unit in DEAD:
            site.fault(f"m-{rooms[unit]}", FaultKind.DEAD)
        told = {f"m-{rooms[unit]}" for unit in DEAD}
        eventually(
            lambda: {alarm["subject_id"] for alarm in site.alarms("module_offline")} == told,
            what="the dead modules are told",
            within_s=120,
        )
        with_dead = _measure(site, [room for unit, room in rooms.items() if unit not in DEAD], cycles)
        broken = _never_offline(site, told)
        return Outcome(healthy, with_dead, broken)


def _measure(site: RunningSite, rooms: Sequence[str], cycles: int) -> Cycles:
    """Wait for so many cycles of all rooms from now on and return how long each took."""
    began_at = site.files.clock.now()
    found: dict[str, list[float]] = {}

    def complete() -> bool:
        for room in rooms:
            if len(found.get(room, ())) < cycles:
                found[room] = _steps_s(_readings(site, room, began_at))
                if len(found[room]) < cycles:
                    return False
        return True

    eventually(complete, what=f"{cycles} cycles of all rooms", within_s=60.0 * cycles, every_s=1.0)
    return Cycles(found)


def _readings(site: RunningSite, room: str, began_at: datetime) -> list[Any]:
    start, end = began_at.isoformat(), site.files.clock.now().isoformat()
    return list(site.get(f"/circuits/{room}-lighting/readings", params={"start": start, "end": end})["items"])


def _steps_s(readings: Sequence[Any]) -> list[float]:
    times = [datetime.fromisoformat(reading["at"]) for reading in readings]
    return [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]


def _never_offline(site: RunningSite, dead: set[str]) -> list[str]:
    rows = site.rows("SELECT kind, subject_id FROM alarms WHERE kind IN ('line_offline', 'module_offline')")
    return [f"{row.subject_id}: {row.kind}" for row in rows if row.subject_id not in dead]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove it and tell; exit code 1 where it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m proofs.dead_modules", description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10, help="cycles to measure of each kind (default 10)")
    outcome = prove(cycles=parser.parse_args(arguments).cycles)
    for name, cycles in (
        ("all answer", outcome.healthy),
        (f"{len(DEAD)} of {MODULES} dead", outcome.with_dead),
    ):
        sys.stdout.write(f"{name}: a cycle usually {cycles.usual_s:.2f} s, at most {cycles.longest_s:.2f} s\n")
    sys.stdout.write(
        f"usually {outcome.usual_ratio:.2f} times, at most {outcome.longest_ratio:.2f} times (bound {BOUND})\n"
    )
    for sentence in outcome.broken:
        sys.stdout.write(f"{sentence}\n")
    return 1 if outcome.broken or outcome.longest_ratio > BOUND else 0


if __name__ == "__main__":
    sys.exit(main())
