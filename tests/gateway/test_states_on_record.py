"""Supply states on record: a campus that is seen for the first time costs a few statements, and loses none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from dormpower.books import events, states
from dormpower.books.database import Books
from dormpower.books.tables import meter_points
from dormpower.domain.samples import ChannelSample, Observation, Relay, Verdict
from tests.gateway.control_world import World

ROOMS = 40


@pytest.fixture
def campus(books: Books) -> Iterator[World]:
    world = World(books, rooms_count=ROOMS)
    yield world
    world.close()


@contextmanager
def counted_statements(books: Books) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        found.append(statement)

    sa.event.listen(books.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(books.engine, "before_cursor_execute", note)


def decide(world: World, samples: Sequence[tuple[str, Relay]]) -> list[str]:
    """Let control judge one batch of accepted samples a second apart; return the statements that it took."""
    found = []
    with world.books.write() as connection:
        for circuit_id, relay in samples:
            world.clock.advance(1.0)
            sample = ChannelSample(channel=0, relay=relay, power_w=0.0)
            found.append(
                Observation(
                    circuit_id=circuit_id,
                    at=world.clock.now(),
                    verdict=Verdict.ACCEPTED,
                    metered_wh=0,
                    sample=sample,
                )
            )
            connection.execute(
                sa.update(meter_points)
                .where(meter_points.c.circuit_id == circuit_id)
                .values(last_seen_at=world.clock.now(), relay=relay.value)
            )
        with counted_statements(world.books) as statements:
            after_commit = world.control.decide_batch(connection, found, world.clock.now())

    async def take_over() -> None:
        after_commit()
        await world.rest()

    world.run(take_over())
    return statements


def changes(world: World, circuit_id: str) -> list[tuple[str, str, str, str | None]]:
    with world.books.read() as connection:
        found = states.history(connection, circuit_id)
    return [(one.from_state, one.to_state, one.cause, one.relay) for one in reversed(found)]


def test_states_of_many_circuits_cost_as_many_statements_as_those_of_a_few(campus: World) -> None:
    circuit_ids = sorted(campus.circuits)
    few = decide(campus, [(one, Relay.CLOSED) for one in circuit_ids[:2]])
    many = decide(campus, [(one, Relay.CLOSED) for one in circuit_ids[2:]])
    assert few
    assert len(many) == len(few)
    for circuit_id in circuit_ids:
        assert changes(campus, circuit_id) == [("offline", "normal", "contact", "closed")]
        assert campus.control.memory(circuit_id).state == "normal"
    with campus.books.read() as connection:
        told = [one.subject_id for one in events.after(connection, 0, 1_000) if one.kind == "circuit"]
    assert sorted(told) == circuit_ids


def test_two_changes_of_a_circuit_in_one_batch_are_both_on_record_in_their_order(campus: World) -> None:
    decide(campus, [("r-1-ac", Relay.CLOSED), ("r-0-ac", Relay.CLOSED), ("r-0-ac", Relay.OPEN)])
    assert changes(campus, "r-0-ac") == [
        ("offline", "normal", "contact", "open"),
        ("normal", "load_off", "hold.opened_locally.placed", "open"),
    ]
    assert changes(campus, "r-1-ac") == [("offline", "normal", "contact", "closed")]
