"""How trips end: on samples that are believed, and by the module itself where its profile says so."""

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, holds, trips
from dormpower.books.tables import holds as holds_table
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Flag, Relay, Verdict
from tests.gateway.control_world import NOON, World

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


def test_a_module_that_restores_itself_is_not_fought_until_its_day_is_used_up(quick_world: World) -> None:
    world = quick_world
    world.control = world.start(self_restore_s=300.0)
    world.sample()
    for number in range(3):
        world.sample(relay=Relay.OPEN, flags=OVERLOAD_TRIP)  # it tripped up to 30 s before this
        assert world.standing() == [Reason.MODULE_TRIP]
        world.sample(after_s=280, relay=Relay.CLOSED)
        assert (world.standing(), world.active_alarms()) == ([], [])
        with world.books.read() as connection:
            closings = trips.restores(connection, circuit_ids=["r-0-ac"], since=NOON)["r-0-ac"]
        assert len(closings) == number + 1
    assert world.switch.sent == []
    world.sample(relay=Relay.OPEN, flags=OVERLOAD_TRIP)
    world.sample(after_s=280, relay=Relay.CLOSED)
    assert world.standing() == [Reason.MODULE_TRIP]
    assert world.active_alarms() == ["closed_against_hold", "load_off"]
    assert world.switch.sent == [OPENED]


def test_a_tripped_relay_that_a_hand_closes_too_early_is_opened_again(quick_world: World) -> None:
    world = quick_world
    world.control = world.start(self_restore_s=300.0)
    world.sample()
    world.sample(relay=Relay.OPEN, flags=OVERLOAD_TRIP)
    world.sample(after_s=100, relay=Relay.CLOSED)
    assert world.standing() == [Reason.MODULE_TRIP]
    assert world.switch.sent == [OPENED]


def test_what_a_module_did_and_how_it_ended_state_the_sampling_period_they_had(quick_world: World) -> None:
    world = quick_world
    world.control = world.start(self_restore_s=300.0)
    world.sample()
    world.sample(
        after_s=7, relay=Relay.OPEN, flags=OVERLOAD_TRIP | {Flag.COVER_OPEN}, verdict=Verdict.NO_REGISTER
    )
    with world.books.read() as connection:
        (hold,) = holds.standing(connection)["r-0-ac"]
        details = {alarm.kind: alarm.detail for alarm in alarms.active(connection)}
    assert hold.evidence["sampling_period_s"] == 7
    assert details["cover_open"]["sampling_period_s"] == 7
    assert details["load_off"]["sampling_period_s"] == 7
    world.sample(after_s=400)
    assert world.standing() == []
    with world.books.read() as connection:
        ended = connection.scalar(sa.select(holds_table.c.release_evidence))
    assert ended["sampling_period_s"] == 400
