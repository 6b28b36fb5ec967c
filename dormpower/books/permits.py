"""Permits: an appliance that a room may use although it looks prohibited, for a span of time.

A water dispenser, a medical device: what no rule can tell from a kettle by its load.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, intents
from dormpower.books.ids import new_id
from dormpower.books.tables import circuits, permits, rooms


class UnableToGrantPermitError(Exception):
    """The permit can't be granted as asked; the message says why."""


class UnableToFindPermitError(Exception):
    """There is no permit of this id that still stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A room's permit for steps of `from_w` to `to_w` W within `[from_at, to_at)`."""

    permit_id: str
    room_id: str
    appliance: str
    from_w: int
    to_w: int
    from_at: datetime
    to_at: datetime
    granted_by: str
    granted_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None


def grant(
    connection: Connection,
    *,
    room_id: str,
    appliance: str,
    from_w: int,
    to_w: int,
    to_at: datetime,
    actor: str,
    now: datetime,
    from_at: datetime | None = None,
) -> Permit:
    """Grant a permit, and have the gateway look at the room again. Raises UnableToGrantPermitError."""
    if not appliance.strip():
        raise UnableToGrantPermitError("appliance: expected what is permitted, got nothing")
    if not 0 <= from_w < to_w:
        raise UnableToGrantPermitError(f"to_w: expected above from_w ({from_w}), got {to_w}")
    start = now if from_at is None else from_at
    if not max(start, now) < to_at:
        raise UnableToGrantPermitError(
            f"to_at: expected an end after the start and after now, got {to_at.isoformat()}"
        )
    if connection.scalar(sa.select(rooms.c.room_id).where(rooms.c.room_id == room_id)) is None:
        raise UnableToGrantPermitError(f"room {room_id}: there is none of this id")
    permit = Permit(
        permit_id=new_id("prm", now),
        room_id=room_id,
        appliance=appliance.strip(),
        from_w=from_w,
        to_w=to_w,
        from_at=start,
        to_at=to_at,
        granted_by=actor,
        granted_at=now,
    )
    values = {name: getattr(permit, name) for name in Permit.__slots__}
    connection.execute(sa.insert(permits).values(**values))
    _tell(connection, permit, action="permit.grant", actor=actor, now=now)
    return permit


def revoke(connection: Connection, *, permit_id: str, actor: str, now: datetime) -> Permit:
    """End a permit before its time. Raises UnableToFindPermitError where none stands."""
    found = (
        connection.execute(
            sa.update(permits)
            .where(permits.c.permit_id == permit_id, permits.c.revoked_at.is_(None), permits.c.to_at > now)
            .values(revoked_at=now, revoked_by=actor)
            .returning(permits)
        )
        .mappings()
        .first()
    )
    if found is None:
        raise UnableToFindPermitError(f"permit {permit_id}: none of this id stands")
    permit = Permit(**found)
    _tell(connection, permit, action="permit.revoke", actor=actor, now=now)
    return permit


def standing(
    connection: Connection, *, now: datetime, room_ids: Sequence[str] | None = None
) -> dict[str, tuple[Permit, ...]]:
    """Return by room the permits that have begun, have not ended and were not revoked."""
    query = (
        sa.select(permits)
        .where(permits.c.revoked_at.is_(None), permits.c.from_at <= now, permits.c.to_at > now)
        .order_by(permits.c.permit_id)
    )
    if room_ids is not None:
        query = query.where(permits.c.room_id.in_(list(room_ids)))
    found: dict[str, list[Permit]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["room_id"], []).append(Permit(**row))
    return {room_id: tuple(members) for room_id, members in found.items()}


def listing(
    connection: Connection, *, room_id: str | None = None, limit: int = 50, cursor: str | None = None
) -> tuple[list[Permit], str | None]:
    """Return a page of permits, ended ones too, newest first, and the cursor of the next page."""
    query = sa.select(permits).order_by(permits.c.permit_id.desc())
    if room_id is not None:
        query = query.where(permits.c.room_id == room_id)
    if cursor is not None:
        query = query.where(permits.c.permit_id < cursor)
    page = [Permit(**row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    return (page[:limit], page[limit - 1].permit_id) if len(page) > limit else (page, None)


def _tell(connection: Connection, permit: Permit, *, action: str, actor: str, now: datetime) -> None:
    for circuit_id in connection.scalars(
        sa.select(circuits.c.circuit_id).where(circuits.c.room_id == permit.room_id)
    ).all():
        intents.leave(connection, circuit_id=circuit_id, cause=action, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action=action,
        subject_kind="room",
        subject_id=permit.room_id,
        detail={
            "permit_id": permit.permit_id,
            "appliance": permit.appliance,
            "from_w": permit.from_w,
            "to_w": permit.to_w,
            "from_at": permit.from_at.isoformat(),
            "to_at": permit.to_at.isoformat(),
        },
        now=now,
    )
