"""Who lives where, and since when: what bounds a resident's view (invariant 34).

A residency is a half-open span [from_at, to_at) of campus time. A resident sees a room while a residency there
is current, and of that room's past only the time of the own residencies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import residencies, rooms


class UnableToAddResidencyError(Exception):
    """The residency names no room of this site, or ends before it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A half-open span of campus time; `to_at` None is still running."""

    from_at: datetime
    to_at: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether an instant is within the span."""
        return self.from_at <= at and (self.to_at is None or at < self.to_at)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether the whole of `[start, end)` is within the span."""
        return self.from_at <= start and (self.to_at is None or end <= self.to_at)

    def clip(self, start: datetime, end: datetime) -> tuple[datetime, datetime] | None:
        """Return the part of `[start, end)` within the span, or None where there is none."""
        first = max(start, self.from_at)
        last = end if self.to_at is None else min(end, self.to_at)
        return (first, last) if first < last else None


def begin_residency(
    connection: Connection,
    *,
    user_id: int,
    room_id: str,
    from_at: datetime,
    to_at: datetime | None = None,
) -> int:
    """Record that a user lives in a room from an instant on. Raises UnableToAddResidencyError."""
    known = connection.execute(
        sa.select(rooms.c.room_id).where(rooms.c.room_id == room_id, rooms.c.closed_at.is_(None))
    ).first()
    if known is None:
        raise UnableToAddResidencyError(f"room: {room_id} is not a room of this site")
    if to_at is not None and to_at <= from_at:
        raise UnableToAddResidencyError(
            f"residency in {room_id}: expected its end after {from_at}, got {to_at}"
        )
    residency_id = connection.execute(
        residencies.insert()
        .values(user_id=user_id, room_id=room_id, from_at=from_at, to_at=to_at)
        .returning(residencies.c.residency_id)
    ).scalar_one()
    return int(residency_id)


def end_residency(connection: Connection, *, user_id: int, room_id: str, at: datetime) -> int:
    """End a user's current residencies in a room; returns how many ended."""
    ended = connection.execute(
        residencies.update()
        .where(
            residencies.c.user_id == user_id,
            residencies.c.room_id == room_id,
            residencies.c.from_at <= at,
            sa.or_(residencies.c.to_at.is_(None), residencies.c.to_at > at),
        )
        .values(to_at=at)
    )
    return ended.rowcount


def spans_by_room(connection: Connection, *, user_id: int, now: datetime) -> Mapping[str, tuple[Span, ...]]:
    """Return the rooms in which a user lives at `now`, each with all the user's spans there, oldest first."""
    rows = connection.execute(
        sa.select(residencies.c.room_id, residencies.c.from_at, residencies.c.to_at)
        .where(residencies.c.user_id == user_id)
        .order_by(residencies.c.room_id, residencies.c.from_at)
    )
    spans: dict[str, list[Span]] = {}
    for row in rows:
        spans.setdefault(row.room_id, []).append(Span(from_at=row.from_at, to_at=row.to_at))
    return {room: tuple(own) for room, own in spans.items() if any(span.holds(now) for span in own)}


def any_holds(spans: Iterable[Span] | None, at: datetime) -> bool:
    """Whether an instant may be seen; no spans (None) means that all of time may be."""
    return spans is None or any(span.holds(at) for span in spans)


def within(spans: Iterable[Span] | None, at: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Return the condition that an instant may be seen; no spans (None) means that all of time may be."""
    if spans is None:
        return sa.true()
    return sa.or_(
        sa.false(),
        *(
            at >= span.from_at if span.to_at is None else sa.and_(at >= span.from_at, at < span.to_at)
            for span in spans
        ),
    )


def any_covers(spans: Iterable[Span] | None, start: datetime, end: datetime) -> bool:
    """Whether all of `[start, end)` may be seen; no spans (None) means that all of time may be."""
    return spans is None or any(span.covers(start, end) for span in spans)


def clip_all(spans: Iterable[Span] | None, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the parts of `[start, end)` that may be seen, in order of time, overlaps merged."""
    if spans is None:
        return [(start, end)] if start < end else []
    parts = sorted(part for span in spans if (part := span.clip(start, end)) is not None)
    merged: list[tuple[datetime, datetime]] = []
    for first, last in parts:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
