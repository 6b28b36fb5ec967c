"""Timers survive a restart at any step: with restarts and without, the same events bring about the same.

Two sites of one room live through the same random events at the same instants. The gateway of one of them is
started again at random steps. Debounces, persistence, delays, the day's closings, minimum off times, warnings
and schedules: nothing of it may be shorter, longer or forgotten. A gateway that has just started reads first
(invariant 25), so the events that come between two samples follow a sample here.
"""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dormpower.books import alarms, holds, outages
from dormpower.books.database import open_books
from dormpower.books.tables import holds as holds_table
from dormpower.domain.calendars import Hours
from dormpower.domain.curfew import CurfewPolicy, CurfewRule
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.samples import Flag, Relay
from dormpower.domain.scopes import Scope, Where
from gateway.schedule_rule import ScheduleRule
from tests.gateway.control_world import ZONE, World

CIRCUIT = "r-0-ac"
WHERE = Where(campus="south", building="01", floor="1", room_id="r-0", kind="ac")
CURFEW = CurfewRule(
    name="curfew[0]", hours=Hours(from_minute=14 * 60, to_minute=15 * 60), mode=Enforcement.ENFORCE
)


def build(template: Path, folder: Path) -> World:
    path = folder / f"{uuid4().hex}.db"
    shutil.copyfile(template, path)
    world = World(open_books(f"sqlite:///{path}"))
    world.overload = OverloadPolicy(
        zone=ZONE, limit_w=2000, debounce_samples=4, debounce_s=15, restores_a_day=2, mode=Enforcement.ENFORCE
    )
    world.prohibited = ProhibitedPolicy(
        zone=ZONE, min_samples=3, persist_s=12, restores_a_day=2, mode=Enforcement.ENFORCE
    )
    start(world)
    world.sample()
    return world


def start(world: World) -> None:
    world.schedule = ScheduleRule(CurfewPolicy(zone=ZONE, curfews=(CURFEW,)), {CIRCUIT: WHERE})
    world.control = world.start(min_off_s=300.0, self_restore_s=400.0)


def trip(world: World) -> None:
    world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))


def lock(world: World) -> None:
    world.lock_out()


def lift(world: World) -> None:
    with world.books.write() as connection:
        for hold in holds.standing(connection).get(CIRCUIT, ()):
            if hold.reason is Reason.LOCKOUT:
                holds.lift_lockout(
                    connection, lockout_id=hold.hold_id, actor=hold.holder, now=world.clock.now()
                )


def reset(world: World) -> None:
    with world.books.write() as connection:
        holds.reset(connection, CIRCUIT, "maintenance", world.clock.now())


def announce(world: World) -> None:
    now = world.clock.now()
    with world.books.write() as connection:
        outages.announce(
            connection,
            scope=Scope(room_id="r-0"),
            from_at=now + timedelta(seconds=40),
            to_at=now + timedelta(seconds=400),
            note="riser",
            actor="li",
            now=now,
        )


def nothing(world: World) -> None:
    del world


EVENTS: dict[str, Callable[[World], None]] = {
    "nothing": nothing,
    "trip": trip,
    "opened by hand": lambda world: world.sample(relay=Relay.OPEN),
    "closed by itself or by hand": lambda world: world.sample(relay=Relay.CLOSED),
    "lock": lock,
    "lift": lift,
    "reset": reset,
    "announce": announce,
    "pay": lambda world: world.post(CIRCUIT, 60_000),
}
Sample = tuple[float, float, int]  # after so many seconds, so many W where the relay is closed, so many Wh
CALM: Sample = (5.0, 60.0, 0)
DRAWS: dict[str, list[Sample]] = {
    "calm": [CALM],
    "overload": [(5.0, 2500.0, 0)] * 5,
    "half an overload": [(5.0, 2500.0, 0)] * 3,
    "kettle": [CALM, CALM, *[(5.0, 1600.0, 0)] * 4],
    "half a kettle": [CALM, CALM, *[(5.0, 1600.0, 0)] * 2],
    "overloads and their ends": [(5.0, 2500.0, 0)] * 4
    + [(310.0, 60.0, 0), *[(5.0, 2500.0, 0)] * 4, (310.0, 60.0, 0)],
    "use": [(5.0, 60.0, 50_000)],
    "later": [(140.0, 60.0, 0)],
    "after a delay": [(310.0, 60.0, 0)],
    "after the module's delay": [(410.0, 60.0, 0)],
    "an hour later": [(3600.0, 60.0, 0)],
    "half a day later": [(40_000.0, 60.0, 0)],
}
LONGEST = max(len(samples) for samples in DRAWS.values())
step = st.tuples(
    st.sampled_from(sorted(DRAWS)),
    st.sampled_from(sorted(EVENTS)),
    st.sets(st.integers(0, LONGEST - 1)),  # before these samples the one gateway is started again
)


def draw(world: World, sample: Sample) -> None:
    after_s, power_w, energy_wh = sample
    closed = world.switch.relays["m-0", 0] is Relay.CLOSED
    world.sample(
        after_s=after_s,
        power_w=power_w if closed else 0.0,
        power_factor=0.99 if power_w < 2000 else 0.7,
        wh=energy_wh if closed else 0,
    )
    world.run(world.control.look_due())
    world.run(world.control.sweep())
    world.tick()


def what_has_become(world: World) -> dict[str, Any]:
    with world.books.read() as connection:
        found = connection.execute(
            sa.select(
                holds_table.c.reason,
                holds_table.c.shadow,
                holds_table.c.placed_at,
                holds_table.c.expected_release_at,
                holds_table.c.released_at,
                holds_table.c.released_by,
            ).order_by(holds_table.c.placed_at, holds_table.c.reason)
        ).all()
        told = sorted((alarm.kind, alarm.raised_at) for alarm in alarms.active(connection))
    return {
        "holds": [tuple(row) for row in found],
        "alarms": told,
        "waiting": world.control.memory(CIRCUIT).control,
        "relay": world.switch.relays["m-0", 0],
        "sent": world.switch.sent,
        "warnings": world.control.memory(CIRCUIT).warnings,
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, max_size=10))
@example(steps=[("overload", "nothing", {2})])
@example(steps=[("kettle", "nothing", {4})])
@example(steps=[("overloads and their ends", "nothing", {6}), ("overload", "nothing", {0})])
def test_with_restarts_at_any_step_the_same_events_bring_about_the_same(
    _sqlite_template: Path,  # noqa: PT019 - its value is copied for each example
    tmp_path: Path,
    steps: list[tuple[str, str, set[int]]],
) -> None:
    steady, restarted = build(_sqlite_template, tmp_path), build(_sqlite_template, tmp_path)
    try:
        for drawn, event, restarts in steps:
            for number, sample in enumerate(DRAWS[drawn]):
                if number in restarts:
                    start(restarted)
                for world in (steady, restarted):
                    draw(world, sample)
                assert what_has_become(restarted) == what_has_become(steady)
            for world in (steady, restarted):
                EVENTS[event](world)
                world.settle()
            assert what_has_become(restarted) == what_has_become(steady)
    finally:
        for world in (steady, restarted):
            world.close()
            world.books.close()
