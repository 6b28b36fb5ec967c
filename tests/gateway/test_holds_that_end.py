"""Holds that end for a cause from outside: the keep-supply list; and what the load's alarm tells meanwhile."""

from dormpower.books import holds, keep_supply
from dormpower.domain import shedding
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay
from tests.gateway.control_world import World


def test_a_room_that_was_cut_for_arrears_comes_back_when_its_supply_is_kept(world: World) -> None:
    world.into_arrears()
    assert world.standing() == [Reason.ARREARS]
    for keep in (True, False):
        with world.books.write() as connection:
            keep_supply.set_keep_supply(
                connection, room_id="r-0", keep=keep, reason="ill", actor="admin", now=world.clock.now()
            )
        world.settle()
        world.sample()
        assert world.standing() == ([] if keep else [Reason.ARREARS])
        assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED if keep else Relay.OPEN)


def test_the_load_s_alarm_ends_with_its_trip_though_the_circuit_stays_shed(world: World) -> None:
    world.sample()
    world.sample(power_w=2500.0)
    world.sample(power_w=2500.0)
    with world.books.write() as connection:
        holds.place(
            connection,
            circuit_id="r-0-ac",
            reason=Reason.SHED,
            placed_by=shedding.RULE,
            evidence={},
            now=world.clock.now(),
        )
    assert world.active_alarms() == ["load_off"]
    with world.books.write() as connection:
        holds.reset(connection, "r-0-ac", "maintenance", world.clock.now())
    assert world.standing() == [Reason.SHED]
    assert world.active_alarms() == []  # a feeder that sheds is an alarm of the feeder
