"""Who did what with an alarm, and when."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import alarm_steps

SYSTEM = "system"
MAX_LISTED = 200

StepName = Literal["raised", "cleared", "acknowledged", "shelved", "unshelved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmStep:
    """One step of an alarm's life."""

    step: str
    stepped_at: datetime
    actor: str
    detail: Mapping[str, Any]


def append(
    connection: Connection,
    *,
    alarm_id: str,
    step: StepName,
    actor: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note a step in the transaction that takes it."""
    append_all(connection, alarm_ids=[alarm_id], step=step, actor=actor, now=now, detail=detail)


def append_all(
    connection: Connection,
    *,
    alarm_ids: Iterable[str],
    step: StepName,
    actor: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note the same step of several alarms."""
    rows = [
        {"alarm_id": alarm_id, "step": step, "actor": actor, "stepped_at": now, "detail": dict(detail or {})}
        for alarm_id in alarm_ids
    ]
    if rows:
        connection.execute(sa.insert(alarm_steps), rows)


def history(connection: Connection, alarm_id: str) -> list[AlarmStep]:
    """Return an alarm's steps, oldest first; of very many the latest `MAX_LISTED`."""
    rows = connection.execute(
        sa.select(alarm_steps.c.step, alarm_steps.c.stepped_at, alarm_steps.c.actor, alarm_steps.c.detail)
        .where(alarm_steps.c.alarm_id == alarm_id)
        .order_by(alarm_steps.c.alarm_step_id.desc())
        .limit(MAX_LISTED)
    )
    return [AlarmStep(**row) for row in rows.mappings()][::-1]
