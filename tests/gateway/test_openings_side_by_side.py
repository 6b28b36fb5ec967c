"""Holds join a building's alarm and leave it at the same time, on a database with many writers."""

import threading
import time

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, holds
from dormpower.books.database import Books, open_books
from dormpower.domain.openings import OpeningsPolicy
from tests.gateway.control_world import World
from tests.opened_circuits import find_open

POLICY = OpeningsPolicy(circuits=2)


@pytest.fixture
def world(request: pytest.FixtureRequest):
    """Four rooms on a database of PostgreSQL: SQLite has one writer at a time."""
    url = request.getfixturevalue("postgresql_url")
    request.getfixturevalue("_postgresql_template")
    server = sa.create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE side_by_side TEMPLATE template_books")
    books = open_books(f"{url}/side_by_side")
    world = World(books, rooms_count=4)
    yield world
    world.close()
    books.close()
    with server.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE side_by_side WITH (FORCE)")
    server.dispose()


def place(world: World, connection: sa.Connection, *numbers: int) -> None:
    """Do as the gateway does when these relays are found open."""
    circuit_ids = [f"r-{number}-ac" for number in numbers]
    find_open(connection, circuit_ids, policy=POLICY, period_s=30.0, now=world.clock.now())


def reset(world: World, *numbers: int) -> None:
    with world.books.write() as connection:
        for number in numbers:
            holds.reset(connection, f"r-{number}-ac", "wang", world.clock.now())


def wait_for_a_waiter(books: Books) -> None:
    """Wait until a transaction waits for another's lock."""
    deadline = time.monotonic() + 30
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while True:
        with books.read() as connection:
            if connection.scalar(waiting):
                return
        assert time.monotonic() < deadline, "nobody waits"


@pytest.mark.needs("postgres", "initdb")
def test_who_releases_the_last_one_waits_for_what_joins_meanwhile(world):
    with world.books.write() as connection:
        place(world, connection, 0, 1)
    releases = threading.Thread(target=reset, args=(world, 0, 1))
    with world.books.write() as connection:
        place(world, connection, 2)
        releases.start()
        wait_for_a_waiter(world.books)
    releases.join(30)
    with world.books.read() as connection:
        (alarm,) = alarms.active(connection)
        assert set(holds.standing(connection)) == {"r-2-ac"}
    assert (alarm.kind, alarm.detail["circuits"]) == ("building_opened", 3)


@pytest.mark.needs("postgres", "initdb")
def test_two_who_release_the_last_two_at_once_leave_no_alarm(world):
    with world.books.write() as connection:
        place(world, connection, 0, 1)
    with world.books.write() as connection:
        holds.reset(connection, "r-0-ac", "wang", world.clock.now())
        reset(world, 1)
    world.settle()  # each left an intent, and the gateway sees both
    assert world.active_alarms() == []
