"""Intake on real books and a real readings store: one order of commit, nothing lost and nothing twice."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import quarantines, tables
from dormpower.books.database import Books
from dormpower.clock import ManualClock
from dormpower.domain.meter_state import ChannelLimits, Standing
from dormpower.domain.samples import ChannelSample, Flag, ModuleSample, Observation, Relay, Verdict
from dormpower.readings.port import Reading, UnableToReachReadingsError
from gateway.intake import Intake
from gateway.point_memory import PointConfig
from gateway.sample_queue import SampleQueue

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # 08:00 on campus
LIMITS = ChannelLimits(rated_current_a=32, resolution_wh=10, modulus_wh=1_000_000_000)
CIRCUIT = "south-01-101-ac"


class FakeReadings:
    """A readings store in memory that can be out of reach."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, datetime], Reading] = {}
        self.away = False

    def append(self, readings: Sequence[Reading]) -> None:
        if self.away:
            raise UnableToReachReadingsError("readings.db: disk full")
        self.rows |= {(reading.circuit_id, reading.at): reading for reading in readings}


class FakeDecide:
    """Policies that only take notes, and may fail inside the transaction."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.fault: Exception | None = None

    def __call__(
        self, connection: Connection, observations: Sequence[Observation], now: datetime
    ) -> Callable[[], None]:
        if self.fault is not None:
            raise self.fault
        observed = list(observations)
        return lambda: self.seen.extend(observed)


def add_room(books: Books, *, first_register_wh: int | None = 1000) -> None:
    with books.write() as connection:
        connection.execute(
            sa.insert(tables.rooms).values(
                room_id="south-01-101",
                campus="south",
                building="01",
                floor="1",
                name="101",
                rated_current_a=32,
            )
        )
        connection.execute(
            sa.insert(tables.circuits).values(circuit_id=CIRCUIT, room_id="south-01-101", kind="ac")
        )
        for module_id in ("m-1", "m-2"):
            connection.execute(sa.insert(tables.modules).values(module_id=module_id, profile="dormpower-dual"))
        connection.execute(
            sa.insert(tables.channel_spans).values(
                circuit_id=CIRCUIT,
                module_id="m-1",
                channel=1,
                from_at=START,
                first_register_wh=first_register_wh,
            )
        )
        connection.execute(sa.insert(tables.meter_points).values(circuit_id=CIRCUIT))


class Gateway:
    """An intake with what stands around it; `restart` gives a new one on the same stores, as after kill -9."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.readings = FakeReadings()
        self.clock = ManualClock(current=START)
        self.decide = FakeDecide()
        self.writer = ThreadPoolExecutor(1)
        self.acknowledged: list[int] = []
        self.restart()

    def restart(self, **options: float) -> None:
        self.intake = Intake(
            books=self.books,
            readings=self.readings,
            clock=self.clock,
            points={
                (module_id, 1): PointConfig(circuit_id=CIRCUIT, limits=LIMITS) for module_id in ("m-1", "m-2")
            },
            poll_cycle_s=30,
            zone=ZONE,
            decide=self.decide,
            writer=self.writer,
            **{"batch_s": 0.001, **options},
        )

    def submit(self, minute: float, register_wh: int | None, *, module_id: str = "m-1") -> None:
        at = START + timedelta(minutes=minute)
        self.clock.current = max(self.clock.current, at)
        channel = ChannelSample(
            channel=1, register_wh=register_wh, power_w=100.0, relay=Relay.CLOSED, flags=frozenset()
        )
        number = len(self.acknowledged)
        self.intake.submit(
            ModuleSample(module_id=module_id, at=at, channels=[channel]),
            done=lambda: self.acknowledged.append(number),
        )

    def flush(self) -> None:
        asyncio.run(self.intake.flush())

    def take(self, *samples: tuple[float, int | None]) -> None:
        for minute, register_wh in samples:
            self.submit(minute, register_wh)
        self.flush()

    def point(self) -> sa.Row:
        return self.all(tables.meter_points)[0]

    def all(self, table: sa.Table) -> Sequence[sa.Row]:
        with self.books.read() as connection:
            return connection.execute(sa.select(table).order_by(*table.primary_key)).all()

    def days(self) -> dict[date, int]:
        """Return the energy of each day: its segments and the open part; and prove invariant 10 on the way."""
        point = self.point()
        rows = self.all(tables.segments)
        rows = sorted(rows, key=lambda row: (row.from_at, row.segment_id))
        days: dict[date, int] = {}
        for row in rows:
            assert row.energy_wh >= 0
            days[row.used_on] = days.get(row.used_on, 0) + row.energy_wh
        for row, following in itertools.pairwise(rows):
            assert (row.to_at, row.to_register_wh) == (following.from_at, following.from_register_wh)
        if rows:
            assert (rows[-1].to_at, rows[-1].to_register_wh) == (point.segment_from_at, point.segment_from_wh)
        days[point.open_on] = days.get(point.open_on, 0) + point.register_wh - point.segment_from_wh
        assert sum(days.values()) == point.metered_wh
        return days


@pytest.fixture
def gateway(books: Books) -> Iterator[Gateway]:
    add_room(books)
    gateway = Gateway(books)
    yield gateway
    gateway.writer.shutdown()


def test_a_sample_is_durable_in_both_stores_before_it_is_acknowledged(gateway: Gateway) -> None:
    gateway.submit(1, 1050)
    assert gateway.acknowledged == []
    gateway.flush()
    assert len(gateway.acknowledged) == 1
    point = gateway.point()
    assert (point.register_wh, point.metered_wh, point.standing) == (1050, 50, "accepted")
    assert (point.relay, point.power_w, point.flags) == ("closed", 100.0, "")
    assert point.last_seen_at == point.register_at == START + timedelta(minutes=1)
    assert [reading.register_wh for reading in gateway.readings.rows.values()] == [1050]
    assert [(o.verdict, o.metered_wh) for o in gateway.decide.seen] == [(Verdict.ACCEPTED, 50)]


def test_a_fast_sample_is_observed_and_moves_no_register(gateway: Gateway) -> None:
    gateway.take((1, 1050), (1.5, None))
    point = gateway.point()
    assert point.register_at == START + timedelta(minutes=1)
    assert point.last_seen_at == START + timedelta(minutes=1.5)
    assert [o.verdict for o in gateway.decide.seen] == [Verdict.ACCEPTED, Verdict.NO_REGISTER]
    assert len(gateway.readings.rows) == 1


def test_late_samples_reach_no_policy_and_change_no_present(gateway: Gateway) -> None:
    gateway.take((5, 1050))
    before = gateway.point()
    gateway.take((4, 1040), (5, 1050), (3, None), (2, 900_000))
    assert gateway.point() == before
    assert len(gateway.decide.seen) == 1
    assert gateway.intake.counters.late == 4
    assert sorted(r.register_wh for r in gateway.readings.rows.values()) == [1040, 1050]


def test_a_module_whose_clock_is_ahead_is_refused(gateway: Gateway) -> None:
    gateway.submit(60, 1050)
    gateway.clock.current = START
    gateway.flush()
    assert gateway.point().register_wh == 1000
    assert gateway.intake.counters.refused == 1
    assert gateway.decide.seen == []


def test_a_batch_that_failed_is_kept_and_judged_again_from_the_same_states(gateway: Gateway) -> None:
    gateway.take((1, 1050))
    gateway.decide.fault = sa.exc.OperationalError("COMMIT", None, Exception("disk full"))
    gateway.submit(2, 1100)
    with pytest.raises(sa.exc.OperationalError):
        gateway.flush()
    assert gateway.point().register_wh == 1050
    state = gateway.intake.state(CIRCUIT)
    assert state is not None
    assert state.metered_wh == 50
    assert len(gateway.acknowledged) == 1
    gateway.decide.fault = None
    gateway.flush()
    assert gateway.point().metered_wh == 100
    assert len(gateway.acknowledged) == 2
    assert len(gateway.decide.seen) == 2


def test_a_crash_between_the_two_stores_leaves_a_batch_that_can_be_replayed(gateway: Gateway) -> None:
    gateway.take((1, 1050))
    gateway.decide.fault = RuntimeError("killed")
    gateway.submit(2, 1100)
    with pytest.raises(RuntimeError):
        gateway.flush()
    assert len(gateway.readings.rows) == 2
    gateway.decide.fault = None
    gateway.restart()
    gateway.take((1, 1050), (2, 1100), (2, 1100))
    assert gateway.point().metered_wh == 100
    assert len(gateway.readings.rows) == 2
    assert gateway.days() == {date(2026, 3, 2): 100}


def test_a_restart_at_any_time_gives_the_same_days(gateway: Gateway) -> None:
    # 1 kW for four days, a sample each hour, two long gaps, arriving out of order in batches between restarts.
    history = [(60 * hour, 1000 + 1000 * hour) for hour in range(1, 96) if hour % 40 not in range(10, 17)]
    expected = {
        date(2026, 3, 2): 16_000,
        date(2026, 3, 3): 24_000,
        date(2026, 3, 4): 24_000,
        date(2026, 3, 5): 24_000,
        date(2026, 3, 6): 8_000,
    }
    history.append((60 * 96, 97_000))
    shuffled = history + history[::7]
    random.Random(5).shuffle(shuffled)
    for number in range(0, len(shuffled), 9):
        gateway.take(*shuffled[number : number + 9])
        gateway.restart()
    assert gateway.days() == expected
    boundaries = {row.begins_on: row.metered_wh for row in gateway.all(tables.day_boundaries)}
    assert list(boundaries.values()) == [16_000, 40_000, 64_000, 88_000]


def test_a_late_sample_moves_a_boundary_and_with_it_two_days_and_tells_settlement(gateway: Gateway) -> None:
    gateway.take((1440, 25_000))  # from 08:00 to 08:00, midnight 16 h after the start
    assert gateway.days() == {date(2026, 3, 2): 16_000, date(2026, 3, 3): 8_000}
    assert len(gateway.all(tables.day_changes)) == 1
    gateway.take((959, 24_000))
    assert gateway.days() == {date(2026, 3, 2): 23_000, date(2026, 3, 3): 1_000}
    assert [row.estimated for row in gateway.all(tables.day_boundaries)] == [False]
    assert sorted({row.used_on for row in gateway.all(tables.day_changes)}) == [
        date(2026, 3, 2),
        date(2026, 3, 3),
    ]
    state = gateway.intake.state(CIRCUIT)
    assert state is not None
    assert state.segment_from_wh == 24_000
    assert START + timedelta(minutes=959) in {at for _, at in gateway.readings.rows}


def test_a_quarantine_is_an_alarm_with_its_evidence_and_a_return_ends_it(gateway: Gateway) -> None:
    gateway.take((1, 900_000), (2, 900_000))
    (row,) = gateway.all(tables.quarantines)
    assert (row.reason, row.accepted_register_wh, row.closed_at) == ("step_too_large", 1000, None)
    assert row.evidence["register_wh"] == 900_000
    (alarm,) = gateway.all(tables.alarms)
    assert (alarm.kind, alarm.circuit_id, alarm.cleared_at) == ("register_quarantined", CIRCUIT, None)
    assert [o.verdict for o in gateway.decide.seen] == [Verdict.QUARANTINED] * 2
    gateway.restart()
    gateway.take((3, 1020))
    (row,) = gateway.all(tables.quarantines)
    assert (row.decision, row.closed_at) == ("returned", gateway.clock.now())
    assert gateway.all(tables.alarms)[0].cleared_at is not None
    assert gateway.point().metered_wh == 20


def test_a_quarantine_that_opens_closes_and_opens_in_one_batch_is_on_record(gateway: Gateway) -> None:
    gateway.take((1, 900_000), (2, 1020), (3, 900_000))
    assert [row.decision for row in gateway.all(tables.quarantines)] == ["returned", None]


@pytest.mark.parametrize(("decide", "metered_wh"), [("accept", 899_000), ("dismiss", 0), ("estimate", 300)])
def test_a_decision_takes_effect_with_the_next_batch_and_loses_nothing(
    gateway: Gateway, decide: str, metered_wh: int
) -> None:
    gateway.take((1, 900_000))
    quarantine_id = gateway.all(tables.quarantines)[0].quarantine_id
    options = {"energy_wh": 300} if decide == "estimate" else {}
    with gateway.books.write() as connection:
        getattr(quarantines, decide)(
            connection, quarantine_id=quarantine_id, actor="li", now=gateway.clock.now(), **options
        )
    assert [row.cause for row in gateway.all(tables.intents)] == [quarantines.INTENT_CAUSE]
    gateway.intake.reload(CIRCUIT)
    gateway.flush()
    assert gateway.point().metered_wh == metered_wh
    gateway.take((2, 900_040))
    assert gateway.point().metered_wh == metered_wh + 40
    assert sum(gateway.days().values()) == metered_wh + 40
    (row,) = gateway.all(tables.quarantines)
    assert (row.decided_by, row.closed_at is None) == ("li", False)
    with (
        pytest.raises(quarantines.UnableToDecideQuarantineError, match="already"),
        gateway.books.write() as connection,
    ):
        quarantines.dismiss(connection, quarantine_id=quarantine_id, actor="wu", now=gateway.clock.now())


def test_a_replaced_module_goes_on_where_the_old_one_ended(gateway: Gateway) -> None:
    gateway.take((1, 1050), (2, 900_000))
    with gateway.books.write() as connection:
        connection.execute(
            sa.update(tables.channel_spans).values(to_at=START + timedelta(minutes=10), final_register_wh=1060)
        )
        connection.execute(
            sa.insert(tables.channel_spans).values(
                circuit_id=CIRCUIT,
                module_id="m-2",
                channel=1,
                from_at=START + timedelta(minutes=10),
                first_register_wh=5,
            )
        )
    gateway.intake.reload(CIRCUIT)
    gateway.submit(11, 35, module_id="m-2")
    gateway.flush()
    state = gateway.intake.state(CIRCUIT)
    assert state is not None
    assert (state.standing, state.metered_wh) == (Standing.ACCEPTED, 90)
    assert [row.cause for row in gateway.all(tables.segments)] == ["measured", "replacement"]
    assert [row.decision for row in gateway.all(tables.quarantines)] == ["replaced"]
    assert gateway.days() == {date(2026, 3, 2): 90}


def test_a_channel_without_a_commissioning_record_needs_three_samples_across_a_restart(books: Books) -> None:
    add_room(books, first_register_wh=None)
    gateway = Gateway(books)
    gateway.take((1, 700_000), (2, 700_010))
    gateway.restart()
    gateway.take((3, 700_030))
    assert gateway.point().metered_wh == 30
    assert [o.verdict for o in gateway.decide.seen] == [Verdict.COMMISSIONING] * 2 + [Verdict.ACCEPTED]
    gateway.writer.shutdown()


def polled(minute: float) -> ModuleSample:
    at = START + timedelta(minutes=minute)
    return ModuleSample(module_id="m-1", at=at, channels=[ChannelSample(channel=1, register_wh=1000)])


def test_a_full_queue_gives_up_its_oldest_polled_sample_and_never_an_awaited_one(gateway: Gateway) -> None:
    gateway.restart(queue_limit=3)
    gateway.submit(1, 1001)
    gateway.intake.submit(polled(2))
    gateway.intake.submit(polled(3))
    gateway.submit(4, 1004)
    gateway.submit(5, 1005)
    assert (gateway.intake.counters.dropped, gateway.intake.counters.queue_depth) == (2, 3)
    gateway.flush()
    assert len(gateway.acknowledged) == 3
    assert gateway.point().metered_wh == 5


def test_a_full_queue_of_awaited_samples_refuses_a_polled_one(gateway: Gateway) -> None:
    gateway.restart(queue_limit=2)
    gateway.submit(1, 1001)
    gateway.submit(2, 1002)
    gateway.intake.submit(polled(3))
    assert (gateway.intake.counters.dropped, gateway.intake.counters.queue_depth) == (1, 2)
    gateway.flush()
    assert len(gateway.acknowledged) == 2


def test_the_queue_is_bounded_also_where_every_sample_is_awaited(gateway: Gateway) -> None:
    gateway.restart(queue_limit=2)
    for minute in range(1, 5):
        gateway.submit(minute, 1000 + minute)
    assert (gateway.intake.counters.dropped, gateway.intake.counters.queue_depth) == (2, 2)
    gateway.flush()
    assert gateway.point().metered_wh == 4


def test_samples_are_taken_in_the_order_of_their_arrival_whatever_their_kind() -> None:
    queue = SampleQueue(10)
    kinds = [None, print, print, None, print, None, None]
    for minute, done in enumerate(kinds):
        assert queue.put(polled(minute), done)
    taken = queue.take(3) + queue.take(len(kinds))
    assert [sample.at for sample, _ in taken] == [polled(minute).at for minute in range(len(kinds))]
    assert len(queue) == 0


def test_an_unknown_channel_is_counted_and_acknowledged(gateway: Gateway) -> None:
    gateway.submit(1, 5, module_id="stranger")
    gateway.flush()
    assert gateway.intake.counters.unknown_channel == 1
    assert len(gateway.acknowledged) == 1


def test_flags_are_kept_as_the_module_reports_them(gateway: Gateway) -> None:
    at = START + timedelta(minutes=1)
    gateway.clock.current = at
    channel = ChannelSample(channel=1, flags=frozenset({Flag.OVERLOAD_TRIP, Flag.COVER_OPEN}))
    gateway.intake.submit(ModuleSample(module_id="m-1", at=at, channels=[channel]))
    gateway.flush()
    assert gateway.point().flags == "cover_open,overload_trip"


async def until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the conditions are counters, not events
            await asyncio.sleep(0.005)


def test_an_outage_of_the_readings_store_is_sat_out_and_nothing_is_lost(
    sqlite_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.intake.FIRST_RETRY_S", 0.001)
    add_room(sqlite_books)
    gateway = Gateway(sqlite_books)

    async def story() -> None:
        running = asyncio.create_task(gateway.intake.run())
        gateway.readings.away = True
        gateway.submit(1, 1050)
        await until(lambda: gateway.intake.counters.retries >= 2)
        assert gateway.acknowledged == []
        gateway.submit(2, 1100)
        gateway.readings.away = False
        await until(lambda: len(gateway.acknowledged) == 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    assert gateway.point().metered_wh == 100
    assert len(gateway.readings.rows) == 2
    gateway.writer.shutdown()


def test_a_fault_that_does_not_pass_stops_the_intake_loudly(sqlite_books: Books) -> None:
    add_room(sqlite_books)
    gateway = Gateway(sqlite_books)
    gateway.decide.fault = ValueError("a broken policy")
    gateway.submit(1, 1050)
    with pytest.raises(ValueError, match="broken policy"):
        asyncio.run(gateway.intake.run())
    gateway.writer.shutdown()


def test_a_whole_batch_does_not_wait_for_the_next_second(sqlite_books: Books) -> None:
    add_room(sqlite_books)
    gateway = Gateway(sqlite_books)
    gateway.restart(batch_s=3600.0, batch_limit=2)

    async def story() -> None:
        running = asyncio.create_task(gateway.intake.run())
        gateway.submit(1, 1050)
        await until(lambda: len(gateway.acknowledged) == 1)
        gateway.submit(2, 1100)
        for _ in range(3):
            await asyncio.sleep(0)
        assert gateway.intake.counters.queue_depth == 1  # it waits for company
        gateway.submit(3, 1150)
        await until(lambda: len(gateway.acknowledged) == 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    assert gateway.point().metered_wh == 150
    gateway.writer.shutdown()
