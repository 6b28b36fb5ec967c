"""Settlement and daily usage on real books, fed by the real intake: what is charged is what was used."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import journal, tables
from dormpower.books.database import Books
from dormpower.books.settlement import DayTarget, SettlementReport, due, settle
from dormpower.books.usage import Quality, UnableToListUsageError, daily_usage, days_left
from dormpower.clock import ManualClock
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.samples import ChannelSample, ModuleSample
from gateway.intake import Intake
from gateway.point_memory import PointConfig

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # 08:00 on campus
CIRCUITS = [f"south-01-10{number}-ac" for number in range(4)]
CIRCUIT = CIRCUITS[0]
FIRST_DAY = date(2026, 3, 2)


class FakeJournal:
    """Keeps a list of postings and the books' sums as the port says; may die in mid-transaction."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, date, int, int]] = []
        self.fault: Exception | None = None

    def post_consumptions(self, connection: Connection, rows: Sequence[DayTarget], *, now: datetime) -> None:
        for row in rows:
            connection.execute(
                sa.insert(tables.settled_days).values(
                    circuit_id=row.circuit_id,
                    used_on=row.used_on,
                    account_id=row.account_id,
                    energy_wh=row.energy_wh,
                    estimated=row.estimated,
                    settled_at=now,
                )
            )
            self._post(connection, row)
        if self.fault is not None:
            raise self.fault

    def post_adjustment(self, connection: Connection, row: DayTarget, *, now: datetime) -> None:
        connection.execute(
            sa.update(tables.settled_days)
            .where(
                tables.settled_days.c.circuit_id == row.circuit_id,
                tables.settled_days.c.used_on == row.used_on,
            )
            .values(
                energy_wh=tables.settled_days.c.energy_wh + row.difference_wh,
                postings=row.number,
                estimated=row.estimated,
                settled_at=now,
            )
        )
        self._post(connection, row)

    def _post(self, connection: Connection, row: DayTarget) -> None:
        points = tables.meter_points
        connection.execute(
            sa.update(points)
            .where(points.c.circuit_id == row.circuit_id)
            .values(settled_wh=points.c.settled_wh + row.difference_wh)
        )
        self.posted.append((row.circuit_id, row.used_on, row.number, row.difference_wh))


class Campus:
    """Four circuits on one module with an account each, an intake, and a journal."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.journal = FakeJournal()
        self.clock = ManualClock(current=START)
        self.writer = ThreadPoolExecutor(1)
        self._build()
        self.intake = Intake(
            books=books,
            readings=self,
            clock=self.clock,
            points={
                ("m-1", channel): PointConfig(
                    circuit_id=circuit_id, limits=ChannelLimits(rated_current_a=32, resolution_wh=10)
                )
                for channel, circuit_id in enumerate(CIRCUITS)
            },
            poll_cycle_s=30,
            zone=ZONE,
            decide=lambda connection, observations, now: lambda: None,
            writer=self.writer,
        )

    def append(self, readings: Sequence[object]) -> None:
        """Be the readings store; these tests are about the books."""

    def _build(self) -> None:
        with self.books.write() as connection:
            connection.execute(sa.insert(tables.modules).values(module_id="m-1", profile="four"))
            for channel, circuit_id in enumerate(CIRCUITS):
                room_id = circuit_id.removesuffix("-ac")
                connection.execute(
                    sa.insert(tables.rooms).values(
                        room_id=room_id, campus="south", building="01", floor="1", name="", rated_current_a=32
                    )
                )
                connection.execute(
                    sa.insert(tables.circuits).values(circuit_id=circuit_id, room_id=room_id, kind="ac")
                )
                connection.execute(
                    sa.insert(tables.channel_spans).values(
                        circuit_id=circuit_id,
                        module_id="m-1",
                        channel=channel,
                        from_at=START,
                        first_register_wh=0,
                    )
                )
                connection.execute(sa.insert(tables.meter_points).values(circuit_id=circuit_id))
                connection.execute(
                    sa.insert(tables.accounts).values(account_id=f"account-{circuit_id}", opened_at=START)
                )
                connection.execute(
                    sa.insert(tables.account_links).values(
                        account_id=f"account-{circuit_id}", circuit_id=circuit_id, from_on=FIRST_DAY
                    )
                )

    def take(self, *hours_and_wh: tuple[float, int]) -> None:
        """Take in samples of all circuits: hours after the start, and their register."""
        for hours, register_wh in hours_and_wh:
            at = START + timedelta(hours=hours)
            self.clock.current = max(self.clock.current, at)
            channels = [
                ChannelSample(channel=channel, register_wh=register_wh) for channel in range(len(CIRCUITS))
            ]
            self.intake.submit(ModuleSample(module_id="m-1", at=at, channels=channels))
        asyncio.run(self.intake.flush())

    def settle(self, hours: float, *, chunk: int = 3) -> SettlementReport:
        return settle(
            self.books,
            journal=self.journal,
            now=START + timedelta(hours=hours),
            zone=ZONE,
            chunk=chunk,
        )

    def usage(self, hours: float, days: int = 6) -> list[tuple[int | None, str]]:
        with self.books.read() as connection:
            rows = daily_usage(
                connection,
                circuit_id=CIRCUIT,
                from_on=FIRST_DAY,
                to_on=FIRST_DAY + timedelta(days=days - 1),
                now=START + timedelta(hours=hours),
                zone=ZONE,
            )
        return [(row.energy_wh, row.quality.value) for row in rows]

    def charged_wh(self) -> int:
        """Return what is charged for the first circuit, proving that the books agree on it."""
        points, days = tables.meter_points, tables.settled_days
        with self.books.read() as connection:
            point = connection.execute(sa.select(points).where(points.c.circuit_id == CIRCUIT)).one()
            total_wh = connection.scalar(
                sa.select(sa.func.coalesce(sa.func.sum(days.c.energy_wh), 0)).where(
                    days.c.circuit_id == CIRCUIT
                )
            )
        assert point.settled_wh == total_wh == sum(p[3] for p in self.journal.posted if p[0] == CIRCUIT)
        return int(total_wh)


@pytest.fixture
def campus(books: Books) -> Iterator[Campus]:
    campus = Campus(books)
    yield campus
    campus.writer.shutdown()


def hourly(until: int) -> list[tuple[float, int]]:
    """1 kW, a sample each full hour (midnight on campus is one of them)."""
    return [(hour, 1000 * hour) for hour in range(1, until + 1)]


def test_a_day_is_posted_once_a_sample_at_or_after_its_end_exists(campus: Campus) -> None:
    campus.take(*hourly(15))
    assert campus.settle(15).posted == 0
    campus.take((16, 16_000))  # midnight on campus
    with campus.books.read() as connection:
        assert due(connection, now=START + timedelta(hours=16), zone=ZONE) == 4
    assert campus.settle(16).posted == 4
    assert campus.usage(16, 2) == [(16_000, "measured"), (0, "open")]
    assert campus.charged_wh() == 16_000


def test_settling_again_posts_nothing(campus: Campus) -> None:
    campus.take(*hourly(50))
    assert campus.settle(50).posted == 8
    again = campus.settle(50)
    assert (again.posted, again.adjusted, again.unchanged) == (0, 0, 0)
    assert len(campus.journal.posted) == 8


def test_daily_usage_adds_up_to_what_was_charged_plus_the_open_part(campus: Campus) -> None:
    campus.take(*hourly(20), (70, 70_000))
    campus.settle(70)
    usage = campus.usage(70)
    assert usage == [
        (16_000, "measured"),
        (24_000, "estimated"),
        (24_000, "estimated"),
        (6_000, "open"),
        (None, "open"),
        (None, "open"),
    ]
    assert sum(wh for wh, quality in usage if wh is not None and quality != "open") == campus.charged_wh()


def test_a_silent_module_is_settled_after_72_hours_with_what_is_known_and_adjusted_once(campus: Campus) -> None:
    campus.take(*hourly(10))
    assert campus.settle(16 + 71).posted == 0
    assert campus.usage(87, 2) == [(10_000, "open"), (None, "open")]
    assert campus.settle(16 + 72).posted == 4
    assert campus.settle(16 + 96).posted == 4
    assert campus.usage(112, 3) == [(10_000, "estimated"), (0, "estimated"), (None, "open")]
    campus.take((120, 120_000))
    report = campus.settle(120)
    assert (report.adjusted, report.posted) == (8, 12)
    assert campus.charged_wh() == 16_000 + 4 * 24_000
    assert [p[1:] for p in campus.journal.posted if p[0] == CIRCUIT and p[1] == FIRST_DAY] == [
        (FIRST_DAY, 1, 10_000),
        (FIRST_DAY, 2, 6_000),
    ]
    assert campus.settle(121).adjusted == 0


def test_a_late_sample_gives_both_days_one_adjustment_that_cancel_out(campus: Campus) -> None:
    campus.take((24, 24_000))
    campus.take((48, 48_000))
    campus.settle(48)
    campus.take((15.995, 20_000))
    before_wh = campus.charged_wh()
    assert campus.usage(48, 2) == [(16_000, "estimated"), (24_000, "estimated")]
    report = campus.settle(48)
    assert (report.adjusted, report.energy_wh) == (8, 0)
    assert campus.usage(48, 2) == [(20_000, "measured"), (20_000, "estimated")]
    assert campus.charged_wh() == before_wh


def test_a_settlement_that_dies_leaves_whole_chunks_and_is_taken_up(campus: Campus) -> None:
    campus.take(*hourly(20))
    campus.journal.fault = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        campus.settle(20)
    campus.journal.posted.clear()  # rolled back with the transaction
    campus.journal.fault = None
    assert campus.settle(20).posted == 4
    assert campus.charged_wh() == 16_000


def test_settling_while_samples_come_in_charges_everything_once(campus: Campus) -> None:
    finished = threading.Event()

    def settle_all_the_time() -> None:
        while not finished.is_set():
            campus.settle(170, chunk=2)

    with ThreadPoolExecutor(1) as settler:
        settling = settler.submit(settle_all_the_time)
        try:
            campus.clock.current = START + timedelta(hours=200)
            for hour in (9, 17, 40, 70, 15, 71, 100, 99, 64.5, 170):
                campus.take((hour, round(1000 * hour)))
        finally:
            finished.set()
        settling.result()
    campus.settle(170)
    assert campus.charged_wh() == 160_000
    assert campus.usage(170, 8)[-1] == (10_000, "open")


def test_a_day_without_an_account_stays_due_and_is_reported(campus: Campus) -> None:
    with campus.books.write() as connection:
        connection.execute(sa.update(tables.account_links).values(from_on=FIRST_DAY + timedelta(days=1)))
    campus.take(*hourly(45))
    report = campus.settle(45)
    assert report.posted == 4
    assert report.unlinked == [(circuit_id, FIRST_DAY) for circuit_id in CIRCUITS]
    with campus.books.write() as connection:
        connection.execute(sa.update(tables.account_links).values(from_on=FIRST_DAY))
    assert campus.settle(45).posted == 4


def test_the_real_journal_is_such_a_journal_and_posts_the_same_days(campus: Campus) -> None:
    campus.take(*hourly(10), (120, 120_000))
    for _ in range(2):
        settle(campus.books, journal=journal, now=START + timedelta(hours=120), zone=ZONE, chunk=3)
    campus.take((15.995, 16_500))
    settle(campus.books, journal=journal, now=START + timedelta(hours=120), zone=ZONE)
    with campus.books.read() as connection:
        kinds = connection.execute(
            sa.select(
                tables.transactions.c.kind,
                sa.func.count(),
                sa.func.sum(tables.transactions.c.energy_wh),
            )
            .group_by(tables.transactions.c.kind)
            .order_by(tables.transactions.c.kind.desc())
        ).all()
        settled_wh = connection.scalars(sa.select(tables.meter_points.c.settled_wh)).all()
    assert kinds[0][:2] == ("consumption", 20)
    assert kinds[1][0] == "adjustment"
    # 16,500 Wh up to 18 s before midnight, then 96.005 of 104.005 hours' share of 103,500 Wh.
    assert set(settled_wh) == {112_039}
    assert sum(wh or 0 for wh, quality in campus.usage(120, 5) if quality != "open") == settled_wh[0]


def test_a_period_that_is_too_long_or_empty_is_refused(campus: Campus) -> None:
    for days in (0, 367):
        with pytest.raises(UnableToListUsageError, match="expected 1 to 366 days"):
            campus.usage(1, days)


def test_registers_are_those_of_the_only_segment(campus: Campus) -> None:
    campus.take(*hourly(20))
    with campus.books.read() as connection:
        rows = daily_usage(
            connection,
            circuit_id=CIRCUIT,
            from_on=FIRST_DAY,
            to_on=FIRST_DAY + timedelta(days=1),
            now=START + timedelta(hours=20),
            zone=ZONE,
        )
    assert [(row.register_from_wh, row.register_to_wh, row.segments) for row in rows] == [
        (0, 16_000, 1),
        (16_000, 20_000, 1),
    ]
    assert rows[1].quality is Quality.OPEN


def test_days_left_go_by_recent_whole_days(campus: Campus) -> None:
    now = START + timedelta(hours=70)
    with campus.books.read() as connection:
        assert days_left(connection, circuit_id=CIRCUIT, available_wh=1, now=now, zone=ZONE) is None
    campus.take(*hourly(70))
    campus.settle(70)
    with campus.books.read() as connection:
        # 16, 24 and 24 kWh on three known days.
        assert days_left(connection, circuit_id=CIRCUIT, available_wh=64_000, now=now, zone=ZONE) == 3
