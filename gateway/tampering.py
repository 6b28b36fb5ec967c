"""Silences on record, and the alarms that they are worth: around a cut, and at the same hours each night."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from dormpower.books import alarms, silences
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.silences import AROUND_CUT_S, NIGHTS, Cut, around_cut, nights_in_a_row

LOOK_BACK = timedelta(days=NIGHTS + 4)
# Sweeps come once a minute: a cut up to `AROUND_CUT_S` after the silence is seen by one of them.
STILL_LOOKED_AT = timedelta(seconds=2 * AROUND_CUT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A module or a line, where it is, and the circuits on it (a module's)."""

    kind: str
    id: str
    building: str | None
    line_id: str | None
    circuit_ids: Sequence[str] = ()

    @property
    def key(self) -> dict[str, str]:
        """What alarms and silences know it by."""
        return {"subject_kind": self.kind, "subject_id": self.id}

    @property
    def module_id(self) -> str | None:
        """The module's id; None for a line."""
        return self.id if self.kind == "module" else None


def note_answers(connection: Connection, *, kind: str, ids: Sequence[str], now: datetime) -> None:
    """Put on record that modules or lines answer again, which ends `silent_around_cut`."""
    silences.end(connection, subject_kind=kind, subject_ids=ids, now=now)
    alarms.clear_alarms(
        connection, kind=AlarmKind.SILENT_AROUND_CUT, subject_kind=kind, subject_ids=ids, now=now
    )


def note_silence(connection: Connection, subject: Subject, *, zone: ZoneInfo, now: datetime) -> None:
    """Put on record that a module or a line fell silent, and tell of it where it looks like tampering.

    `silent_each_night` ends when a night has passed without.
    """
    silences.begin(connection, **subject.key, now=now)
    _tell_of_cuts(connection, subject, silent_from_at=now, due=(), now=now)
    nights = _nights(connection, subject_kind=subject.kind, subject_id=subject.id, zone=zone, now=now)
    if nights:
        alarms.raise_alarm(
            connection,
            kind=AlarmKind.SILENT_EACH_NIGHT,
            priority=PRIORITIES[AlarmKind.SILENT_EACH_NIGHT],
            **subject.key,
            module_id=subject.module_id,
            line_id=subject.line_id,
            building=subject.building,
            detail={"nights": nights},
            now=now,
        )


def look_for_cuts(
    connection: Connection, subjects: Mapping[str, Subject], *, due: Sequence[Cut], now: datetime
) -> None:
    """Tell of modules that fell silent shortly before a cut: it came, or is due, while they are silent.

    `due` are the cuts that wait only for a reading.
    """
    for module_id, silent_from_at in silences.lasting(
        connection, subject_kind="module", since=now - STILL_LOOKED_AT
    ):
        subject = subjects.get(module_id)
        if subject is not None:
            _tell_of_cuts(connection, subject, silent_from_at=silent_from_at, due=due, now=now)


def _tell_of_cuts(
    connection: Connection, subject: Subject, *, silent_from_at: datetime, due: Sequence[Cut], now: datetime
) -> None:
    if not subject.circuit_ids:
        return
    made = silences.cuts_of(
        connection, circuit_ids=subject.circuit_ids, at=silent_from_at - timedelta(seconds=AROUND_CUT_S)
    )
    cuts = [*made, *(cut for cut in due if cut.circuit_id in subject.circuit_ids)]
    cut = around_cut(silent_from_at=silent_from_at, cuts=cuts)
    if cut is not None:
        alarms.raise_alarm(
            connection,
            kind=AlarmKind.SILENT_AROUND_CUT,
            priority=PRIORITIES[AlarmKind.SILENT_AROUND_CUT],
            **subject.key,
            module_id=subject.module_id,
            line_id=subject.line_id,
            building=subject.building,
            circuit_id=cut.circuit_id,
            detail={"cut_at": cut.at.isoformat(), "silent_from_at": silent_from_at.isoformat()},
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
