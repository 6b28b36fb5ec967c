"""Which closings may still be picking up, by the commands on record and what is known of the relays."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import commands, control
from dormpower.books.database import Books
from dormpower.books.tables import circuits, modules, rooms
from dormpower.domain.samples import Relay

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
CIRCUIT = "r-1-ac"


@pytest.fixture
def site(books: Books) -> Books:
    room = {"campus": "south", "building": "01", "floor": "1", "name": "x", "rated_current_a": 40}
    with books.write() as connection:
        connection.execute(sa.insert(rooms).values(room_id="r-1", **room))
        connection.execute(sa.insert(circuits).values(circuit_id=CIRCUIT, room_id="r-1", kind="ac"))
        connection.execute(sa.insert(modules).values(module_id="m-1", profile="x"))
    return books


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def send(site: Books, relay: Relay, at: datetime) -> None:
    with site.write() as connection:
        commands.record(
            connection,
            circuit_id=CIRCUIT,
            module_id="m-1",
            channel=0,
            relay=relay,
            cause={},
            attempt=1,
            now=at,
            expires_at=at + timedelta(seconds=10),
        )


def opened(site: Books, at: datetime | None) -> None:
    with site.write() as connection:
        control.save(connection, circuit_id=CIRCUIT, now=NOON, opened_at=at)


def closings(site: Books, since: datetime = NOON) -> dict[str, datetime]:
    with site.read() as connection:
        return commands.closings_since(connection, [CIRCUIT, "r-2-ac"], since)


def test_the_last_closing_counts_until_it_is_too_old(site: Books) -> None:
    opened(site, after(-600))
    send(site, Relay.OPEN, after(-600))
    send(site, Relay.CLOSED, after(1))
    send(site, Relay.CLOSED, after(5))  # the first one was not followed
    assert closings(site) == {CIRCUIT: after(5)}
    assert closings(site, since=after(6)) == {}
    opened(site, None)
    assert closings(site) == {CIRCUIT: after(5)}


def test_one_that_was_opened_again_is_picking_up_nothing(site: Books) -> None:
    send(site, Relay.CLOSED, after(1))
    opened(site, after(3))  # by its module or a hand
    assert closings(site) == {}
    opened(site, None)
    send(site, Relay.OPEN, after(4))  # the answer has not come yet
    assert closings(site) == {}
    send(site, Relay.CLOSED, after(9))
    assert closings(site) == {CIRCUIT: after(9)}
