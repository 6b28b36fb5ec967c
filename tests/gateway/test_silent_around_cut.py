"""A module that falls silent just before or after its circuit is cut: worth somebody's look."""

from datetime import timedelta

import pytest

from dormpower.books import alarms
from dormpower.books.alarms import Alarm
from dormpower.books.database import Books
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.samples import Flag, Relay
from tests.gateway.control_world import NOON, STALE_S, World

TOLD = ["module_offline", "silent_around_cut"]


def silent(world: World, *, online: bool = False) -> None:
    async def go() -> None:
        world.control.note_module("m-0", online=online, detail="no answer")
        await world.control.settle()

    world.run(go())


def sweep(world: World, *, after_s: float = 0.0) -> None:
    world.clock.advance(after_s)
    world.run(world.control.sweep())
    world.settle()


def told(world: World) -> Alarm:
    with world.books.read() as connection:
        (alarm,) = [one for one in alarms.active(connection) if one.kind == "silent_around_cut"]
    return alarm


def test_a_module_that_falls_silent_around_its_cut_is_an_alarm_of_its_own(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    world.clock.advance(120)

    async def go() -> None:
        world.control.note_module("m-0", online=False, detail="no answer")
        await world.control.settle()
        assert world.active_alarms() == ["module_offline", "silent_around_cut"]
        world.control.note_module("m-0", online=True)
        await world.control.settle()
        assert world.active_alarms() == []
        world.clock.advance(3600)
        world.control.note_module("m-0", online=False, detail="no answer")
        await world.control.settle()
        assert world.active_alarms() == ["module_offline"]

    world.run(go())


@pytest.mark.parametrize(("waited_s", "around"), [(60, True), (299, True), (301, False)])
def test_a_module_that_falls_silent_before_a_hold_is_placed_is_told_of_by_the_next_sweep(
    quick_world: World, waited_s: float, around: bool
) -> None:
    world = quick_world
    world.sample()
    silent(world)
    silent_from_at = world.clock.now()
    world.clock.advance(waited_s)
    world.lock_out()
    assert world.switch.sent == []  # nobody is there to be told
    sweep(world, after_s=60)
    assert world.active_alarms() == (TOLD if around else TOLD[:1])
    if around:
        alarm = told(world)
        assert (alarm.circuit_id, alarm.module_id, alarm.building) == ("r-0-ac", "m-0", "01")
        assert alarm.detail["silent_from_at"] == silent_from_at.isoformat()
        assert alarm.detail["cut_at"] == (silent_from_at + timedelta(seconds=waited_s)).isoformat()
    silent(world, online=True)
    assert world.active_alarms() == []


def due_in(world: World, seconds: float) -> None:
    """Be out of energy and warned, so that the lead of the warning is over in so many seconds."""
    world.sample()
    world.sample(wh=97_000)
    world.sample(wh=4_000)
    second_at = world.control.memory("r-0-ac").warnings.second_at
    assert second_at is not None
    due_at = max(second_at + timedelta(hours=12), NOON + timedelta(hours=19))  # 07:00: courtesy is over
    world.sample(after_s=(due_at - world.clock.now()).total_seconds() - seconds)
    assert world.standing() == []


def test_a_cut_for_arrears_that_is_due_while_the_module_is_silent_is_told_of(quick_world: World) -> None:
    world = quick_world
    due_in(world, 180)
    silent(world)
    sweep(world, after_s=STALE_S + 20)
    assert world.active_alarms() == TOLD[:1]
    sweep(world, after_s=60)
    assert world.standing() == []  # a stale reading cuts nobody off
    assert world.active_alarms() == TOLD
    assert told(world).circuit_id == "r-0-ac"


def test_a_rule_in_shadow_takes_nobody_off_and_tells_of_nothing(sqlite_books: Books) -> None:
    world = World(sqlite_books, mode=Enforcement.SHADOW)
    due_in(world, 180)
    silent(world)
    sweep(world, after_s=STALE_S + 80)
    assert world.active_alarms() == TOLD[:1]
    world.close()


def test_what_the_module_did_itself_is_no_cut(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
    assert world.standing() == [Reason.MODULE_TRIP]
    silent(world)
    sweep(world)
    assert "silent_around_cut" not in world.active_alarms()


def test_behind_a_line_that_is_down_nobody_is_suspected(quick_world: World) -> None:
    world = quick_world
    world.sample()

    async def go() -> None:
        world.control.note_line("line-a", online=False, detail="refused")
        world.control.note_module("m-0", online=False, detail="line")
        await world.control.settle()

    world.run(go())
    world.lock_out()
    sweep(world, after_s=60)
    assert world.active_alarms() == ["line_offline"]
