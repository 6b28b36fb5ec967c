"""The alarm of one circuit that is off because of its load or its relay."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarms
from dormpower.books.tables import alarms as alarms_table
from dormpower.books.tables import holds
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.holds import LOAD_OFF_REASONS, AnyReason, Reason

# A feeder that sheds is one alarm of its own, not one for each of its circuits.
_ALARMED = LOAD_OFF_REASONS - {Reason.SHED}
_MANY = 500  # circuit ids in one IN list


def is_alarmed(reason: AnyReason, *, shadow: bool) -> bool:
    """Whether a hold of this reason is told to maintenance."""
    return reason in _ALARMED and not shadow


def tell(
    connection: Connection,
    *,
    circuit_id: str,
    reason: AnyReason,
    hold_id: str,
    evidence: Mapping[str, Any],
    now: datetime,
) -> None:
    """Raise the circuit's alarm, unless it has one."""
    alarms.raise_alarm(
        connection,
        kind=AlarmKind.LOAD_OFF,
        priority=PRIORITIES[AlarmKind.LOAD_OFF],
        subject_kind="circuit",
        subject_id=circuit_id,
        circuit_id=circuit_id,
        detail={"reason": reason.value, "hold_id": hold_id, **dict(evidence)},
        now=now,
    )


def told_of(connection: Connection, circuit_ids: Sequence[str]) -> list[str]:
    """Return those of the circuits whose alarm is active."""
    found: list[str] = []
    for start in range(0, len(circuit_ids), _MANY):
        query = sa.select(alarms_table.c.subject_id).where(
            alarms_table.c.kind == AlarmKind.LOAD_OFF,
            alarms_table.c.subject_kind == "circuit",
            alarms_table.c.subject_id.in_(circuit_ids[start : start + _MANY]),
            alarms_table.c.cleared_at.is_(None),
        )
        found += connection.scalars(query)
    return sorted(found)


def clear_if_over(
    connection: Connection, circuit_ids: Sequence[str], *, now: datetime, folded_into: str | None = None
) -> None:
    """Clear the circuits' alarms as far as no hold stands that they tell of.

    `folded_into` is the building's alarm that tells of them instead.
    """
    off: set[str] = set()
    for start in range(0, len(circuit_ids), _MANY):
        told_of = sa.select(holds.c.circuit_id).where(
            holds.c.circuit_id.in_(circuit_ids[start : start + _MANY]),
            holds.c.reason.in_(sorted(_ALARMED)),
            holds.c.shadow.is_(sa.false()),
            holds.c.alarm_id.is_(None),
            holds.c.released_at.is_(None),
        )
        off |= set(connection.scalars(told_of))
    alarms.clear_alarms(
        connection,
        kind=AlarmKind.LOAD_OFF,
        subject_kind="circuit",
        subject_ids=[circuit_id for circuit_id in circuit_ids if circuit_id not in off],
        folded_into=folded_into,
        now=now,
    )
