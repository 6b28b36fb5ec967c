"""A gateway that starts on books in which a newer version left what this one does not know."""

import sqlalchemy as sa

from dormpower.books.feeders import feeder_read, feeder_written
from dormpower.books.tables import control_points, meter_points
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.feeder_facts import FeederState
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Flag, Relay
from tests.gateway.control_world import World


def test_unknown_states_and_flags_are_passed_over_and_known_ones_stay(quick_world: World):
    quick_world.sample()
    quick_world.sample(flags=frozenset({Flag.COVER_OPEN}))
    with quick_world.books.write() as connection:
        connection.execute(sa.update(control_points).values(state="shaken"))
        connection.execute(sa.update(meter_points).values(flags="cover_open,cracked"))
    quick_world.control = quick_world.start()
    memory = quick_world.control.memory("r-0-ac")
    assert memory.judged.flags == {Flag.COVER_OPEN}
    quick_world.switch.relays["m-0", 0] = Relay.OPEN
    quick_world.sample()
    assert quick_world.standing() == [Reason.OPENED_LOCALLY]
    with quick_world.books.read() as connection:
        assert connection.scalar(sa.select(control_points.c.state)) == "load_off"


def test_an_unknown_alarm_of_a_feeder_is_passed_over():
    written = feeder_written(FeederState(alarms=(AlarmKind.FEEDER_OVERLOADED,)))
    written["alarms"].append("feeder_shaken")
    assert feeder_read(written).alarms == (AlarmKind.FEEDER_OVERLOADED,)
