"""Feeder shedding at work: real books, control and reconciler, a fake switch, virtual time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dormpower.books import feeders, holds
from dormpower.books.database import Books
from dormpower.domain.holds import Enforcement
from tests.gateway.feeder_floor import DAYS, DRAW_W, EVENING, ROOMS, Floor


@pytest.fixture
def floor(books: Books) -> Iterator[Floor]:
    floor = Floor(books, limit_w=8000)
    yield floor
    floor.close()


def test_a_feeder_over_its_limit_is_brought_under_it_told_and_given_back(floor: Floor) -> None:
    floor.cycle(2)
    assert floor.demand_w() <= 8000
    assert len(floor.shed()) == 3  # to 97 % of the limit
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    with floor.books.read() as connection:
        (now,) = feeders.feeders_now(connection)
        hold = next(iter(holds.standing(connection).values()))[0]
    assert (now.source, now.limit_w, now.circuits_off, now.mode) == ("metered", 8000, 3, "enforce")
    assert now.alarms == ("feeder_overloaded",)
    assert hold.release == "capacity"
    assert {"feeder_id": "floor", "why": "over", "limit_w": 8000}.items() <= hold.evidence.items()
    floor.draw_w = 300
    floor.cycle(45)  # below 90 % for three minutes, and the minimum off time over
    assert floor.shed() == set()
    assert floor.active_alarms() == []
    assert floor.demand_w() == ROOMS * 300
    with floor.books.read() as connection:
        today = DAYS.day_of(EVENING)
        counted = feeders.fairness(connection, from_on=today, to_on=today, now=floor.clock.now(), days=DAYS)
    assert len(counted) == 3
    assert all(one.turns == 1 and one.minutes_off >= 5 for one in counted)


def test_what_is_remembered_survives_a_restart(floor: Floor) -> None:
    floor.cycle(5)
    before = floor.feeders._state
    shed = floor.shed()
    floor.start()
    assert floor.feeders._state == before
    assert floor.shed() == shed
    floor.cycle(3)
    assert floor.shed() == shed  # nobody is shed twice for one excess


def test_a_silent_meter_goes_by_the_sum_and_restores_nobody(floor: Floor) -> None:
    floor.cycle(2)
    shed = floor.shed()
    floor.meter_heard = False
    floor.draw_w = 100
    floor.cycle(95)
    assert floor.shed() == shed
    assert ("max_off_exceeded", "floor") in floor.active_alarms()
    with floor.books.read() as connection:
        assert feeders.feeders_now(connection)[0].source == "summed"
    floor.meter_heard = True
    floor.cycle(25)
    assert floor.shed() == set()


def test_shadow_records_who_would_be_off_and_moves_no_relay(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8000, mode=Enforcement.SHADOW)
    floor.cycle(4)
    assert floor.demand_w() == ROOMS * DRAW_W
    assert len(floor.shed(shadow=True)) == 3
    assert floor.shed() == set()
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    floor.close()


def test_a_rule_that_is_switched_off_lets_its_holds_go(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8000)
    floor.cycle(2)
    assert floor.shed()
    floor.policy = replace(floor.policy, mode=Enforcement.OFF)
    floor.start()
    assert floor.shed() == set()
    floor.close()


def test_minutes_off_are_split_at_campus_midnight(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=80_000)
    midnight = DAYS.end_of(DAYS.day_of(EVENING))
    with sqlite_books.write() as connection:
        feeders.note_turns(
            connection,
            [
                feeders.EndedTurn(
                    circuit_id="r-0-ac",
                    room_id="r-0",
                    from_at=midnight - timedelta(minutes=4),
                    to_at=midnight + timedelta(minutes=6),
                    shadow=False,
                )
            ],
            days=DAYS,
        )
        on = DAYS.day_of(EVENING)
        counted: dict[Any, Any] = {
            one.used_on: (one.minutes_off, one.turns)
            for one in feeders.fairness(
                connection, from_on=on, to_on=on + timedelta(days=1), now=midnight, days=DAYS, room_ids=["r-0"]
            )
        }
    assert counted == {on: (4.0, 1), on + timedelta(days=1): (6.0, 0)}
    floor.close()
