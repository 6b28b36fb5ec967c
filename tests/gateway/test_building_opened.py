"""A building whose relays are found open together is one alarm; a single opening stays the circuit's own."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, load_off, openings, scoped_resets, shelving
from dormpower.books.alarms import Alarm
from dormpower.books.tables import holds, rooms
from dormpower.domain.holds import Reason
from dormpower.domain.openings import LATE_S
from dormpower.domain.samples import Flag, Relay
from dormpower.domain.scopes import Scope
from tests.gateway.control_world import World, plug_in_a_kettle

ROOMS = 14
BUILDING = Scope(campus="south", building="01")


@pytest.fixture
def building(books) -> Iterator[World]:
    """Fourteen rooms of building 01, each with a module of its own, all closed and read a few times."""
    world = World(books, rooms_count=ROOMS)
    for _ in range(3):
        world.sample()
    yield world
    world.close()


def circuits(numbers: Iterable[int]) -> list[str]:
    return [f"r-{number}-ac" for number in numbers]


def opened(world: World, numbers: Iterable[int], *, after_s: float = 30.0) -> None:
    """The relays of these modules are found open, in one batch with all others."""
    for number in numbers:
        world.switch.relays[f"m-{number}", 0] = Relay.OPEN
    world.sample(after_s=after_s)


def found(world: World, kind: str, **which: object) -> list[Alarm]:
    with world.books.read() as connection:
        return sorted(
            alarms.listing(connection, kinds=(kind,), limit=200, **which)[0], key=lambda one: one.raised_at
        )


def told_of(world: World) -> dict[str, str]:
    """Return which kind of active alarm tells of each circuit's standing hold; none is left without one."""
    with world.books.read() as connection:
        active = {alarm.alarm_id: alarm for alarm in alarms.active(connection)}
        rows = connection.execute(sa.select(holds).where(holds.c.released_at.is_(None))).all()
    own = {alarm.circuit_id for alarm in active.values() if alarm.kind == "load_off"}
    told = {}
    for row in rows:
        assert row.alarm_id in active if row.alarm_id else row.circuit_id in own, row.circuit_id
        told[row.circuit_id] = active[row.alarm_id].kind if row.alarm_id else "load_off"
    return told


def test_all_relays_of_a_building_found_open_are_one_alarm(building):
    opened(building, range(ROOMS))
    assert building.active_alarms() == ["building_opened"]
    assert found(building, "load_off") == []
    assert all(building.standing(one) == [Reason.OPENED_LOCALLY] for one in circuits(range(ROOMS)))
    assert {building.control.memory(one).state for one in circuits(range(ROOMS))} == {"load_off"}
    (alarm,) = found(building, "building_opened")
    assert (alarm.subject_kind, alarm.subject_id, alarm.building, alarm.priority) == (
        "building",
        "south/01",
        "01",
        "high",
    )
    expected = {
        "circuits": ROOMS,
        "standing": ROOMS,
        "remaining": sorted(circuits(range(ROOMS))),
        "closed": 0,
        "came_back": 0,
        "cause": "while_read",
        "first": sorted(circuits(range(ROOMS)))[:5],
        "since_at": building.clock.now().isoformat(),
        "sampling_period_s": 30.0,
        "window_s": 60.0,
        "reset": {"scope": {"campus": "south", "building": "01"}},
    }
    assert expected.items() <= alarm.detail.items()
    assert set(told_of(building).values()) == {"building_opened"}


def test_modules_that_had_been_silent_look_like_a_return_of_supply(building):
    opened(building, range(ROOMS), after_s=1800)
    (alarm,) = found(building, "building_opened")
    assert (alarm.detail["came_back"], alarm.detail["cause"]) == (ROOMS, "after_silence")


def test_one_relay_found_open_is_the_circuit_s_own_alarm(building):
    opened(building, [3])
    (alarm,) = found(building, "load_off")
    assert (alarm.subject_kind, alarm.subject_id, alarm.circuit_id) == ("circuit", "r-3-ac", "r-3-ac")
    assert alarm.detail["reason"] == "opened_locally"
    assert (alarm.detail["relay"], alarm.detail["sampling_period_s"]) == ("open", 30.0)
    assert building.active_alarms() == ["load_off"]


@pytest.mark.parametrize(
    ("first", "second", "after_s", "alarms_left"),
    [
        (range(9), (), 30, ["load_off"] * 9),  # too few
        (range(4), range(4, 10), 30, ["building_opened"]),
        (range(4), range(4, 10), 61, ["load_off"] * 10),  # too far apart
    ],
)
def test_openings_are_gathered_over_a_window(building, first, second, after_s, alarms_left):
    opened(building, first)
    opened(building, second, after_s=after_s)
    assert building.active_alarms() == alarms_left
    told_of(building)


def test_circuits_that_stay_closed_speak_against_it(books):
    world = World(books, rooms_count=22)
    for _ in range(3):
        world.sample()
    opened(world, range(10))
    assert world.active_alarms() == ["load_off"] * 10
    opened(world, [10])
    assert world.active_alarms() == ["building_opened"]  # eleven of twenty-two
    world.close()


def test_what_was_told_singly_is_folded_in_and_keeps_its_record(building):
    opened(building, range(4))
    noted, other = found(building, "load_off")[:2]
    with building.books.write() as connection:
        alarms.acknowledge(connection, alarm_id=noted.alarm_id, actor="wang", now=building.clock.now())
    opened(building, range(4, ROOMS))
    (whole,) = found(building, "building_opened")
    singles = {one.alarm_id: one for one in found(building, "load_off")}
    assert len(singles) == 4
    assert {(one.folded_into, one.cleared_at) for one in singles.values()} == {
        (whole.alarm_id, building.clock.now())
    }
    assert singles[noted.alarm_id].acknowledged_by == "wang"
    assert singles[other.alarm_id].acknowledged_by is None
    with building.books.read() as connection:
        waiting, count = alarms.worst_first(connection, acknowledged=False, now=building.clock.now())
        figures = shelving.figures(connection, now=building.clock.now())
    assert ([one.alarm_id for one in waiting], count) == ([whole.alarm_id], 1)
    assert (figures.active, figures.raised_lately) == (1, 1)


def test_a_module_that_comes_back_late_joins_and_another_opening_does_not(building):
    late, quiet = "r-0-ac", range(1, ROOMS - 1)
    for number in quiet:
        building.switch.relays[f"m-{number}", 0] = Relay.OPEN
    building.clock.advance(300)
    for one in circuits(quiet):
        building.sample(only=one, after_s=0.1)
    building.switch.relays["m-0", 0] = Relay.OPEN
    building.sample(only=late, after_s=900)
    assert building.active_alarms() == ["building_opened"]
    assert found(building, "building_opened")[0].detail["circuits"] == ROOMS - 1
    building.sample(only=f"r-{ROOMS - 1}-ac", after_s=30)  # heard since, closed
    building.switch.relays[f"m-{ROOMS - 1}", 0] = Relay.OPEN
    building.sample(only=f"r-{ROOMS - 1}-ac", after_s=90)
    assert building.active_alarms() == ["building_opened", "load_off"]
    assert told_of(building)[f"r-{ROOMS - 1}-ac"] == "load_off"


def test_after_long_enough_an_opening_is_nobody_s_return(building):
    opened(building, range(1, ROOMS))  # the first is read too, and closed
    building.switch.relays["m-0", 0] = Relay.OPEN
    building.sample(only="r-0-ac", after_s=LATE_S + 1)
    assert building.active_alarms() == ["building_opened", "load_off"]


def test_a_module_s_own_trip_keeps_its_own_alarm(building):
    building.switch.relays["m-0", 0] = Relay.OPEN
    building.sample(only="r-0-ac", after_s=1, flags=frozenset({Flag.OVERLOAD_TRIP}))
    opened(building, range(1, ROOMS))
    assert building.active_alarms() == ["building_opened", "load_off"]
    (own,) = found(building, "load_off", state="active")
    assert (own.circuit_id, own.detail["reason"]) == ("r-0-ac", "module_trip")


def test_a_trip_on_top_of_it_is_told_and_its_end_leaves_the_building_s(building):
    opened(building, range(ROOMS))
    building.sample(only="r-0-ac", after_s=1, flags=frozenset({Flag.OVERLOAD_TRIP}))
    assert building.standing("r-0-ac") == [Reason.OPENED_LOCALLY, Reason.MODULE_TRIP]
    assert building.active_alarms() == ["building_opened", "load_off"]
    with building.books.write() as connection:
        load_off.clear_if_over(connection, ["r-0-ac"], now=building.clock.now())
    assert building.active_alarms() == ["building_opened", "load_off"]  # the trip still stands
    scoped_resets.reset(
        books=building.books, scope=Scope(room_id="r-0"), actor="wang", now=building.clock.now()
    )
    assert building.active_alarms() == ["building_opened"]


def test_a_reset_of_the_building_clears_it_and_a_part_of_one_names_what_is_left(building):
    opened(building, range(ROOMS))
    for number in range(ROOMS - 2):
        scoped_resets.reset(
            books=building.books, scope=Scope(room_id=f"r-{number}"), actor="wang", now=building.clock.now()
        )
    building.settle()
    (alarm,) = found(building, "building_opened")
    assert alarm.cleared_at is None
    assert (alarm.detail["circuits"], alarm.detail["standing"]) == (ROOMS, 2)
    assert alarm.detail["remaining"] == circuits([ROOMS - 2, ROOMS - 1])
    scoped_resets.reset(books=building.books, scope=BUILDING, actor="wang", now=building.clock.now())
    assert building.active_alarms() == []
    building.settle()
    building.sample()
    assert {building.control.memory(one).state for one in circuits(range(ROOMS))} == {"normal"}
    assert building.switch.relays == {(f"m-{number}", 0): Relay.CLOSED for number in range(ROOMS)}


def test_a_circuit_reset_and_opened_again_is_its_own_alarm(building):
    opened(building, range(ROOMS))
    scoped_resets.reset(
        books=building.books, scope=Scope(room_id="r-5"), actor="wang", now=building.clock.now()
    )
    building.settle()
    building.sample()
    building.sample()
    building.switch.relays["m-5", 0] = Relay.OPEN
    building.sample(after_s=61)
    assert building.active_alarms() == ["building_opened", "load_off"]
    assert told_of(building)["r-5-ac"] == "load_off"


def test_a_second_wave_is_an_alarm_of_its_own_which_tells_of_what_is_left_too(building):
    opened(building, range(ROOMS))
    (first,) = found(building, "building_opened")
    with building.books.write() as connection:
        alarms.acknowledge(connection, alarm_id=first.alarm_id, actor="wang", now=building.clock.now())
    for number in range(1, ROOMS):
        scoped_resets.reset(
            books=building.books, scope=Scope(room_id=f"r-{number}"), actor="wang", now=building.clock.now()
        )
    building.settle()
    building.sample()
    building.clock.advance(timedelta(hours=1).total_seconds())
    building.sample()
    opened(building, range(1, ROOMS))
    before, second = found(building, "building_opened")
    assert before.alarm_id == first.alarm_id
    assert before.cleared_at == second.raised_at
    assert second.acknowledged_at is None
    assert (second.detail["circuits"], second.detail["standing"]) == (ROOMS, ROOMS)
    assert set(told_of(building).values()) == {"building_opened"}


def test_restarts_change_nothing(building):
    opened(building, range(4))
    building.control = building.start()
    opened(building, range(4, 8))
    building.control = building.start()
    opened(building, range(8, ROOMS))
    building.control = building.start()
    building.sample()
    assert building.active_alarms() == ["building_opened"]
    assert found(building, "building_opened")[0].detail["circuits"] == ROOMS
    scoped_resets.reset(books=building.books, scope=BUILDING, actor="wang", now=building.clock.now())
    building.control = building.start()
    assert building.active_alarms() == []


def test_the_last_two_released_at_once_leave_it_to_the_gateway(building):
    opened(building, range(ROOMS))
    (alarm,) = found(building, "building_opened")
    with building.books.write() as connection:  # as if each had seen the other's still standing
        connection.exec_driver_sql("UPDATE holds SET released_at = placed_at")
        openings.keep_up(connection, now=building.clock.now())
    assert [one.alarm_id for one in found(building, "building_opened", state="cleared")] == [alarm.alarm_id]


def test_a_room_that_is_closed_meanwhile_does_not_keep_the_building_s_alarm(building):
    opened(building, range(ROOMS))
    with building.books.write() as connection:
        connection.execute(
            sa.update(rooms).where(rooms.c.room_id == "r-0").values(closed_at=building.clock.now())
        )
    scoped_resets.reset(
        books=building.books, scope=Scope(room_id="r-1"), actor="wang", now=building.clock.now()
    )
    building.settle()
    (alarm,) = found(building, "building_opened")
    assert alarm.detail["remaining"] == sorted(circuits(range(2, ROOMS)))
    scoped_resets.reset(books=building.books, scope=BUILDING, actor="wang", now=building.clock.now())
    assert building.active_alarms() == []
    assert building.standing("r-0-ac") == [Reason.OPENED_LOCALLY]


def test_a_load_that_trips_is_no_opening(quick_world):
    quick_world.sample()
    plug_in_a_kettle(quick_world)
    assert quick_world.active_alarms() == ["load_off"]
