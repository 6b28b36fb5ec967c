"""The place of a circuit that waits for room on its feeder, while its module is out of reach."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from dormpower.books import control
from dormpower.books.database import Books
from dormpower.domain.holds import Reason
from dormpower.domain.reconcile import Control, Waiting, WaitsFor
from tests.gateway.feeder_floor import Floor

FIRST, SECOND = "r-8-ac", "r-9-ac"
OTHERS = ["r-0-ac", "r-1-ac", "r-2-ac"]  # so many make room for the pickup of one


@pytest.fixture
def floor(sqlite_books: Books) -> Iterator[Floor]:
    """Eight air conditioners of 1 kW are on, two wait one after the other; there is no room for a ninth."""
    floor = Floor(sqlite_books, limit_w=8_600)
    floor.draw_w, floor.draw_of = 750, {"m-8": 1000, "m-9": 1000}
    floor.cycle(2)
    floor.hold([FIRST, SECOND], Reason.CURFEW)
    floor.clock.advance(310)
    floor.draw_w = 1000
    floor.cycle(1)
    floor.let_go([FIRST], Reason.CURFEW)
    floor.cycle(2)
    floor.let_go([SECOND], Reason.CURFEW)
    floor.cycle(1)
    assert floor.on().isdisjoint({FIRST, SECOND})
    assert floor.shed() == set()
    yield floor
    floor.close()


def reach(floor: Floor, *, online: bool) -> None:
    """The first one's module answers again, or no longer."""

    async def go() -> None:
        floor.control.note_module("m-8", online=online)
        await floor.control.settle()

    asyncio.run(go())


def make_room(floor: Floor) -> None:
    floor.hold(OTHERS, Reason.CURFEW)
    floor.cycle(2)


def test_on_its_return_it_has_its_old_place(floor: Floor) -> None:
    reach(floor, online=False)
    floor.cycle(2)
    reach(floor, online=True)
    make_room(floor)
    assert floor.is_on(FIRST)
    assert not floor.is_on(SECOND)


def test_meanwhile_it_is_given_no_room_and_keeps_nobody_back(floor: Floor) -> None:
    reach(floor, online=False)
    make_room(floor)
    assert floor.is_on(SECOND)
    assert not floor.is_on(FIRST)


def test_who_is_held_meanwhile_begins_anew(floor: Floor) -> None:
    reach(floor, online=False)
    floor.hold([FIRST], Reason.LOCKOUT)
    floor.let_go([FIRST], Reason.LOCKOUT)
    reach(floor, online=True)
    make_room(floor)
    assert floor.is_on(SECOND)
    assert not floor.is_on(FIRST)


def test_what_a_circuit_waits_for_is_on_record_with_its_feeder_and_when_its_turn_comes(floor: Floor) -> None:
    with floor.books.read() as connection:
        point = control.points(connection, [FIRST])[FIRST]
    assert (point.control, point.waiting) == (
        Control.WAITING,
        Waiting(why=WaitsFor.FEEDER_ROOM, feeder_id="floor"),
    )
    waits_since_at = floor.clock.now() - timedelta(seconds=3 * floor.policy.cycle_s)
    assert point.expected_change_at == waits_since_at + timedelta(seconds=floor.policy.max_off_s)
    reach(floor, online=False)
    floor.cycle(1)
    floor.let_go([FIRST], Reason.CURFEW)
    asyncio.run(floor.control.sweep())
    make_room(floor)
    with floor.books.read() as connection:
        points = control.points(connection, [FIRST, SECOND])
    assert points[FIRST].waiting == Waiting(why=WaitsFor.UNREACHABLE)
    assert (points[SECOND].control, points[SECOND].waiting) == (Control.SETTLED, None)
