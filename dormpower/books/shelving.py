"""Putting alarms aside, and how many there are: floods and standing alarms."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarm_steps, audit_log, events
from dormpower.books import alarms as books_alarms
from dormpower.books.alarms import Alarm
from dormpower.books.tables import alarms
from dormpower.domain import alarms as domain_alarms
from dormpower.domain.alarms import (
    FLOOD_ABOVE,
    FLOOD_WINDOW_S,
    STANDING_AFTER_S,
    AlarmLife,
    UnableToShelveAsAskedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmFigures:
    """Counts at one instant. `flooding`: more were raised in the window than a person can follow."""

    active: int
    unacknowledged: int
    shelved: int
    standing: int
    raised_lately: int

    @property
    def flooding(self) -> bool:
        """Whether this is a flood."""
        return self.raised_lately > FLOOD_ABOVE


def shelve(
    connection: Connection, *, alarm_id: str, until_at: datetime, reason: str, actor: str, now: datetime
) -> Alarm:
    """Put an active alarm aside until an instant, with a reason on record.

    Raises UnableToFindAlarmError, UnableToChangeAlarmError where the step is not possible, and
    UnableToShelveAsAskedError for a missing reason or an end that is past or too far ahead.
    """
    if not reason.strip():
        raise UnableToShelveAsAskedError("reason: expected why the alarm is put aside, got nothing")
    alarm = books_alarms.get(connection, alarm_id, lock=True)
    after = domain_alarms.shelve(_life(alarm), actor=actor, until_at=until_at, now=now)
    detail = {"until_at": until_at.isoformat(), "reason": reason.strip()}
    return _save(connection, alarm, after, "shelved", actor=actor, detail=detail, now=now)


def unshelve(connection: Connection, *, alarm_id: str, actor: str, now: datetime) -> Alarm:
    """Bring an alarm back before its time.

    Raises UnableToFindAlarmError, and UnableToChangeAlarmError where it is not put aside.
    """
    alarm = books_alarms.get(connection, alarm_id, lock=True)
    after = domain_alarms.unshelve(_life(alarm), now=now)
    return _save(connection, alarm, after, "unshelved", actor=actor, detail={}, now=now)


def figures(connection: Connection, *, now: datetime) -> AlarmFigures:
    """Count alarms: active, not acknowledged, put aside, standing for a day, raised in the last ten minutes.

    What was folded into another alarm is one condition with it, and counts once.
    """
    active = alarms.c.cleared_at.is_(None)
    counted = connection.execute(
        sa.select(
            _count(active),
            _count(active & alarms.c.acknowledged_at.is_(None)),
            _count(active & (alarms.c.shelved_until_at > now)),
            _count(active & (alarms.c.raised_at <= now - timedelta(seconds=STANDING_AFTER_S))),
            _count(
                (alarms.c.raised_at > now - timedelta(seconds=FLOOD_WINDOW_S)) & alarms.c.folded_into.is_(None)
            ),
        ).where(active | (alarms.c.raised_at > now - timedelta(seconds=FLOOD_WINDOW_S)))
    ).one()
    names = ("active", "unacknowledged", "shelved", "standing", "raised_lately")
    return AlarmFigures(**{name: int(value or 0) for name, value in zip(names, counted, strict=True)})


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _life(alarm: Alarm) -> AlarmLife:
    return AlarmLife(
        raised_at=alarm.raised_at,
        cleared_at=alarm.cleared_at,
        acknowledged_at=alarm.acknowledged_at,
        acknowledged_by=alarm.acknowledged_by,
        shelved_until_at=alarm.shelved_until_at,
        shelved_by=alarm.shelved_by,
    )


def _save(
    connection: Connection,
    alarm: Alarm,
    after: AlarmLife,
    step: alarm_steps.StepName,
    *,
    actor: str,
    detail: dict[str, str],
    now: datetime,
) -> Alarm:
    connection.execute(
        sa.update(alarms)
        .where(alarms.c.alarm_id == alarm.alarm_id)
        .values(shelved_until_at=after.shelved_until_at, shelved_by=after.shelved_by)
    )
    alarm_steps.append(connection, alarm_id=alarm.alarm_id, step=step, actor=actor, detail=detail, now=now)
    events.append(connection, kind="alarm", subject_id=alarm.alarm_id, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action=f"alarm.{step}",
        subject_kind="alarm",
        subject_id=alarm.alarm_id,
        detail={"kind": alarm.kind, "subject_id": alarm.subject_id, **detail},
        now=now,
    )
    return books_alarms.get(connection, alarm.alarm_id)
