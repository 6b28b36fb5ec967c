"""Reports on what rules did, or would have done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import circuits, holds, rooms

MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveBeenOff:
    """A decision in shadow: this circuit would have been off within `[from_at, to_at)`; to_at None: still."""

    hold_id: str
    circuit_id: str
    room_id: str
    campus: str
    building: str
    reason: str
    placed_by: str
    from_at: datetime
    to_at: datetime | None
    evidence: Mapping[str, Any]


def would_have_been_off(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    reason: str | None = None,
    campus: str | None = None,
    building: str | None = None,
    limit: int = 200,
    cursor: str | None = None,
) -> tuple[list[WouldHaveBeenOff], str | None]:
    """Return who would have been off at any time of `[since, until)`, when and why: a page, newest first."""
    query = (
        sa.select(
            holds.c.hold_id,
            holds.c.circuit_id,
            rooms.c.room_id,
            rooms.c.campus,
            rooms.c.building,
            holds.c.reason,
            holds.c.placed_by,
            holds.c.placed_at.label("from_at"),
            holds.c.released_at.label("to_at"),
            holds.c.evidence,
        )
        .join(circuits, circuits.c.circuit_id == holds.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(
            holds.c.shadow.is_(sa.true()),
            holds.c.placed_at < until,
            sa.or_(holds.c.released_at.is_(None), holds.c.released_at > since),
        )
        .order_by(holds.c.hold_id.desc())
    )
    if reason is not None:
        query = query.where(holds.c.reason == reason)
    if campus is not None:
        query = query.where(rooms.c.campus == campus)
    if building is not None:
        query = query.where(rooms.c.building == building)
    if cursor is not None:
        query = query.where(holds.c.hold_id < cursor)
    limit = min(max(limit, 1), MAX_LISTED)
    page = [WouldHaveBeenOff(**row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    return (page[:limit], page[limit - 1].hold_id) if len(page) > limit else (page, None)
