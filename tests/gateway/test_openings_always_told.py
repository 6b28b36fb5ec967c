"""No relay found open is without an alarm, and no alarm outlives what it tells of, whatever happens in between.

Relays open and close, alone and together, by hand, by their own trips, by timers. People reset and take note.
The gateway starts anew at any step.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dormpower.books import alarms, scoped_resets
from dormpower.books.database import open_books
from dormpower.books.tables import holds
from dormpower.domain.holds import Reason
from dormpower.domain.openings import LATE_S, OpeningsPolicy
from dormpower.domain.samples import Flag, Relay
from dormpower.domain.scopes import Scope
from tests.gateway.control_world import World

ROOMS = 5
TRIPPED = frozenset({Flag.OVERLOAD_TRIP})
Step = Callable[[World], None]


def switch(relay: Relay, *numbers: int, after_s: float = 30.0) -> Step:
    """Somebody switches these modules' relays; all modules are read."""

    def step(world: World) -> None:
        for number in numbers:
            world.switch.relays[f"m-{number}", 0] = relay
        world.sample(after_s=after_s)

    return step


def come_up_open(*numbers: int, after_s: float) -> Step:
    """These modules alone are heard, one batch each, their relays open."""

    def step(world: World) -> None:
        world.clock.advance(after_s)
        for number in numbers:
            world.switch.relays[f"m-{number}", 0] = Relay.OPEN
            world.sample(only=f"r-{number}-ac", after_s=0.5)

    return step


def trip(number: int) -> Step:
    def step(world: World) -> None:
        world.sample(only=f"r-{number}-ac", relay=Relay.OPEN, flags=TRIPPED)

    return step


def reset(scope: Scope) -> Step:
    def step(world: World) -> None:
        scoped_resets.reset(books=world.books, scope=scope, actor="wang", now=world.clock.now())

    return step


def take_note(world: World) -> None:
    with world.books.write() as connection:
        for alarm in alarms.active(connection):
            alarms.acknowledge(connection, alarm_id=alarm.alarm_id, actor="wang", now=world.clock.now())


def start(world: World) -> None:
    world.control = world.start(self_restore_s=7200.0)


STEPS: dict[str, Step] = {
    "read": lambda world: world.sample(),
    "read after a while": lambda world: world.sample(after_s=300),
    "an hour": lambda world: world.sample(after_s=LATE_S + 1),
    "timers run out": lambda world: world.sample(after_s=7300),
    "open one": switch(Relay.OPEN, 0),
    "open another": switch(Relay.OPEN, 1, after_s=5),
    "open three": switch(Relay.OPEN, 2, 3, 4),
    "open all": switch(Relay.OPEN, *range(ROOMS)),
    "two come up": come_up_open(1, 2, after_s=20),
    "three come up late": come_up_open(0, 3, 4, after_s=900),
    "all come up": come_up_open(*range(ROOMS), after_s=600),
    "close one": switch(Relay.CLOSED, 0),
    "close all": switch(Relay.CLOSED, *range(ROOMS)),
    "trip one": trip(0),
    "trip another": trip(3),
    "reset one": reset(Scope(room_id="r-0")),
    "reset another": reset(Scope(room_id="r-3")),
    "reset all": reset(Scope(campus="south", building="01")),
    "take note": take_note,
    "hint": lambda world: world.settle(),
    "sweep": lambda world: world.run(world.control.sweep()),
    "start anew": start,
}


def assert_told(world: World) -> None:
    """Each hold has its alarm, each alarm its hold, and none tells of what another tells of."""
    with world.books.read() as connection:
        active = {alarm.alarm_id: alarm for alarm in alarms.active(connection)}
        standing = connection.execute(sa.select(holds).where(holds.c.released_at.is_(None))).all()
    told_singly, by_building = set(), set()
    for row in standing:
        if row.alarm_id is None:
            told_singly.add(row.circuit_id)
        else:
            assert row.reason == Reason.OPENED_LOCALLY
            assert active[row.alarm_id].kind == "building_opened"
            by_building.add(row.alarm_id)
    of_kind = {
        kind: {
            one.subject_id if kind == "load_off" else one.alarm_id
            for one in active.values()
            if one.kind == kind
        }
        for kind in ("load_off", "building_opened")
    }
    assert of_kind == {"load_off": told_singly, "building_opened": by_building}


def assert_counted(world: World) -> None:
    """Once the gateway has seen to everything, the building's alarm says what is left."""
    world.settle()
    with world.books.read() as connection:
        for alarm in alarms.active(connection, kind="building_opened"):
            left = connection.scalars(
                sa.select(holds.c.circuit_id)
                .where(holds.c.alarm_id == alarm.alarm_id, holds.c.released_at.is_(None))
                .order_by(holds.c.circuit_id)
            ).all()
            assert (alarm.detail["standing"], alarm.detail["remaining"]) == (len(left), left)
            assert alarm.detail["circuits"] >= len(left)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=20))
@example(steps=["open one", "open three", "start anew", "reset one", "open all", "reset all"])
@example(steps=["all come up", "reset one", "hint", "read", "an hour", "open all", "start anew"])
@example(steps=["all come up", "trip one", "reset one", "trip another", "timers run out"])
def test_every_relay_found_open_has_an_alarm_at_any_step(
    _sqlite_template: Path,  # noqa: PT019 - its value is copied for each example
    tmp_path: Path,
    steps: list[str],
) -> None:
    path = tmp_path / f"{uuid4().hex}.db"
    shutil.copyfile(_sqlite_template, path)
    world = World(open_books(f"sqlite:///{path}"), rooms_count=ROOMS)
    world.openings = OpeningsPolicy(circuits=3)
    start(world)
    try:
        world.sample()
        world.sample()
        for step in steps:
            STEPS[step](world)
            assert_told(world)
        assert_counted(world)
    finally:
        world.close()
        world.books.close()
