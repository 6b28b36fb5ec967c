"""The keep-supply list (保电): rooms that are never cut for arrears and spared curfews (invariant 19)."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events, intents
from dormpower.books.tables import circuits, rooms


class UnableToKeepSupplyError(Exception):
    """The room isn't one of this site, or no reason was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRoom:
    """A room on the list."""

    room_id: str
    campus: str
    building: str


def set_keep_supply(
    connection: Connection, *, room_id: str, keep: bool, reason: str, actor: str, now: datetime
) -> bool:
    """Put a room on the list or take it off; False where it was so already. Raises UnableToKeepSupplyError."""
    if not reason.strip():
        raise UnableToKeepSupplyError("reason: expected why, got nothing")
    before = connection.scalar(
        sa.select(rooms.c.keep_supply).where(rooms.c.room_id == room_id, rooms.c.closed_at.is_(None))
    )
    if before is None:
        raise UnableToKeepSupplyError(f"room {room_id}: not a room of this site")
    if before is keep:
        return False
    connection.execute(sa.update(rooms).where(rooms.c.room_id == room_id).values(keep_supply=keep))
    for circuit_id in connection.scalars(sa.select(circuits.c.circuit_id).where(circuits.c.room_id == room_id)):
        intents.leave(connection, circuit_id=circuit_id, cause="keep_supply", now=now)
        events.append(connection, kind="circuit", subject_id=circuit_id, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action="keep_supply.added" if keep else "keep_supply.removed",
        subject_kind="room",
        subject_id=room_id,
        detail={"reason": reason},
        now=now,
    )
    return True


def kept(connection: Connection) -> list[KeptRoom]:
    """Return the rooms on the list, by id."""
    rows = connection.execute(
        sa.select(rooms.c.room_id, rooms.c.campus, rooms.c.building)
        .where(rooms.c.keep_supply.is_(sa.true()), rooms.c.closed_at.is_(None))
        .order_by(rooms.c.room_id)
    )
    return [KeptRoom(**row) for row in rows.mappings()]
