"""Alarms in the books: one active alarm for one condition; every step leaves an event with it.

Where an alarm of a larger subject comes to tell of the condition, the smaller one is cleared and *folded into*
it: what was done with it stays on record, and nobody is asked to take note of it any more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books import alarm_steps, audit_log, events
from dormpower.books.ids import new_id
from dormpower.books.residencies import Span, within
from dormpower.books.tables import alarms, circuits, rooms
from dormpower.domain import alarms as domain_alarms
from dormpower.domain.alarms import AlarmLife, Priority

_IDS_AT_ONCE = 500
MAX_LISTED = 200


class UnableToFindAlarmError(Exception):
    """There is no alarm of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm as other systems see it (CONTRACT: alarms)."""

    alarm_id: str
    kind: str
    priority: str
    subject_kind: str
    subject_id: str
    circuit_id: str | None
    module_id: str | None
    line_id: str | None
    building: str | None
    raised_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    shelved_until_at: datetime | None
    shelved_by: str | None
    folded_into: str | None
    detail: dict[str, Any]


def raise_alarm(
    connection: Connection,
    *,
    kind: str,
    priority: str,
    subject_kind: str,
    subject_id: str,
    detail: dict[str, Any],
    now: datetime,
    circuit_id: str | None = None,
    module_id: str | None = None,
    line_id: str | None = None,
    building: str | None = None,
) -> str | None:
    """Raise an alarm and return its id; None where the same condition has an active alarm already.

    The building of a circuit is looked up where it is not given, so that staff can filter by it.
    """
    if building is None and circuit_id is not None:
        building = connection.scalar(
            sa.select(rooms.c.building)
            .join(circuits, circuits.c.room_id == rooms.c.room_id)
            .where(circuits.c.circuit_id == circuit_id)
        )
    alarm_id = new_id("alm", now)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # What was written is asked for: a driver may not count the rows of such an insert.
    raised = connection.scalar(
        insert(alarms)
        .values(
            alarm_id=alarm_id,
            kind=kind,
            priority=priority,
            subject_kind=subject_kind,
            subject_id=subject_id,
            circuit_id=circuit_id,
            module_id=module_id,
            line_id=line_id,
            building=building,
            raised_at=now,
            detail=detail,
        )
        .on_conflict_do_nothing()
        .returning(alarms.c.alarm_id)
    )
    if raised is None:
        return None
    alarm_steps.append(connection, alarm_id=alarm_id, step="raised", actor=alarm_steps.SYSTEM, now=now)
    events.append(connection, kind="alarm", subject_id=alarm_id, now=now)
    return alarm_id


def clear_alarm(
    connection: Connection, *, kind: str, subject_kind: str, subject_id: str, now: datetime
) -> str | None:
    """Clear the condition's active alarm and return its id; None where none is active."""
    cleared = clear_alarms(connection, kind=kind, subject_kind=subject_kind, subject_ids=[subject_id], now=now)
    return cleared[0] if cleared else None


def clear_alarms(
    connection: Connection,
    *,
    kind: str,
    subject_kind: str,
    subject_ids: Sequence[str],
    now: datetime,
    folded_into: str | None = None,
) -> list[str]:
    """Clear the active alarms of one kind of condition of several subjects; return their ids.

    `folded_into` is the alarm of a larger subject that tells of the conditions from now on.
    """
    cleared: list[str] = []
    for start in range(0, len(subject_ids), _IDS_AT_ONCE):
        active_ones = (
            sa.select(alarms.c.alarm_id)
            .where(
                alarms.c.kind == kind,
                alarms.c.subject_kind == subject_kind,
                alarms.c.subject_id.in_(list(subject_ids[start : start + _IDS_AT_ONCE])),
                alarms.c.cleared_at.is_(None),
            )
            .order_by(alarms.c.alarm_id)
            .with_for_update()
        )
        found = list(connection.scalars(active_ones))
        if found:
            connection.execute(
                sa.update(alarms)
                .where(alarms.c.alarm_id.in_(found))
                .values(cleared_at=now, folded_into=folded_into)
            )
        cleared += found
    alarm_steps.append_all(
        connection,
        alarm_ids=cleared,
        step="cleared",
        actor=alarm_steps.SYSTEM,
        detail=None if folded_into is None else {"folded_into": folded_into},
        now=now,
    )
    events.append_all(connection, kind="alarm", subject_ids=cleared, now=now)
    return cleared


def write_detail(connection: Connection, *, alarm_id: str, detail: Mapping[str, Any], now: datetime) -> None:
    """Write what has become of an active alarm's condition."""
    connection.execute(sa.update(alarms).where(alarms.c.alarm_id == alarm_id).values(detail=dict(detail)))
    events.append(connection, kind="alarm", subject_id=alarm_id, now=now)


def acknowledge(connection: Connection, *, alarm_id: str, actor: str, now: datetime) -> Alarm:
    """Put on record who took note, and return the alarm; the first person stays (a repeat changes nothing).

    Raises UnableToFindAlarmError for an unknown id.
    """
    alarm = get(connection, alarm_id, lock=True)
    before = AlarmLife(
        raised_at=alarm.raised_at,
        cleared_at=alarm.cleared_at,
        acknowledged_at=alarm.acknowledged_at,
        acknowledged_by=alarm.acknowledged_by,
    )
    after = domain_alarms.acknowledge(before, actor=actor, now=now)
    if after == before:
        return alarm
    connection.execute(
        sa.update(alarms)
        .where(alarms.c.alarm_id == alarm_id)
        .values(acknowledged_at=after.acknowledged_at, acknowledged_by=after.acknowledged_by)
    )
    alarm_steps.append(connection, alarm_id=alarm_id, step="acknowledged", actor=actor, now=now)
    events.append(connection, kind="alarm", subject_id=alarm_id, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action="alarm.acknowledge",
        subject_kind="alarm",
        subject_id=alarm_id,
        detail={"kind": alarm.kind, "subject_id": alarm.subject_id},
        now=now,
    )
    return get(connection, alarm_id)


def get(connection: Connection, alarm_id: str, *, lock: bool = False) -> Alarm:
    """Return one alarm. Raises UnableToFindAlarmError for an unknown id."""
    query = sa.select(alarms).where(alarms.c.alarm_id == alarm_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise UnableToFindAlarmError(f"alarm {alarm_id}: there is none of this id")
    return Alarm(**row)


def active(connection: Connection, *, kind: str | None = None) -> list[Alarm]:
    """Return all active alarms, or those of a kind, oldest first: what a gateway knows after a restart."""
    query = sa.select(alarms).where(alarms.c.cleared_at.is_(None)).order_by(alarms.c.alarm_id)
    if kind is not None:
        query = query.where(alarms.c.kind == kind)
    return [Alarm(**row) for row in connection.execute(query).mappings()]


def listing(
    connection: Connection,
    *,
    kinds: Collection[str] | None = None,
    state: Literal["active", "cleared"] | None = None,
    acknowledged: bool | None = None,
    building: str | None = None,
    circuit_id: str | None = None,
    spans: Sequence[Span] | None = None,
    shelved: tuple[bool, datetime] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[Alarm], str | None]:
    """Return a page of alarms, newest first, and the cursor of the next page (None at the end).

    `kinds` are those wanted (None: all). `spans` bounds when they were raised (None: ever). `shelved` chooses
    those that are put aside at an instant, or the others.
    """
    query = sa.select(alarms).where(within(spans, alarms.c.raised_at)).order_by(alarms.c.alarm_id.desc())
    if circuit_id is not None:
        query = query.where(alarms.c.circuit_id == circuit_id)
    if shelved is not None:
        aside, at = shelved
        put_aside = sa.func.coalesce(alarms.c.shelved_until_at > at, sa.false())
        query = query.where(put_aside if aside else sa.not_(put_aside))
    if kinds is not None:
        query = query.where(alarms.c.kind.in_(sorted(kinds)))
    if state is not None:
        query = query.where(
            alarms.c.cleared_at.is_(None) if state == "active" else alarms.c.cleared_at.is_not(None)
        )
    if acknowledged is not None:
        query = query.where(
            alarms.c.acknowledged_at.is_not(None) if acknowledged else alarms.c.acknowledged_at.is_(None)
        )
    if building is not None:
        query = query.where(alarms.c.building == building)
    if cursor is not None:
        query = query.where(alarms.c.alarm_id < cursor)
    limit = min(max(limit, 1), MAX_LISTED)
    page = [Alarm(**row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    if len(page) > limit:
        return page[:limit], page[limit - 1].alarm_id
    return page, None


def worst_first(
    connection: Connection,
    *,
    acknowledged: bool,
    now: datetime,
    kinds: Collection[str] | None = None,
    limit: int = MAX_LISTED,
) -> tuple[list[Alarm], int]:
    """Return what a person has to look at, the worst of it first, and how much of it there is in all.

    Unacknowledged: all that waits, active ones first; acknowledged: what is still active. What is put aside is
    left out, and what another alarm tells of since. In a flood the list is cut behind the least urgent, never
    before an older critical one.
    """
    condition: sa.ColumnElement[bool] = sa.func.coalesce(alarms.c.shelved_until_at <= now, sa.true())
    if acknowledged:
        condition &= alarms.c.acknowledged_at.is_not(None) & alarms.c.cleared_at.is_(None)
    else:
        condition &= alarms.c.acknowledged_at.is_(None) & alarms.c.folded_into.is_(None)
    if kinds is not None:
        condition &= alarms.c.kind.in_(sorted(kinds))
    rank = sa.case({one.value: place for place, one in enumerate(Priority)}, value=alarms.c.priority)
    cleared = sa.case((alarms.c.cleared_at.is_(None), 0), else_=1)
    rows = connection.execute(
        sa.select(alarms)
        .where(condition)
        .order_by(cleared, rank, alarms.c.alarm_id.desc())
        .limit(min(max(limit, 1), MAX_LISTED))
    )
    total = connection.scalar(sa.select(sa.func.count()).select_from(alarms).where(condition))
    return [Alarm(**row) for row in rows.mappings()], int(total or 0)


def by_ids(connection: Connection, alarm_ids: Sequence[str]) -> dict[str, Alarm]:
    """Return alarms by id in one query; an unknown id is left out."""
    rows = connection.execute(sa.select(alarms).where(alarms.c.alarm_id.in_(list(alarm_ids))))
    return {row["alarm_id"]: Alarm(**row) for row in rows.mappings()}
