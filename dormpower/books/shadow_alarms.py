"""What rules in shadow would have told, where they would have opened no relay: on record only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.ids import new_id
from dormpower.books.tables import circuits, rooms, shadow_alarms

MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldHaveBeenTold:
    """A decision in shadow: this alarm would have stood within `[from_at, to_at)`; to_at None: still."""

    shadow_alarm_id: str
    kind: str
    circuit_id: str
    room_id: str
    campus: str
    building: str
    from_at: datetime
    to_at: datetime | None
    evidence: Mapping[str, Any]


def begin(
    connection: Connection, *, circuit_id: str, kind: str, evidence: Mapping[str, Any], now: datetime
) -> None:
    """Put on record that an alarm would have been raised; nothing where it stands on record already."""
    if kind in standing(connection, circuit_id).get(circuit_id, ()):
        return
    connection.execute(
        sa.insert(shadow_alarms).values(
            shadow_alarm_id=new_id("sal", now),
            circuit_id=circuit_id,
            kind=kind,
            from_at=now,
            evidence=dict(evidence),
        )
    )


def end(connection: Connection, *, circuit_id: str, kind: str, now: datetime) -> None:
    """Put on record that it would have been cleared."""
    connection.execute(
        sa.update(shadow_alarms)
        .where(
            shadow_alarms.c.circuit_id == circuit_id,
            shadow_alarms.c.kind == kind,
            shadow_alarms.c.to_at.is_(None),
        )
        .values(to_at=now)
    )


def standing(connection: Connection, circuit_id: str | None = None) -> dict[str, frozenset[str]]:
    """Return the kinds that stand on record, by circuit."""
    query = sa.select(shadow_alarms.c.circuit_id, shadow_alarms.c.kind).where(shadow_alarms.c.to_at.is_(None))
    if circuit_id is not None:
        query = query.where(shadow_alarms.c.circuit_id == circuit_id)
    found: dict[str, frozenset[str]] = {}
    for row in connection.execute(query):
        found[row.circuit_id] = found.get(row.circuit_id, frozenset()) | {row.kind}
    return found


def report(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    campus: str | None = None,
    building: str | None = None,
    limit: int = 200,
    cursor: str | None = None,
) -> tuple[list[WouldHaveBeenTold], str | None]:
    """Return what would have been told at any time of `[since, until)`, and why: a page, newest first."""
    query = (
        sa.select(
            *(column for column in shadow_alarms.c),
            rooms.c.room_id,
            rooms.c.campus,
            rooms.c.building,
        )
        .join(circuits, circuits.c.circuit_id == shadow_alarms.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(
            shadow_alarms.c.from_at < until,
            sa.or_(shadow_alarms.c.to_at.is_(None), shadow_alarms.c.to_at > since),
        )
        .order_by(shadow_alarms.c.shadow_alarm_id.desc())
    )
    if campus is not None:
        query = query.where(rooms.c.campus == campus)
    if building is not None:
        query = query.where(rooms.c.building == building)
    if cursor is not None:
        query = query.where(shadow_alarms.c.shadow_alarm_id < cursor)
    limit = min(max(limit, 1), MAX_LISTED)
    page = [WouldHaveBeenTold(**row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    return (page[:limit], page[limit - 1].shadow_alarm_id) if len(page) > limit else (page, None)
