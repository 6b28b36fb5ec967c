"""Samples that were long on their way: what they show of a relay is from before a command of ours.

A broker keeps them while the gateway is away, so the first ones of a run may be older than the last command.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from dormpower.books import holds
from dormpower.books.database import Books
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Flag, Relay
from gateway.ports import SwitchOutcome
from tests.gateway.control_world import World

Restart = Callable[[World], None]


def goes_on(world: World) -> None:
    del world


def restarts(world: World) -> None:
    world.control = world.start()


def lose_line(world: World) -> None:
    async def go() -> None:
        world.control.note_line("line-a", online=False)
        await world.control.settle()

    world.run(go())


def lift(world: World, lockout_id: str) -> None:
    with world.books.write() as connection:
        holds.lift_lockout(connection, lockout_id=lockout_id, actor="wang", now=world.clock.now())
    world.settle()


@pytest.mark.parametrize("then", [goes_on, restarts])
def test_open_from_before_our_closing_is_nobodys_hand(books: Books, then: Restart) -> None:
    world = World(books)
    world.sample()
    lockout_id = world.lock_out()
    world.sample()
    world.clock.advance(10)
    lift(world, lockout_id)
    assert world.switch.relays["m-0", 0] is Relay.CLOSED
    then(world)
    world.sample(relay=Relay.OPEN, after_s=5, on_its_way_s=10)
    assert world.standing() == []
    world.sample()
    assert (world.standing(), world.active_alarms()) == ([], [])
    assert world.switch.sent == [("m-0", 0, Relay.OPEN), ("m-0", 0, Relay.CLOSED)]
    world.close()


@pytest.mark.parametrize("then", [goes_on, restarts])
def test_closed_from_before_our_opening_is_no_closing_against_the_hold(books: Books, then: Restart) -> None:
    world = World(books)
    world.sample()
    world.clock.advance(10)
    world.lock_out()
    then(world)
    world.sample(relay=Relay.CLOSED, after_s=5, on_its_way_s=10)
    world.sample()
    assert (world.standing(), world.active_alarms()) == ([Reason.LOCKOUT], [])
    assert world.switch.sent == [("m-0", 0, Relay.OPEN)]
    world.close()


@pytest.mark.parametrize("then", [goes_on, restarts])
def test_an_opening_whose_answer_was_lost_is_still_ours_after_an_old_sample(
    books: Books, then: Restart
) -> None:
    world = World(books)
    world.sample()
    world.clock.advance(10)
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT]
    world.lock_out()
    world.switch.relays["m-0", 0] = Relay.OPEN  # it did act
    then(world)
    lose_line(world)  # no second try for now
    world.sample(relay=Relay.CLOSED, after_s=5, on_its_way_s=10)
    world.sample(relay=Relay.OPEN)
    assert world.standing() == [Reason.LOCKOUT]
    world.close()


def test_a_modules_own_closing_while_nobody_ran_is_its_own_and_counts(books: Books) -> None:
    world = World(books)
    world.control = world.start(self_restore_s=300.0)
    world.sample()
    world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
    assert world.standing() == [Reason.MODULE_TRIP]
    tripped_at = world.clock.now()
    world.clock.advance(300)
    world.control = world.start(self_restore_s=300.0)
    world.sample(relay=Relay.CLOSED, after_s=10)
    assert (world.standing(), world.active_alarms(), world.switch.sent) == ([], [], [])
    (closing,) = world.control.memory("r-0-ac").restores
    assert closing.at - tripped_at == timedelta(seconds=310)
    world.close()
