"""A command that the relay never followed: what it explains, and until when."""

import asyncio

import pytest

from dormpower.books import holds
from dormpower.books.database import Books
from dormpower.domain.holds import Reason
from dormpower.domain.reconcile import TRIES
from dormpower.domain.samples import Relay
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
