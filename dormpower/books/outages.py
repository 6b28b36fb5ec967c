"""Planned outages: announced ahead by a person, called off by a person, carried out by the schedule's rule.

An outage on record is what the room's status announces from that moment on. The gateway's rule holds the
circuits from its first instant to its last; each change here leaves an intent for every circuit in the scope,
so that the gateway knows the boundary at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log
from dormpower.books.ids import new_id
from dormpower.books.scoped_holds import (
    PARTS,
    UnableToPlaceScopedHoldError,
    check_scope,
    circuits_in,
    describe,
)
from dormpower.books.tables import events, intents, outages, rooms
from dormpower.domain.curfew import Outage
from dormpower.domain.scopes import Scope

LONGEST = timedelta(days=31)


class UnableToAnnounceOutageError(Exception):
    """The outage can't be announced as asked; the message says why."""


class UnableToFindOutageError(Exception):
    """There is no outage of this id that is to come or running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedOutage:
    """An outage and who announced it."""

    outage: Outage
    announced_at: datetime
    announced_by: str


def announce(
    connection: Connection,
    *,
    scope: Scope,
    from_at: datetime,
    to_at: datetime,
    note: str,
    actor: str,
    now: datetime,
) -> AnnouncedOutage:
    """Put a planned outage on record. Raises UnableToAnnounceOutageError.

    It begins now or later: what has begun without a word is no planned outage.
    """
    if not note.strip():
        raise UnableToAnnounceOutageError("note: expected what residents should know, got nothing")
    if from_at < now:
        raise UnableToAnnounceOutageError(
            f"from_at: expected an instant from now on, got {from_at.isoformat()}"
        )
    if not timedelta(0) < to_at - from_at <= LONGEST:
        raise UnableToAnnounceOutageError(
            f"to_at: expected after from_at and at most {LONGEST.days} days later, got {to_at.isoformat()}"
        )
    try:
        found = check_scope(connection, scope)
    except UnableToPlaceScopedHoldError as refusal:
        raise UnableToAnnounceOutageError(str(refusal)) from refusal
    outage_id = new_id("out", now)
    connection.execute(
        sa.insert(outages).values(
            outage_id=outage_id,
            from_at=from_at,
            to_at=to_at,
            note=note,
            announced_at=now,
            announced_by=actor,
            **{part: getattr(scope, part) for part in PARTS},
        )
    )
    detail = {
        "scope": describe(scope),
        "circuits": found,
        "from_at": from_at.isoformat(),
        "to_at": to_at.isoformat(),
        "note": note,
    }
    _after_change(connection, outage_id, scope, action="outage.announced", actor=actor, detail=detail, now=now)
    return get(connection, outage_id, now=now)


def call_off(
    connection: Connection, *, outage_id: str, actor: str, note: str, now: datetime
) -> AnnouncedOutage:
    """Call an outage off, before or while it runs. Raises UnableToFindOutageError."""
    announced = get(connection, outage_id, now=now)
    connection.execute(
        sa.update(outages)
        .where(outages.c.outage_id == outage_id)
        .values(called_off_at=now, called_off_by=actor, call_off_note=note)
    )
    scope = announced.outage.scope
    detail = {"scope": describe(scope), "note": note}
    _after_change(connection, outage_id, scope, action="outage.called_off", actor=actor, detail=detail, now=now)
    return announced


def get(connection: Connection, outage_id: str, *, now: datetime) -> AnnouncedOutage:
    """Return an outage that is to come or running. Raises UnableToFindOutageError."""
    found = [one for one in coming(connection, now=now) if one.outage.outage_id == outage_id]
    if not found:
        raise UnableToFindOutageError(f"outage {outage_id}: none of this id is to come or running")
    return found[0]


_COMING = (
    sa.select(outages)
    .where(outages.c.to_at > sa.bindparam("now"), outages.c.called_off_at.is_(None))
    .order_by(outages.c.from_at, outages.c.outage_id)
)


def coming(connection: Connection, *, now: datetime) -> list[AnnouncedOutage]:
    """Return the outages that are to come or running, by their beginning."""
    rows = connection.execute(_COMING, {"now": now}).mappings()
    return [
        AnnouncedOutage(
            outage=Outage(
                outage_id=row["outage_id"],
                scope=Scope(**{part: row[part] for part in PARTS}),
                from_at=row["from_at"],
                to_at=row["to_at"],
                note=row["note"],
            ),
            announced_at=row["announced_at"],
            announced_by=row["announced_by"],
        )
        for row in rows
    ]


def of_rooms(
    connection: Connection, *, room_ids: Sequence[str], now: datetime
) -> Mapping[str, tuple[AnnouncedOutage, ...]]:
    """Return what is announced for each of some rooms, by its beginning."""
    announced = coming(connection, now=now)
    if not announced:
        return {}
    rows = connection.execute(
        sa.select(rooms.c.room_id, rooms.c.campus, rooms.c.building, rooms.c.floor).where(
            rooms.c.room_id.in_(list(room_ids))
        )
    )
    return {row.room_id: tuple(one for one in announced if _touches(one.outage.scope, row)) for row in rows}


def _touches(scope: Scope, row: Any) -> bool:
    return all(
        getattr(scope, part) in (None, getattr(row, part))
        for part in ("campus", "building", "floor", "room_id")
    )


def _after_change(
    connection: Connection,
    outage_id: str,
    scope: Scope,
    *,
    action: str,
    actor: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    circuit_ids = list(connection.scalars(circuits_in(scope)))
    connection.execute(
        sa.insert(intents),
        [{"circuit_id": circuit_id, "cause": action, "placed_at": now} for circuit_id in circuit_ids],
    )
    connection.execute(
        sa.insert(events),
        [{"kind": "circuit", "subject_id": circuit_id, "happened_at": now} for circuit_id in circuit_ids],
    )
    audit_log.write(
        connection,
        actor=actor,
        action=action,
        subject_kind="outage",
        subject_id=outage_id,
        detail=dict(detail),
        now=now,
    )
