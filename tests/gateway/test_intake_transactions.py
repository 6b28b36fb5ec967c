"""How long intake holds the books' write lock: short while it keeps up, and not while it judges and stores."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import database, meter_changes, quarantines, tables
from dormpower.books.database import Books
from dormpower.books.meter_change_checks import Change, Kind
from dormpower.domain.samples import ChannelSample, ModuleSample
from dormpower.readings.port import Reading
from gateway.intake import BATCH_LIMIT, LEAST_FITTING, SHORT_QUEUE, Intake, fitting
from gateway.point_memory import PointConfig
from tests.gateway.conftest import CIRCUIT, START, ZONE, MeteredCircuit


class OtherWriter:
    """Readings that go in while somebody else writes to the books."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.kept: list[Reading] = []

    def append(self, readings: Sequence[Reading]) -> None:
        with self._books.write() as connection:
            connection.execute(sa.insert(tables.meta).values(key=f"other-{len(self.kept)}", value="written"))
        self.kept += readings


class DecidesMeanwhile:
    """Readings during whose storing a person decides on the quarantine, once."""

    def __init__(self, circuit: MeteredCircuit) -> None:
        self._circuit = circuit
        self.decided = False

    def append(self, readings: Sequence[Reading]) -> None:
        if not self.decided:
            self.decided = True
            estimate(self._circuit, energy_wh=700)


def estimate(circuit: MeteredCircuit, *, energy_wh: int) -> None:
    with circuit.books.write() as connection:
        quarantines.estimate(
            connection,
            quarantine_id=circuit.only(tables.quarantines).quarantine_id,
            energy_wh=energy_wh,
            actor="li",
            now=circuit.clock.now(),
        )


class Transactions:
    """Notes how many observations each transaction had; each takes `took_s` by the clock."""

    def __init__(self, circuit: MeteredCircuit, took_s: float) -> None:
        self._clock = circuit.clock
        self.took_s = took_s
        self.sizes: list[int] = []

    def __call__(self, _connection: object, observations: Sequence[object], _now: object) -> Callable[[], None]:
        self.sizes.append(len(observations))
        self._clock.real += timedelta(seconds=self.took_s)
        return lambda: None


class Nothing:
    def append(self, readings: Sequence[Reading]) -> None:
        pass


@pytest.fixture
def writer() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def make_intake(circuit: MeteredCircuit, writer: ThreadPoolExecutor, *, readings, decide) -> Intake:
    return Intake(
        books=circuit.books,
        readings=readings,
        clock=circuit.clock,
        points={("m1", 1): PointConfig(circuit_id=CIRCUIT, limits=circuit.limits)},
        poll_cycle_s=30,
        zone=ZONE,
        decide=decide,
        writer=writer,
        batch_s=0.001,
    )


def take(circuit: MeteredCircuit, intake: Intake, count: int) -> None:
    """Take so many samples in at once, a second apart."""
    for _ in range(count):
        circuit.clock.current += timedelta(seconds=1)
        channel = ChannelSample(channel=1, register_wh=5_000_000)
        intake.submit(ModuleSample(module_id="m1", at=circuit.clock.current, channels=[channel]))
    asyncio.run(intake.flush())


@pytest.mark.parametrize(
    ("samples", "took_s", "expected"),
    [(167, 0.04, 83), (167, 0.005, 668), (10, 1.0, LEAST_FITTING), (5, 0.0, BATCH_LIMIT)],
)
def test_as_many_samples_fit_as_the_last_ones_took_time(samples: int, took_s: float, expected: int):
    assert fitting(samples, took_s) == expected


def test_slow_samples_are_committed_a_few_at_a_time_and_all_of_them(
    metered: MeteredCircuit, writer: ThreadPoolExecutor
):
    slow = Transactions(metered, took_s=0.1)
    intake = make_intake(metered, writer, readings=Nothing(), decide=slow)
    take(metered, intake, 100)
    assert slow.sizes == [100]
    slow.sizes.clear()
    take(metered, intake, 100)
    assert slow.sizes == [LEAST_FITTING] * 3 + [100 - 3 * LEAST_FITTING]
    slow.took_s = 0.0
    take(metered, intake, 1)
    slow.sizes.clear()
    take(metered, intake, 100)
    assert slow.sizes == [100]


def test_intake_that_is_behind_takes_as_many_at_once_as_may_be(
    metered: MeteredCircuit, writer: ThreadPoolExecutor
):
    slow = Transactions(metered, took_s=0.1)
    intake = make_intake(metered, writer, readings=Nothing(), decide=slow)
    take(metered, intake, 10)
    slow.sizes.clear()
    take(metered, intake, SHORT_QUEUE + 1)
    assert slow.sizes == [SHORT_QUEUE + 1]


def test_readings_are_stored_while_others_may_write_to_the_books(
    metered: MeteredCircuit, writer: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    other = OtherWriter(metered.books)
    intake = make_intake(metered, writer, readings=other, decide=Transactions(metered, took_s=0.0))
    take(metered, intake, 1)
    take(metered, intake, 1)
    assert [one.at for one in other.kept] == [START + timedelta(seconds=1), START + timedelta(seconds=2)]


def test_what_a_person_decides_while_a_batch_is_stored_comes_before_its_samples(
    metered: MeteredCircuit, writer: ThreadPoolExecutor
):
    metered.take((1, 9_000_000))  # far too much in a minute
    assert metered.only(tables.quarantines).closed_at is None
    meanwhile = DecidesMeanwhile(metered)
    intake = make_intake(metered, writer, readings=meanwhile, decide=lambda *_: lambda: None)
    metered.clock.current = metered.at(2)
    back = ChannelSample(channel=1, register_wh=5_000_100)  # the register returns by itself
    intake.submit(ModuleSample(module_id="m1", at=metered.at(2), channels=[back]))
    asyncio.run(intake.flush())
    assert meanwhile.decided
    assert metered.all(tables.quarantines)[0].decision == "estimated"
    assert metered.only(tables.meter_points).metered_wh == 700
    assert metered.faults() == []


def test_a_change_that_waits_for_another_channel_of_the_site_holds_nothing_up(
    metered: MeteredCircuit, writer: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    """It may wait for days: until the site is described so."""
    with metered.books.write() as connection:
        meter_changes.record(
            connection,
            circuit_id=CIRCUIT,
            change=Change(
                kind=Kind.REPLACEMENT,
                module_id="m2",
                channel=1,
                changed_at=metered.at(0.5),
                first_register_wh=0,
                final_register_wh=None,
                note="",
            ),
            limits=metered.limits,
            actor="wu",
            now=metered.at(1),
        )
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    other = OtherWriter(metered.books)
    intake = make_intake(metered, writer, readings=other, decide=Transactions(metered, took_s=0.0))
    take(metered, intake, 1)
    assert len(other.kept) == 1
