"""Shedding over a restart of the gateway: timers go on, and a start alone is no alarm."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dormpower.books import feeders
from dormpower.books.database import Books
from dormpower.books.tables import meter_points
from dormpower.domain.holds import Reason
from tests.gateway.feeder_floor import Floor


@pytest.fixture
def floor(books: Books) -> Iterator[Floor]:
    floor = Floor(books, limit_w=8000)
    floor.cycle(2)
    floor.draw_w = 300
    floor.cycle(6)  # below 90 % for fifty seconds
    yield floor
    floor.close()


def silently(floor: Floor, cycles: int) -> None:
    """Run cycles in which nothing at all is heard, as just after a start."""
    floor.circuits_heard = floor.meter_heard = False
    floor.cycle(cycles)
    floor.circuits_heard = floor.meter_heard = True


def test_the_hysteresis_goes_on_over_a_restart_that_hears_nothing_at_first(floor: Floor) -> None:
    before = floor.feeders._state.feeders["floor"].below_since_at
    assert before is not None
    floor.start()
    silently(floor, 3)
    assert floor.feeders._state.feeders["floor"].below_since_at == before
    floor.cycle(1)
    assert floor.feeders._state.feeders["floor"].below_since_at == before


def test_circuits_that_are_heard_before_the_meter_don_t_end_the_hysteresis(floor: Floor) -> None:
    before = floor.feeders._state.feeders["floor"].below_since_at
    floor.start()
    floor.meter_heard = False
    floor.cycle(2)
    assert floor.feeders._state.feeders["floor"].below_since_at == before


def test_a_start_after_a_longer_pause_begins_the_hysteresis_anew(floor: Floor) -> None:
    shed = floor.shed()
    floor.clock.advance(150)
    floor.start()
    floor.cycle(1)
    assert floor.feeders._state.feeders["floor"].below_since_at == floor.clock.now()
    assert floor.shed() == shed  # nobody knows what the demand was meanwhile


def test_a_start_is_no_alarm_until_the_feeder_has_been_silent_for_long(floor: Floor) -> None:
    floor.start()
    silently(floor, 6)
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    floor.cycle(1)
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    floor.clock.advance(600)
    floor.start()
    silently(floor, 7)
    assert ("feeder_unknown", "floor") in floor.active_alarms()


def test_an_alarm_of_an_unknown_feeder_stands_on_over_a_restart(floor: Floor) -> None:
    floor.clock.advance(600)
    silently(floor, 1)
    assert ("feeder_unknown", "floor") in floor.active_alarms()
    floor.start()
    silently(floor, 1)
    assert ("feeder_unknown", "floor") in floor.active_alarms()
    floor.cycle(1)
    assert ("feeder_unknown", "floor") not in floor.active_alarms()


def test_what_opened_just_before_a_restart_is_given_back_by_what_it_last_drew(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=40_000)
    floor.cycle(1)
    with floor.books.write() as connection:  # as intake does
        connection.execute(sa.update(meter_points).values(power_w=1000.0))
    floor.hold(["r-0-ac"], Reason.CURFEW)
    floor.start()
    assert floor.readings.lately_w("r-0-ac") == 1000
    floor.clock.advance(400)
    floor.cycle(1)
    floor.let_go(["r-0-ac"], Reason.CURFEW)
    with floor.books.read() as connection:
        assert feeders.load(connection).turns["r-0-ac"].before_w == 1000
    assert floor.is_on("r-0-ac")
    floor.close()
