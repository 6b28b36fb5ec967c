"""Modules that never say how their relay stands: all that control has is what it told them."""

import asyncio
from collections.abc import Iterator
from datetime import datetime

import pytest

from dormpower.books import holds
from dormpower.books.database import Books
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay
from gateway.ports import SwitchOutcome, SwitchResult
from tests.gateway.control_world import FakeSwitch, World

OPENED, CLOSED = ("m-0", 0, Relay.OPEN), ("m-0", 0, Relay.CLOSED)


class MuteSwitch(FakeSwitch):
    """Does what it is told, or what `next_outcomes` says, and reads nothing back."""

    dies = False

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        self.sent.append((module_id, channel, relay))
        if self.dies:
            raise asyncio.CancelledError  # the gateway's end: nothing after this is ever put on record
        outcome = self.next_outcomes.pop(0) if self.next_outcomes else SwitchOutcome.UNCONFIRMED
        return SwitchResult(outcome=outcome)


@pytest.fixture
def mute_world(sqlite_books: Books) -> Iterator[World]:
    world = World(sqlite_books)
    world.switch = MuteSwitch()
    world.control = world.start(has_readback=False)
    world.sample(relay=None)
    yield world
    world.close()


def lift(world: World, lockout_id: str) -> None:
    with world.books.write() as connection:
        holds.lift_lockout(connection, lockout_id=lockout_id, actor="wang", now=world.clock.now())


def test_a_hold_that_ended_while_the_gateway_was_down_is_made_up_at_its_return(mute_world: World) -> None:
    world = mute_world
    lockout_id = world.lock_out()
    assert world.switch.sent == [OPENED]
    lift(world, lockout_id)
    world.control = world.start(has_readback=False)
    world.settle()
    assert world.switch.sent == [OPENED]  # nothing was read in this run yet
    world.sample(relay=None)
    assert world.switch.sent == [OPENED, CLOSED]
    assert world.control.memory("r-0-ac").control == "settled"
    world.control = world.start(has_readback=False)
    world.sample(relay=None)
    assert world.switch.sent == [OPENED, CLOSED]


def test_a_hold_that_goes_on_over_a_restart_needs_no_second_command(mute_world: World) -> None:
    world = mute_world
    world.lock_out()
    world.control = world.start(has_readback=False)
    world.sample(relay=None)
    assert world.standing() == [Reason.LOCKOUT]
    assert world.switch.sent == [OPENED]


def test_a_command_that_got_no_answer_is_sent_again(mute_world: World) -> None:
    world = mute_world
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT]
    lockout_id = world.lock_out()
    assert world.control.memory("r-0-ac").control == "pending"
    world.clock.advance(2)
    world.tick()
    assert world.switch.sent == [OPENED] * 2
    assert world.control.memory("r-0-ac").control == "settled"
    assert world.confirmed_at(lockout_id) is None  # nothing was read back


def test_after_an_opening_without_answer_a_hold_that_is_gone_still_gives_a_closing(mute_world: World) -> None:
    world = mute_world
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT]
    lockout_id = world.lock_out()
    world.clock.advance(2)
    lift(world, lockout_id)
    world.settle()
    assert world.switch.sent == [OPENED, CLOSED]


@pytest.mark.parametrize("still_held", [True, False])
def test_a_command_that_the_gateway_s_end_cut_off_is_sent_anew(mute_world: World, still_held: bool) -> None:
    world = mute_world
    assert isinstance(world.switch, MuteSwitch)
    world.switch.dies = True
    lockout_id = world.lock_out()
    world.switch.dies = False
    if not still_held:
        lift(world, lockout_id)
    for _ in range(2):  # a second end before the module is heard of changes nothing
        world.control = world.start(has_readback=False)
    world.sample(relay=None)
    assert world.switch.sent == [OPENED, OPENED if still_held else CLOSED]
