"""Closings that come together: as many at once as a building bears, and as its feeder has room for."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.spread import SpreadPolicy
from tests.gateway.feeder_floor import EVENING, Floor

EVERYBODY = 60
LIMIT_W = 80_000


@pytest.fixture
def floor(sqlite_books: Books) -> Iterator[Floor]:
    """Sixty air conditioners: three quarters of their feeder's limit, for a minute more than twice that."""
    floor = Floor(sqlite_books, limit_w=80_000, count=EVERYBODY, spread=SpreadPolicy(circuits=20, every_s=10))
    floor.pickup, floor.starts_s = 2.4, 15.0
    floor.cycle(2)
    yield floor
    floor.close()


def everybody(floor: Floor) -> list[str]:
    return sorted(circuit.circuit_id for circuit in floor.site.circuits())


def after_an_outage(floor: Floor, *, minutes: int = 10) -> None:
    floor.hold(everybody(floor), Reason.CURFEW)
    floor.clock.advance(60 * minutes)
    floor.cycle(1)
    assert floor.on() == set()


def control_of(floor: Floor, circuit_id: str) -> str:
    with floor.books.read() as connection:
        return books_control.points(connection, [circuit_id])[circuit_id].control.value


def test_without_a_feeder_s_limit_in_force_a_building_comes_back_by_count(sqlite_books: Books) -> None:
    batches = SpreadPolicy(circuits=20, every_s=10)
    floor = Floor(sqlite_books, limit_w=8_000, count=EVERYBODY, mode=Enforcement.SHADOW, spread=batches)
    floor.cycle(1)
    after_an_outage(floor)
    floor.let_go(everybody(floor), Reason.CURFEW)
    assert len(floor.on()) == 20
    floor.cycle(1)
    assert len(floor.on()) == 40
    floor.cycle(1)
    assert len(floor.on()) == EVERYBODY
    floor.close()


def test_a_payment_does_not_stand_in_line_behind_a_building(sqlite_books: Books) -> None:
    batches = SpreadPolicy(circuits=5, every_s=10)
    floor = Floor(sqlite_books, limit_w=8_000, count=EVERYBODY, mode=Enforcement.SHADOW, spread=batches)
    floor.cycle(1)
    after_an_outage(floor)
    payer, both = everybody(floor)[-2:]
    floor.hold([payer, both], Reason.ARREARS)
    floor.let_go(everybody(floor), Reason.CURFEW)
    floor.let_go([payer], Reason.ARREARS)
    assert len(floor.on()) == 6
    assert floor.is_on(payer)
    floor.close()


def test_sixty_circuits_come_back_from_an_outage_without_ever_filling_their_feeder(floor: Floor) -> None:
    after_an_outage(floor)
    floor.let_go(everybody(floor), Reason.CURFEW)
    assert 0 < len(floor.on()) < EVERYBODY
    assert control_of(floor, everybody(floor)[-1]) == "waiting"
    began_at = floor.clock.now()
    while floor.on() != set(everybody(floor)):
        assert floor.clock.now() - began_at <= timedelta(minutes=10)
        floor.cycle(1)
        assert floor.demand_w() <= LIMIT_W
    assert floor.shed() == set()  # what comes back is not taken for a trend, and nobody pays for it


def test_a_payment_goes_ahead_of_those_who_wait_for_room(floor: Floor) -> None:
    after_an_outage(floor)
    payer = everybody(floor)[-1]
    floor.hold([payer], Reason.ARREARS)
    floor.let_go(everybody(floor), Reason.CURFEW)
    floor.cycle(3)  # the feeder's room is taken
    waiting = {one for one in everybody(floor) if control_of(floor, one) == "waiting"}
    assert waiting
    floor.let_go([payer], Reason.ARREARS)
    while not floor.is_on(payer):
        assert floor.on().isdisjoint(waiting)
        floor.cycle(1)
    assert waiting - floor.on()


def test_where_the_feeder_is_full_a_payment_takes_its_turn_among_the_shed(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    floor.cycle(2)
    payer = min(floor.on())
    floor.hold([payer], Reason.ARREARS)
    floor.clock.advance(300)
    floor.cycle(1)
    floor.let_go([payer], Reason.ARREARS)
    assert not floor.is_on(payer)
    assert control_of(floor, payer) == "waiting"
    began_at = floor.clock.now()
    while not floor.is_on(payer):
        floor.cycle(1)
        assert floor.clock.now() - began_at <= timedelta(seconds=floor.policy.max_off_s)
        assert floor.demand_w() <= 8_000
    assert floor.shed()  # another is off for it
    floor.close()


def test_with_a_silent_meter_a_payment_goes_by_the_sum_and_a_trip_waits(floor: Floor) -> None:
    payer, tripped = everybody(floor)[:2]
    floor.hold([payer], Reason.ARREARS)
    floor.hold([tripped], Reason.OVERLOAD)
    floor.clock.advance(300)
    floor.meter_heard = False
    floor.cycle(8)
    floor.let_go([payer], Reason.ARREARS)
    floor.let_go([tripped], Reason.OVERLOAD)
    assert floor.is_on(payer)
    floor.cycle(20)
    assert not floor.is_on(tripped)
    assert control_of(floor, tripped) == "waiting"
    floor.meter_heard = True
    floor.cycle(2)
    assert floor.is_on(tripped)


def test_by_the_sum_too_a_building_comes_back_within_the_limit(floor: Floor) -> None:
    after_an_outage(floor)
    floor.meter_heard = False
    floor.cycle(8)
    floor.let_go(everybody(floor), Reason.CURFEW)
    for _ in range(60):
        floor.cycle(1)
        assert floor.demand_w() <= LIMIT_W
    assert floor.on() == set(everybody(floor))


def test_while_nothing_is_known_a_payment_goes_by_count_and_others_once_that_lasts(floor: Floor) -> None:
    payer, *others = everybody(floor)[:30]
    floor.hold([payer], Reason.ARREARS)
    floor.hold(others, Reason.CURFEW)
    floor.clock.advance(300)
    floor.start()
    floor.powers_heard = floor.meter_heard = False
    floor.cycle(1)
    floor.let_go([payer], Reason.ARREARS)
    floor.let_go(others, Reason.CURFEW)
    assert floor.is_on(payer)
    assert floor.on().isdisjoint(others)
    floor.cycle(6)
    assert len(floor.on() & set(others)) == 20
    floor.cycle(2)
    assert floor.on() >= set(others)


def test_what_was_let_close_just_before_a_restart_keeps_its_room(floor: Floor) -> None:
    floor.starts_s = 25.0
    after_an_outage(floor)
    floor.let_go(everybody(floor), Reason.CURFEW)
    first = floor.on()
    floor.start()
    while floor.on() != set(everybody(floor)):
        floor.cycle(1)
        assert floor.demand_w() <= LIMIT_W
        assert floor.clock.now() - EVENING <= timedelta(minutes=25)
    assert first


def test_what_closed_while_nothing_was_known_keeps_its_room_once_something_is(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=5_600, count=8)
    floor.pickup, floor.starts_s = 2.5, 25.0
    first, then, *others = everybody(floor)
    floor.draw_of = {f"m-{one[2]}": 300 for one in others}
    floor.cycle(2)
    floor.hold([first, then], Reason.ARREARS)
    floor.clock.advance(300)
    floor.powers_heard = floor.meter_heard = False
    floor.cycle(1)
    floor.clock.advance(300)
    floor.cycle(1)
    floor.let_go([first], Reason.ARREARS)
    assert floor.is_on(first)
    floor.powers_heard = floor.meter_heard = True
    floor.cycle(1)
    floor.let_go([then], Reason.ARREARS)
    for _ in range(20):
        floor.cycle(1)
        assert floor.demand_w() <= 5_600
        assert floor.shed() == set()
    assert floor.is_on(then)
    floor.close()


def test_a_multiple_that_no_feeder_has_room_for_keeps_nobody_off(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=6_000, count=3)
    floor.carries_w, floor.draw_of = 4_000, {"m-0": 2_500, "m-1": 200, "m-2": 200}
    floor.start()
    floor.cycle(2)
    payer = everybody(floor)[0]
    floor.hold([payer], Reason.ARREARS)
    floor.clock.advance(300)
    floor.cycle(1)
    floor.let_go([payer], Reason.ARREARS)
    assert floor.is_on(payer)
    floor.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_after_a_night_off_circuits_without_read_back_keep_their_room_too(
    sqlite_books: Books, restarted: bool
) -> None:
    floor = Floor(sqlite_books, limit_w=9_000)
    floor.switch.reads_back = False
    floor.pickup, floor.starts_s, floor.draw_w = 2.5, 15.0, 700
    floor.start()
    floor.cycle(2)
    floor.hold(everybody(floor), Reason.CURFEW)
    for _ in range(90):
        floor.clock.advance(50)
        floor.cycle(1)
    if restarted:
        floor.start()
        floor.cycle(2)
    floor.let_go(everybody(floor), Reason.CURFEW)
    for _ in range(60):
        floor.cycle(1)
        assert floor.demand_w() <= 9_000
    assert floor.on() == set(everybody(floor))
    floor.close()


def test_circuits_that_are_held_again_give_their_room_back(floor: Floor) -> None:
    after_an_outage(floor)
    first, then = everybody(floor)[:20], everybody(floor)[20:50]
    floor.let_go(first, Reason.CURFEW)
    assert floor.on() == set(first)
    floor.hold(first, Reason.LOCKOUT)
    floor.let_go(then, Reason.CURFEW)
    floor.cycle(3)
    assert floor.on() == set(then)


def test_who_waits_and_is_held_again_does_not_close(floor: Floor) -> None:
    after_an_outage(floor)
    floor.let_go(everybody(floor), Reason.CURFEW)
    floor.cycle(1)
    *held, last = sorted(set(everybody(floor)) - floor.on())
    floor.hold(held, Reason.LOCKOUT)
    floor.cycle(8)
    assert floor.on().isdisjoint(held)
    assert floor.is_on(last)


def test_where_circuits_are_shed_others_wait_as_long_as_they_and_a_payment_does_not(
    sqlite_books: Books,
) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    floor.cycle(2)
    student, payer = sorted(floor.on())[:2]
    floor.hold([student], Reason.CURFEW)
    floor.hold([payer], Reason.ARREARS)
    floor.clock.advance(300)
    floor.draw_w = 100
    floor.cycle(1)
    floor.let_go([student], Reason.CURFEW)
    floor.let_go([payer], Reason.ARREARS)
    assert floor.shed()
    assert floor.is_on(payer)
    assert not floor.is_on(student)
    floor.cycle(20)
    assert floor.is_on(student)
    floor.close()


def test_a_payment_goes_ahead_after_a_restart_too(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    floor.cycle(2)
    student, payer = sorted(floor.on())[:2]
    floor.hold([student, payer], Reason.ARREARS)
    floor.hold([student], Reason.CURFEW)
    floor.clock.advance(100)
    floor.draw_w = 100
    floor.cycle(1)
    assert floor.shed()
    floor.let_go([student, payer], Reason.ARREARS)
    floor.let_go([student], Reason.CURFEW)
    floor.start()  # before their minimum off time is over
    floor.clock.advance(200)
    floor.cycle(2)
    assert floor.shed()
    assert floor.is_on(payer)
    assert not floor.is_on(student)
    floor.close()


def test_nobody_overtakes_a_payment_that_waits_for_room(floor: Floor) -> None:
    small, payer = everybody(floor)[:2]
    floor.hold([payer], Reason.ARREARS)
    floor.draw_of["m-0"] = 100
    floor.cycle(200)
    floor.hold([small], Reason.CURFEW)
    floor.clock.advance(300)
    floor.draw_w = 1_310  # room for what one circuit draws, and not for what it may pick up
    floor.cycle(1)
    floor.let_go([payer], Reason.ARREARS)
    floor.let_go([small], Reason.CURFEW)
    assert not floor.is_on(payer)
    assert not floor.is_on(small)


def test_who_asks_while_a_plan_is_in_the_making_asks_again_when_it_is_there(floor: Floor) -> None:
    payer = everybody(floor)[0]
    floor.hold([payer], Reason.ARREARS)
    floor.clock.advance(300)
    floor.cycle(1)
    floor.rooms.begin_plan()
    floor.let_go([payer], Reason.ARREARS)
    assert not floor.is_on(payer)
    assert floor.rooms.drop_plan() == {payer}
