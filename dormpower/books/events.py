"""What changed, in order, for server-sent events; a row names its subject, which is read again when sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import events

EventKind = Literal["circuit", "alarm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change; ids only grow, also when old events are dropped."""

    event_id: int
    kind: str
    subject_id: str
    happened_at: datetime


def append(connection: Connection, *, kind: EventKind, subject_id: str, now: datetime) -> None:
    """Note that a circuit or an alarm changed, in the transaction that changes it."""
    append_all(connection, kind=kind, subject_ids=[subject_id], now=now)


def append_all(connection: Connection, *, kind: EventKind, subject_ids: Sequence[str], now: datetime) -> None:
    """Note that several changed, in the order given."""
    rows = [{"kind": kind, "subject_id": subject_id, "happened_at": now} for subject_id in subject_ids]
    if rows:
        connection.execute(sa.insert(events), rows)


def after(connection: Connection, event_id: int, limit: int) -> list[Event]:
    """Return the events with a higher id, oldest first, at most `limit`."""
    rows = connection.execute(
        sa.select(events).where(events.c.event_id > event_id).order_by(events.c.event_id).limit(limit)
    )
    return [Event(**row) for row in rows.mappings()]


def oldest_id(connection: Connection) -> int | None:
    """Return the lowest id that is still kept; None where there are no events."""
    found: int | None = connection.scalar(sa.select(sa.func.min(events.c.event_id)))
    return found


def latest_id(connection: Connection) -> int | None:
    """Return the highest id; None where there are no events."""
    found: int | None = connection.scalar(sa.select(sa.func.max(events.c.event_id)))
    return found


def drop_before(connection: Connection, at: datetime) -> int:
    """Let events older than `at` go; the newest always stays, so that ids are never given twice."""
    newest = sa.select(sa.func.max(events.c.event_id)).scalar_subquery()
    result = connection.execute(sa.delete(events).where(events.c.happened_at < at, events.c.event_id < newest))
    return int(result.rowcount)
