"""A command that the relay never followed: what it explains, and until when."""

import asyncio
from datetime import timedelta

import pytest

from dormpower.books import holds
from dormpower.books.database import Books
from dormpower.domain.holds import Reason
from dormpower.domain.reconcile import TRIES
from dormpower.domain.samples import ChannelSample, Observation, Relay, Verdict
from gateway.ports import SwitchOutcome
from tests.gateway.control_world import World

CIRCUIT = "r-0-ac"


def lock_out_in_vain(world: World, outcome: SwitchOutcome, *, tries: int) -> None:
    """Lock a circuit out whose relay does not follow, and lift the lock-out again."""
    world.sample()
    world.sample(wh=10)
    world.switch.next_outcomes = [outcome] * tries
    with world.books.write() as connection:
        lockout = holds.place_lockout(
            connection, circuit_id=CIRCUIT, holder="wang", reason="work", now=world.clock.now()
        )
    asyncio.run(world.rest())
    while world.switch.next_outcomes:
        world.clock.advance(10)
        world.tick()
    with world.books.write() as connection:
        holds.lift_lockout(connection, lockout_id=lockout.lockout_id, actor="wang", now=world.clock.now())
    world.settle()


@pytest.mark.parametrize("outcome", [SwitchOutcome.TIMED_OUT, SwitchOutcome.NOT_FOLLOWED])
def test_once_the_relay_was_seen_closed_it_explains_no_opening_by_hand(
    sqlite_books: Books, outcome: SwitchOutcome
) -> None:
    world = World(sqlite_books)
    lock_out_in_vain(world, outcome, tries=1)
    world.sample()
    sent = len(world.switch.sent)
    world.sample(relay=Relay.OPEN)
    assert world.standing() == [Reason.OPENED_LOCALLY]
    assert world.switch.sent[sent:] == []
    world.close()


def test_a_relay_that_need_not_follow_any_more_has_not_failed(sqlite_books: Books) -> None:
    world = World(sqlite_books)
    lock_out_in_vain(world, SwitchOutcome.NOT_FOLLOWED, tries=TRIES)
    assert world.active_alarms() == ["relay_failed"]
    world.sample()
    assert world.active_alarms() == []
    assert world.control.memory(CIRCUIT).failures == 0
    world.close()


def test_the_minimum_off_time_counts_from_our_opening_not_from_one_before_the_relay_was_closed(
    sqlite_books: Books,
) -> None:
    world = World(sqlite_books)
    world.control = world.start(min_off_s=300.0)
    world.sample()

    async def both_at_once() -> None:
        """Bring two samples of a while ago in one batch: opened by hand, and closed again."""
        world.clock.advance(600)
        found = [
            Observation(
                circuit_id=CIRCUIT,
                at=world.clock.now() - timedelta(seconds=seconds),
                verdict=Verdict.ACCEPTED,
                metered_wh=0,
                sample=ChannelSample(channel=0, relay=relay),
            )
            for seconds, relay in ((400, Relay.OPEN), (1, Relay.CLOSED))
        ]
        with world.books.write() as connection:
            after_commit = world.control.decide_batch(connection, found, world.clock.now())
        after_commit()
        await world.rest()

    world.run(both_at_once())
    assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
    opened_at = world.clock.now()
    world.sample(after_s=1)
    with world.books.write() as connection:
        holds.reset(connection, CIRCUIT, "li", world.clock.now())
    world.settle()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
    assert world.control.memory(CIRCUIT).expected_change_at == opened_at + timedelta(seconds=300)
    world.close()
