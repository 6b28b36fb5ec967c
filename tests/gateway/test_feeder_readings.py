"""What shedding goes by: believed samples only, and each decision says how often they came."""

from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa

from dormpower.books import holds
from dormpower.books.database import Books
from dormpower.books.tables import holds as holds_table
from dormpower.domain.holds import Reason
from dormpower.domain.samples import ChannelSample, Observation, Relay, Verdict
from tests.gateway.feeder_floor import Floor


@pytest.fixture
def floor(sqlite_books: Books) -> Iterator[Floor]:
    floor = Floor(sqlite_books, limit_w=8_000)
    yield floor
    floor.close()


def evidence(floor: Floor) -> Sequence[dict[str, object]]:
    with floor.books.read() as connection:
        return [dict(hold.evidence) for found in holds.standing(connection).values() for hold in found]


def slowly(floor: Floor, cycles: int) -> None:
    """Run cycles with 30 s between the samples, three times as long as a decision's cycle."""
    for _ in range(cycles):
        floor.clock.advance(20)
        floor.cycle(1)


def test_a_shed_states_how_often_its_meter_was_sampled_and_the_cycle_beside_it(floor: Floor) -> None:
    floor.draw_w = 500
    slowly(floor, 2)
    floor.draw_w = 1000
    slowly(floor, 1)
    assert {
        (one["sampling_period_s"], one["power_sampling_period_s"], one["cycle_s"]) for one in evidence(floor)
    } == {(30.0, 30.0, 10.0)}


def test_by_the_sum_it_is_the_circuits_period_and_a_return_states_its_own(floor: Floor) -> None:
    floor.draw_w = 500
    floor.cycle(2)
    floor.meter_heard = False
    slowly(floor, 3)
    floor.draw_w = 1000
    slowly(floor, 1)
    assert {one["sampling_period_s"] for one in evidence(floor)} == {30.0}
    floor.meter_heard = True
    floor.draw_w = 100
    floor.cycle(45)
    with floor.books.read() as connection:
        ended = connection.scalars(
            sa.select(holds_table.c.release_evidence).where(holds_table.c.reason == Reason.SHED.value)
        ).all()
    assert ended
    assert {(one["feeder_id"], one["sampling_period_s"], one["cycle_s"]) for one in ended} == {
        ("floor", 10.0, 10.0)
    }


def observation(verdict: Verdict, power_w: float, floor: Floor) -> Observation:
    return Observation(
        circuit_id="r-0-ac",
        at=floor.clock.now(),
        verdict=verdict,
        metered_wh=0,
        sample=ChannelSample(channel=0, relay=Relay.CLOSED, power_w=power_w),
    )


def test_only_believed_samples_count(floor: Floor) -> None:
    for verdict, power_w, counts in (
        (Verdict.NO_REGISTER, 100.0, None),  # no register was accepted yet
        (Verdict.COMMISSIONING, 200.0, None),
        (Verdict.ACCEPTED, 300.0, 300),
        (Verdict.NO_REGISTER, 400.0, 400),
        (Verdict.QUARANTINED, 500.0, 400),
        (Verdict.NO_REGISTER, 600.0, 400),
        (Verdict.ACCEPTED, 700.0, 700),
    ):
        floor.clock.advance(1)
        floor.readings.note([observation(verdict, power_w, floor)])
        assert floor.readings.power("r-0-ac")[0] == counts


def test_a_circuit_whose_register_is_doubted_is_not_shed(floor: Floor) -> None:
    floor.draw_w = 500
    floor.cycle(2)
    floor.verdict = Verdict.QUARANTINED
    floor.cycle(12)  # the last believed powers are too old by now
    floor.draw_w = 1000
    floor.cycle(3)
    assert floor.demand_w() > 8_000
    assert floor.shed() == set()


@pytest.fixture
def wide(sqlite_books: Books) -> Iterator[Floor]:
    """A floor whose feeder has room for everybody."""
    floor = Floor(sqlite_books, limit_w=40_000)
    yield floor
    floor.close()


def test_what_a_circuit_drew_is_remembered_by_its_time_on(wide: Floor) -> None:
    circuit_id, module_id = "r-0-ac", "m-0"
    wide.cycle(1)
    assert wide.readings.lately_w(circuit_id) == 1000
    wide.hold([circuit_id], Reason.CURFEW)
    for _ in range(30):  # off for longer than what is remembered
        wide.clock.advance(80)
        wide.cycle(1)
    wide.let_go([circuit_id], Reason.CURFEW)
    wide.draw_of[module_id] = 0  # its compressor has not started yet
    wide.cycle(3)
    assert wide.is_on(circuit_id)
    assert wide.readings.lately_w(circuit_id) == 1000
    wide.draw_of[module_id] = 200
    wide.cycle(200)
    assert wide.readings.lately_w(circuit_id) == 200


def test_a_start_goes_on_with_what_a_circuit_drew_before(wide: Floor) -> None:
    circuit_id, module_id = "r-0-ac", "m-0"
    wide.cycle(1)
    wide.hold([circuit_id], Reason.CURFEW)
    wide.cycle(1)
    wide.clock.advance(400)
    wide.start()
    wide.let_go([circuit_id], Reason.CURFEW)
    wide.draw_of[module_id] = 0
    wide.cycle(3)
    assert wide.is_on(circuit_id)
    wide.hold([circuit_id], Reason.CURFEW)
    wide.cycle(1)
    assert wide.readings.lately_w(circuit_id) == 1000
