"""Who was shed for how long: by circuit over a period for those who answer for a feeder, by day for a room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import feeders
from dormpower.books.feeders import OffOnDay
from dormpower.books.residencies import Span, any_covers
from dormpower.books.tables import circuits, holds, rooms, shed_minutes
from dormpower.books.types import from_ms, to_ms
from dormpower.domain.days import CampusDays
from dormpower.domain.holds import Reason

MAX_LISTED = 1_000


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which circuits a report is about; a part that is None is open. `shadow`: turns that moved no relay."""

    campus: str | None = None
    building: str | None = None
    feeder_id: str | None = None
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOff:
    """How long a circuit was shed in the period, and in how many turns; the present turn counts up to now."""

    room_id: str
    circuit_id: str
    off_ms: int
    turns: int

    @property
    def minutes_off(self) -> float:
        """The time off as people read it."""
        return round(self.off_ms / 60_000, 1)

    def __add__(self, other: "CircuitOff") -> "CircuitOff":
        """Return both of the same circuit together."""
        return replace(self, off_ms=self.off_ms + other.off_ms, turns=self.turns + other.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessReport:
    """A page of the circuits that were shed, longest off first, and figures over all of them."""

    items: list[CircuitOff]
    next_cursor: str | None
    circuits: int
    minutes_off: float
    longest_minutes_off: float


def report(
    connection: Connection,
    *,
    from_on: date,
    to_on: date,
    which: Which,
    now: datetime,
    days: CampusDays,
    limit: int = 50,
    cursor: str | None = None,
) -> FairnessReport:
    """Return who was shed in a period of campus days, both inclusive, longest off first.

    The pages that follow the first count turns under way up to the instant of the first: none that grows
    meanwhile climbs past the cursor, to be on no page. Raises UnableToReadCursorError.
    """
    after: tuple[int, str] | None = None
    if cursor is not None:
        first_page_at, after = _after(cursor)
        now = min(now, first_page_at)
    found: dict[str, CircuitOff] = {}
    finished = _finished(connection, which, from_on=from_on, to_on=to_on)
    for one in (*finished, *_under_way(connection, which, from_on=from_on, to_on=to_on, now=now, days=days)):
        before = found.get(one.circuit_id)
        found[one.circuit_id] = one if before is None else before + one
    ordered = sorted(found.values(), key=_key)
    page = [one for one in ordered if after is None or _key(one) > after]
    limit = min(max(limit, 1), MAX_LISTED)
    return FairnessReport(
        items=page[:limit],
        next_cursor=_cursor(page[limit - 1], now) if len(page) > limit else None,
        circuits=len(ordered),
        minutes_off=round(sum(one.off_ms for one in ordered) / 60_000, 1),
        longest_minutes_off=ordered[0].minutes_off if ordered else 0.0,
    )


def of_room(
    connection: Connection,
    *,
    room_id: str,
    from_on: date,
    to_on: date,
    spans: Sequence[Span] | None,
    now: datetime,
    days: CampusDays,
) -> list[OffOnDay]:
    """Return how long a room's circuits were shed by campus day, oldest first.

    Only days that lie wholly within `spans` (None: all of them): a day of two residents belongs to neither.
    What was only in shadow is left out, nobody was off.
    """
    found = feeders.fairness(connection, from_on=from_on, to_on=to_on, now=now, days=days, room_ids=[room_id])
    return [one for one in found if not one.shadow and _seen(one.used_on, spans, now=now, days=days)]


def _finished(connection: Connection, which: Which, *, from_on: date, to_on: date) -> list[CircuitOff]:
    rows = connection.execute(
        sa.select(
            shed_minutes.c.circuit_id,
            sa.func.min(shed_minutes.c.room_id).label("room_id"),
            sa.func.sum(shed_minutes.c.off_ms).label("off_ms"),
            sa.func.sum(shed_minutes.c.turns).label("turns"),
        )
        .join(rooms, rooms.c.room_id == shed_minutes.c.room_id)
        .where(
            shed_minutes.c.used_on.between(from_on, to_on),
            shed_minutes.c.shadow.is_(which.shadow),
            *_where(connection, which),
        )
        .group_by(shed_minutes.c.circuit_id)
    )
    return [
        CircuitOff(room_id=row.room_id, circuit_id=row.circuit_id, off_ms=int(row.off_ms), turns=int(row.turns))
        for row in rows
    ]


def _under_way(
    connection: Connection, which: Which, *, from_on: date, to_on: date, now: datetime, days: CampusDays
) -> Iterator[CircuitOff]:
    begins_at, ends_at = days.start_of(from_on), min(days.end_of(to_on), now)
    rows = connection.execute(
        sa.select(holds.c.circuit_id, circuits.c.room_id, holds.c.placed_at)
        .join(circuits, circuits.c.circuit_id == holds.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(
            holds.c.reason == Reason.SHED.value,
            holds.c.released_at.is_(None),
            holds.c.shadow.is_(which.shadow),
            *_where(connection, which),
        )
    )
    for row in rows:
        off_ms = max(to_ms(ends_at) - to_ms(max(row.placed_at, begins_at)), 0)
        turns = int(from_on <= days.day_of(row.placed_at) <= to_on)
        if off_ms or turns:
            yield CircuitOff(room_id=row.room_id, circuit_id=row.circuit_id, off_ms=off_ms, turns=turns)


def _seen(on: date, spans: Sequence[Span] | None, *, now: datetime, days: CampusDays) -> bool:
    begins_at = days.start_of(on)
    return any_covers(spans, begins_at, max(begins_at, min(days.end_of(on), now)))


def _where(connection: Connection, which: Which) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = []
    if which.campus is not None:
        where.append(rooms.c.campus == which.campus)
    if which.building is not None:
        where.append(rooms.c.building == which.building)
    if which.feeder_id is not None:
        where.append(rooms.c.feeder.in_(feeders.below(connection, which.feeder_id)))
    return where


def _key(one: CircuitOff) -> tuple[int, str]:
    return -one.off_ms, one.circuit_id


def _cursor(last: CircuitOff, now: datetime) -> str:
    return f"{to_ms(now)}:{last.off_ms}:{last.circuit_id}"


def _after(cursor: str) -> tuple[datetime, tuple[int, str]]:
    """Return as of when the first page was, and the key of the last one listed."""
    now_ms, _, rest = cursor.partition(":")
    off_ms, _, circuit_id = rest.partition(":")
    known = all(part.isascii() and part.isdigit() and len(part) <= 14 for part in (now_ms, off_ms))
    if not (known and circuit_id):
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
    return from_ms(int(now_ms)), (-int(off_ms), circuit_id)
