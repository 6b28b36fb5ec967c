"""Silences on record, and the alarms that they are worth: around a cut, and at the same hours each night."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from dormpower.books import alarms, silences
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.silences import AROUND_CUT_S, NIGHTS, around_cut, nights_in_a_row

LOOK_BACK = timedelta(days=NIGHTS + 4)


def note(
    connection: Connection,
    *,
    subject_kind: str,
    subject_id: str,
    online: bool,
    zone: ZoneInfo,
    building: str | None,
    line_id: str | None,
    now: datetime,
) -> None:
    """Put a module's or a line's transition on record, and tell of a silence that looks like tampering.

    `silent_around_cut` ends when the module answers again; `silent_each_night` when a night has passed without.
    """
    subject = {"subject_kind": subject_kind, "subject_id": subject_id}
    if online:
        silences.end(connection, **subject, now=now)
        alarms.clear_alarm(connection, kind=AlarmKind.SILENT_AROUND_CUT, **subject, now=now)
        return
    silences.begin(connection, **subject, now=now)
    module_id = subject_id if subject_kind == "module" else None
    if module_id is not None:
        cuts = silences.cuts_of(connection, module_id=module_id, at=now - timedelta(seconds=AROUND_CUT_S))
        cut_at = around_cut(silent_from_at=now, cuts_at=cuts)
        if cut_at is not None:
            alarms.raise_alarm(
                connection,
                kind=AlarmKind.SILENT_AROUND_CUT,
                priority=PRIORITIES[AlarmKind.SILENT_AROUND_CUT],
                **subject,
                module_id=module_id,
                line_id=line_id,
                building=building,
                detail={"cut_at": cut_at.isoformat(), "silent_from_at": now.isoformat()},
                now=now,
            )
    nights = _nights(connection, subject_kind=subject_kind, subject_id=subject_id, zone=zone, now=now)
    if nights:
        alarms.raise_alarm(
            connection,
            kind=AlarmKind.SILENT_EACH_NIGHT,
            priority=PRIORITIES[AlarmKind.SILENT_EACH_NIGHT],
            **subject,
            module_id=module_id,
            line_id=line_id,
            building=building,
            detail={"nights": nights},
            now=now,
        )


def clear_quiet_nights(connection: Connection, *, zone: ZoneInfo, now: datetime) -> None:
    """End `silent_each_night` where the pattern has not gone on."""
    for alarm in alarms.active(connection):
        if alarm.kind == AlarmKind.SILENT_EACH_NIGHT and not _nights(
            connection, subject_kind=alarm.subject_kind, subject_id=alarm.subject_id, zone=zone, now=now
        ):
            alarms.clear_alarm(
                connection,
                kind=AlarmKind.SILENT_EACH_NIGHT,
                subject_kind=alarm.subject_kind,
                subject_id=alarm.subject_id,
                now=now,
            )


def _nights(
    connection: Connection, *, subject_kind: str, subject_id: str, zone: ZoneInfo, now: datetime
) -> list[str]:
    known = silences.since(connection, subject_kind=subject_kind, subject_id=subject_id, at=now - LOOK_BACK)
    return [one.from_at.isoformat() for one in nights_in_a_row(known, zone=zone, now=now)]
