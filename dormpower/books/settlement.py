"""Settlement: closing campus days and posting what each circuit used.

A day is posted once the position is at or after its end, else 72 h after its end without charging beyond the
position (estimated). What changes later gives one adjustment: the day's target less what is posted. A day's
target comes from the same query as daily usage.

Every transaction handles a few (circuit, day) and is complete in itself: a settlement that dies anywhere is
taken up by the next one, and a day that was posted is never posted again, because `settled_days` says so in
the same transaction. `day_changes` tells which days to look at; a change that commits while its day is being
settled has a row that this run did not see, so that it is never lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import journal as books_journal
from dormpower.books.database import Books, lock_rows
from dormpower.books.days import Day, day_energies
from dormpower.books.meters import lock_points
from dormpower.books.tables import account_links, day_changes, meter_points, settled_days
from dormpower.domain.days import ONE_DAY, CampusDays

WAIT_FOR_DATA = timedelta(hours=72)
CHUNK = 100
MAX_MISSING_DAYS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTarget:
    """What a circuit's day should be charged in all, and how that differs from what is posted.

    `posted_wh` is None for a day that nothing was posted for. `number` counts its postings: 1 is the day
    itself, higher ones are adjustments; with circuit and day it is the posting's key.
    """

    circuit_id: str
    used_on: date
    account_id: str
    energy_wh: int
    posted_wh: int | None
    number: int
    estimated: bool
    posted_estimated: bool = False

    @property
    def difference_wh(self) -> int:
        """What is to be posted now."""
        return self.energy_wh - (self.posted_wh or 0)


class DayJournal(Protocol):
    """Posts days; the module `books.journal` is one.

    In the same transaction it brings `settled_days` (energy, number of postings, estimated) and the circuit's
    `settled_wh` up by what it posts.
    """

    def post_consumptions(self, connection: Connection, rows: Sequence[DayTarget], *, now: datetime) -> None:
        """Post days that nothing was posted for."""

    def post_adjustment(self, connection: Connection, row: DayTarget, *, now: datetime) -> None:
        """Post `row.difference_wh`, which may be negative, under `row.number`."""


@dataclass(slots=True, kw_only=True)
class SettlementReport:
    """What a run did. `unlinked` are (circuit, day) that no account was linked to: they stay due."""

    posted: int = 0
    adjusted: int = 0
    unchanged: int = 0
    energy_wh: int = 0
    unlinked: list[Day] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Run:
    journal: DayJournal
    now: datetime
    given_up_on: date
    report: SettlementReport


Progress = Callable[[SettlementReport], None]


def due(connection: Connection, *, now: datetime, zone: tzinfo) -> int:
    """Return how many (circuit, day) wait for settlement, not counting days without any data."""
    given_up_on = _given_up_on(now, zone)
    days = _changes_query(given_up_on).with_only_columns(day_changes.c.circuit_id, day_changes.c.used_on)
    return connection.scalar(sa.select(sa.func.count()).select_from(days.distinct().subquery())) or 0


def settle(
    books: Books,
    *,
    now: datetime,
    zone: tzinfo,
    chunk: int = CHUNK,
    progress: Progress | None = None,
    journal: DayJournal = books_journal,
) -> SettlementReport:
    """Post all days that are due, in short transactions of at most `chunk` days; safe to repeat and to kill."""
    report = SettlementReport()
    run = _Run(journal, now, _given_up_on(now, zone), report)
    after_id: int | None = 0
    while after_id is not None:
        with books.write() as connection:
            lock_rows(connection, "settlement")
            after_id = _settle_changes(connection, run, after_id=after_id, chunk=chunk)
        if progress is not None:
            progress(report)
    circuit_id: str | None = ""
    while circuit_id is not None:
        with books.write() as connection:
            lock_rows(connection, "settlement")
            circuit_id = _settle_missing(connection, run, after_circuit_id=circuit_id)
        if progress is not None:
            progress(report)
    return report


def plan_settlement(connection: Connection, days: Sequence[Day]) -> tuple[list[DayTarget], list[Day]]:
    """Return the targets of (circuit, day), and those that no account was linked to on their day."""
    if not days:
        return [], []
    circuit_ids = sorted({circuit_id for circuit_id, _ in days})
    from_on, to_on = min(on for _, on in days), max(on for _, on in days)
    metered = day_energies(connection, circuit_ids=circuit_ids, from_on=from_on, to_on=to_on)
    posted = {
        (row.circuit_id, row.used_on): row
        for row in connection.execute(
            sa.select(settled_days).where(
                settled_days.c.circuit_id.in_(circuit_ids),
                settled_days.c.used_on >= from_on,
                settled_days.c.used_on <= to_on,
            )
        )
    }
    links = connection.execute(
        sa.select(account_links)
        .where(account_links.c.circuit_id.in_(circuit_ids))
        .order_by(account_links.c.from_on)
    ).all()
    targets: list[DayTarget] = []
    unlinked: list[Day] = []
    for circuit_id, on in sorted(set(days)):
        row = posted.get((circuit_id, on))
        account_ids = [
            link.account_id
            for link in links
            if link.circuit_id == circuit_id and link.from_on <= on and (link.to_on is None or on < link.to_on)
        ]
        if row is None and not account_ids:
            unlinked.append((circuit_id, on))
            continue
        day = metered.get((circuit_id, on))
        targets.append(
            DayTarget(
                circuit_id=circuit_id,
                used_on=on,
                account_id=account_ids[-1] if row is None else row.account_id,
                energy_wh=0 if day is None else day.energy_wh,
                posted_wh=None if row is None else row.energy_wh,
                number=1 if row is None else row.postings + 1,
                estimated=day is None or day.estimated or not day.closed,
                posted_estimated=row is not None and row.estimated,
            )
        )
    return targets, unlinked


def _given_up_on(now: datetime, zone: tzinfo) -> date:
    """Return the newest day that is posted even without a sample after its end."""
    return CampusDays(zone).last_day_over(at=now - WAIT_FOR_DATA)


def _changes_query(given_up_on: date) -> sa.Select[tuple[int, str, date]]:
    return (
        sa.select(day_changes.c.change_id, day_changes.c.circuit_id, day_changes.c.used_on)
        .join(meter_points, meter_points.c.circuit_id == day_changes.c.circuit_id)
        .where(sa.or_(day_changes.c.used_on < meter_points.c.open_on, day_changes.c.used_on <= given_up_on))
    )


def _settle_changes(connection: Connection, run: _Run, *, after_id: int, chunk: int) -> int | None:
    changes = connection.execute(
        _changes_query(run.given_up_on)
        .where(day_changes.c.change_id > after_id)
        .order_by(day_changes.c.change_id)
        .limit(chunk)
    ).all()
    if not changes:
        return None
    lock_points(connection, {row.circuit_id for row in changes})
    targets, unlinked = plan_settlement(connection, [(row.circuit_id, row.used_on) for row in changes])
    _post(connection, run, targets)
    run.report.unlinked += unlinked
    left = set(unlinked)
    connection.execute(
        sa.delete(day_changes).where(
            day_changes.c.change_id.in_(
                [row.change_id for row in changes if (row.circuit_id, row.used_on) not in left]
            )
        )
    )
    return int(changes[-1].change_id)


def _settle_missing(connection: Connection, run: _Run, *, after_circuit_id: str) -> str | None:
    """Post the days of one circuit whose module has been silent for too long; return where to go on."""
    last_on = (
        sa.select(sa.func.max(settled_days.c.used_on))
        .where(settled_days.c.circuit_id == meter_points.c.circuit_id)
        .scalar_subquery()
    )
    row = connection.execute(
        sa.select(meter_points.c.circuit_id, meter_points.c.open_on, last_on.label("last_on"))
        .where(
            meter_points.c.circuit_id > after_circuit_id,
            meter_points.c.open_on <= run.given_up_on,
            sa.or_(last_on.is_(None), last_on < run.given_up_on),
        )
        .order_by(meter_points.c.circuit_id)
        .limit(1)
    ).first()
    if row is None:
        return None
    lock_points(connection, [row.circuit_id])
    first_on = row.open_on if row.last_on is None else max(row.open_on, row.last_on + ONE_DAY)
    count = min((run.given_up_on - first_on).days + 1, MAX_MISSING_DAYS)
    days = [(row.circuit_id, first_on + timedelta(days=number)) for number in range(count)]
    targets, unlinked = plan_settlement(connection, days)
    _post(connection, run, targets)
    run.report.unlinked += unlinked
    return str(row.circuit_id)


def _post(connection: Connection, run: _Run, targets: Sequence[DayTarget]) -> None:
    first = [target for target in targets if target.posted_wh is None]
    if first:
        run.journal.post_consumptions(connection, first, now=run.now)
    run.report.posted += len(first)
    run.report.energy_wh += sum(target.energy_wh for target in first)
    for target in targets:
        if target.posted_wh is None:
            continue
        if target.energy_wh != target.posted_wh:
            run.journal.post_adjustment(connection, target, now=run.now)
            run.report.adjusted += 1
            run.report.energy_wh += target.difference_wh
            continue
        run.report.unchanged += 1
        if target.estimated != target.posted_estimated:
            connection.execute(
                sa.update(settled_days)
                .where(
                    settled_days.c.circuit_id == target.circuit_id,
                    settled_days.c.used_on == target.used_on,
                )
                .values(estimated=target.estimated)
            )
