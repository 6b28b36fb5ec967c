"""How trips end: on samples that are believed, and by the module itself where its profile says so."""

import pytest

from dormpower.books import holds
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Flag, Relay, Verdict
from tests.gateway.control_world import World

OPENED = ("m-0", 0, Relay.OPEN)
CLOSED = ("m-0", 0, Relay.CLOSED)
OVERLOAD_TRIP = frozenset({Flag.OVERLOAD_TRIP})


def trip_for_overload(world: World) -> None:
    world.sample(power_w=1900.0)
    world.sample(power_w=2500.0)
    world.sample(power_w=2500.0)
    assert world.standing() == [Reason.OVERLOAD]
    assert world.switch.sent == [OPENED]


@pytest.mark.parametrize("verdict", [Verdict.QUARANTINED, Verdict.COMMISSIONING])
def test_samples_whose_register_is_in_doubt_end_no_trip(quick_world: World, verdict: Verdict) -> None:
    world = quick_world
    trip_for_overload(world)
    for _ in range(12):
        world.sample(verdict=verdict)
        world.sample(verdict=Verdict.NO_REGISTER)
    assert world.standing() == [Reason.OVERLOAD]
    assert world.switch.sent == [OPENED]
    world.sample()
    assert world.standing() == []
    assert world.switch.sent == [OPENED, CLOSED]


def test_a_fast_sample_ends_a_trip_while_the_register_is_believed(quick_world: World) -> None:
    world = quick_world
    trip_for_overload(world)
    for _ in range(8):
        world.sample()
    world.sample(after_s=10, verdict=Verdict.NO_REGISTER)
    assert world.standing() == [Reason.OVERLOAD]
    world.sample(after_s=60, verdict=Verdict.NO_REGISTER)
    assert world.standing() == []
    assert world.switch.sent == [OPENED, CLOSED]


def test_a_fast_sample_ends_no_trip_long_after_the_last_register(quick_world: World) -> None:
    world = quick_world
    trip_for_overload(world)
    for _ in range(20):
        world.sample(verdict=Verdict.NO_REGISTER)
    assert world.standing() == [Reason.OVERLOAD]


def test_a_quarantined_sample_trips_all_the_same(quick_world: World) -> None:
    world = quick_world
    world.sample(power_w=1900.0)
    for _ in range(2):
        world.sample(power_w=2500.0, verdict=Verdict.QUARANTINED)
    assert world.standing() == [Reason.OVERLOAD]


def test_a_trip_of_the_module_ends_on_a_believed_sample_only(quick_world: World) -> None:
    world = quick_world
    world.control = world.start(self_restore_s=300.0)
    world.sample()
    world.sample(relay=Relay.OPEN, flags=OVERLOAD_TRIP)
    world.sample(after_s=400, relay=Relay.OPEN, flags=OVERLOAD_TRIP, verdict=Verdict.QUARANTINED)
    assert world.standing() == [Reason.MODULE_TRIP]
    world.sample(relay=Relay.OPEN, flags=OVERLOAD_TRIP)
    assert world.standing() == []
    assert world.switch.sent == [CLOSED]


def test_after_a_reset_the_relay_waits_for_a_register_that_is_believed(quick_world: World) -> None:
    world = quick_world
    trip_for_overload(world)
    world.sample(verdict=Verdict.QUARANTINED)
    with world.books.write() as connection:
        holds.reset(connection, "r-0-ac", "maintenance", world.clock.now())
    world.settle()
    assert world.standing() == []
    assert world.control.memory("r-0-ac").control == "waiting"
    world.sample(verdict=Verdict.QUARANTINED)
    assert world.switch.sent == [OPENED]
    world.sample()
    assert world.switch.sent == [OPENED, CLOSED]
