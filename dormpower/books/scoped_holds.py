"""Holds over a part of the site: lock-out, emergency off, vacancy; one hold on each circuit in it.

The scope is on record first, in a transaction of its own; its circuits are held after that, a few in each
transaction, so that nobody waits for the books meanwhile. What a crash left undone, or a circuit that is
described later, is made up by `mend`, which the gateway calls at its start and again and again. Ending goes the
same way: the end is on record first, and from then on nothing places a member any more.

A member never ends alone, and a scoped hold only ends its own members: where two people locked the same room
out, each removes only the own (invariant 15).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, holds
from dormpower.books.database import Books
from dormpower.books.ids import new_id
from dormpower.books.tables import circuits, rooms, scoped_holds
from dormpower.books.tables import holds as holds_table
from dormpower.domain.holds import AnyReason, Reason, reason_of
from dormpower.domain.scopes import Scope

AT_ONCE = 15  # circuits in one transaction: about 50 ms on SQLite
SCOPED_REASONS = frozenset({Reason.LOCKOUT, Reason.EMERGENCY, Reason.VACANT})
_PREFIXES = {Reason.LOCKOUT: "lko", Reason.EMERGENCY: "emg", Reason.VACANT: "vac"}
PARTS = ("campus", "building", "floor", "room_id", "kind")


class UnableToPlaceScopedHoldError(Exception):
    """The scope can't be held as asked; the message says why. Nothing was changed."""


class UnableToFindScopedHoldError(Exception):
    """There is no standing one of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedHold:
    """A standing hold over a scope. `confirmed_open` of its `circuits` were read back open since.

    `confirmed_open_at` is when the last of them was; None while one is missing. Both fall again when a relay is
    reported closed, or draws.
    """

    scoped_hold_id: str
    reason: AnyReason
    scope: Scope
    holder: str
    note: str
    shadow: bool
    placed_at: datetime
    placed_by: str
    circuits: int = 0
    confirmed_open: int = 0
    confirmed_open_at: datetime | None = None


def circuits_in(scope: Scope) -> sa.Select[tuple[str]]:
    """Return the query for the ids of the circuits of open rooms in a scope."""
    columns = {
        "campus": rooms.c.campus,
        "building": rooms.c.building,
        "floor": rooms.c.floor,
        "room_id": rooms.c.room_id,
        "kind": circuits.c.kind,
    }
    named = [columns[part] == getattr(scope, part) for part in PARTS if getattr(scope, part) is not None]
    return (
        sa.select(circuits.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(rooms.c.closed_at.is_(None), *named)
    )


def count_circuits(connection: Connection, scope: Scope) -> int:
    """Return how many circuits of open rooms lie in a scope."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(circuits_in(scope).subquery())) or 0)


def check_scope(connection: Connection, scope: Scope) -> int:
    """Return how many circuits a scope holds. Raises UnableToPlaceScopedHoldError where it names too little.

    A floor or building is named with what it lies in, since each campus may have one of that name.
    """
    if scope.room_id is None and scope.campus is None:
        raise UnableToPlaceScopedHoldError(
            "scope: expected a room_id, or a campus and what lies in it, got neither"
        )
    if scope.floor is not None and scope.building is None and scope.room_id is None:
        raise UnableToPlaceScopedHoldError(
            f"scope.building: expected the building of floor {scope.floor}, got nothing"
        )
    found = count_circuits(connection, scope)
    if not found:
        raise UnableToPlaceScopedHoldError(f"scope: no circuit of this site lies in {describe(scope)}")
    return found


def describe(scope: Scope) -> str:
    """Write a scope as people read it: `campus south, building 03`."""
    named = [f"{part.removesuffix('_id')} {getattr(scope, part)}" for part in PARTS if getattr(scope, part)]
    return ", ".join(named) or "the whole site"


def place(
    *,
    books: Books,
    reason: Reason,
    scope: Scope,
    holder: str,
    note: str,
    placed_by: str,
    now: datetime,
    shadow: bool = False,
) -> ScopedHold:
    """Hold every circuit of a scope; a repeat by the same holder returns the standing one.

    Raises UnableToPlaceScopedHoldError.
    """
    with books.write() as connection:
        scoped = record(
            connection,
            reason=reason,
            scope=scope,
            holder=holder,
            note=note,
            placed_by=placed_by,
            now=now,
            shadow=shadow,
        )
    _cover(books, scoped, now)
    with books.read() as connection:
        return get(connection, scoped.scoped_hold_id)


def record(
    connection: Connection,
    *,
    reason: Reason,
    scope: Scope,
    holder: str,
    note: str,
    placed_by: str,
    now: datetime,
    shadow: bool = False,
) -> ScopedHold:
    """Put a scoped hold on record without its members yet: `mend` or `place` holds the circuits."""
    if reason not in SCOPED_REASONS:
        raise UnableToPlaceScopedHoldError(f"reason: a scope can't be held for {reason}")
    if not note.strip():
        raise UnableToPlaceScopedHoldError("reason: expected why these circuits are held, got nothing")
    found = check_scope(connection, scope)
    same = [getattr(scoped_holds.c, part).is_not_distinct_from(getattr(scope, part)) for part in PARTS]
    standing_id = connection.scalar(
        sa.select(scoped_holds.c.scoped_hold_id).where(
            scoped_holds.c.reason == reason.value,
            scoped_holds.c.holder == holder,
            scoped_holds.c.shadow == shadow,
            scoped_holds.c.released_at.is_(None),
            *same,
        )
    )
    if standing_id is not None:
        return get(connection, standing_id)
    scoped_hold_id = new_id(_PREFIXES[reason], now)
    connection.execute(
        sa.insert(scoped_holds).values(
            scoped_hold_id=scoped_hold_id,
            reason=reason.value,
            holder=holder,
            note=note,
            shadow=shadow,
            placed_at=now,
            placed_by=placed_by,
            **{part: getattr(scope, part) for part in PARTS},
        )
    )
    audit_log.write(
        connection,
        actor=placed_by,
        action=f"scope.{reason.value}.placed",
        subject_kind="scoped_hold",
        subject_id=scoped_hold_id,
        detail={"scope": describe(scope), "circuits": found, "note": note, "holder": holder, "shadow": shadow},
        now=now,
    )
    return get(connection, scoped_hold_id)


def get(connection: Connection, scoped_hold_id: str) -> ScopedHold:
    """Return a standing scoped hold. Raises UnableToFindScopedHoldError."""
    found = _read(connection, scoped_holds.c.scoped_hold_id == scoped_hold_id)
    if not found:
        raise UnableToFindScopedHoldError(
            f"{scoped_hold_id}: there is no standing hold over a scope of this id"
        )
    return found[0]


def standing(connection: Connection, *, reason: Reason | None = None) -> list[ScopedHold]:
    """Return the standing scoped holds, oldest first."""
    return _read(connection, sa.true() if reason is None else scoped_holds.c.reason == reason.value)


def release(*, books: Books, scoped_hold_id: str, actor: str, note: str, now: datetime) -> ScopedHold:
    """End a scoped hold and release its members; other holds stay. The caller has checked who may.

    Raises UnableToFindScopedHoldError.
    """
    with books.write() as connection:
        scoped = get(connection, scoped_hold_id)
        connection.execute(
            sa.update(scoped_holds)
            .where(scoped_holds.c.scoped_hold_id == scoped_hold_id)
            .values(released_at=now, released_by=actor, release_note=note)
        )
        audit_log.write(
            connection,
            actor=actor,
            action=f"scope.{scoped.reason.value}.released",
            subject_kind="scoped_hold",
            subject_id=scoped_hold_id,
            detail={"scope": describe(scoped.scope), "note": note, "holder": scoped.holder},
            now=now,
        )
    _let_go(books, scoped_hold_id, actor, note, now)
    return scoped


def mend(books: Books, now: datetime) -> int:
    """Place what members are missing and release what ended ones left behind; return how many were changed."""
    with books.read() as connection:
        wanting = [one for one in standing(connection) if _missing(connection, one, limit=1)]
        ended = connection.execute(
            sa.select(scoped_holds.c.scoped_hold_id, scoped_holds.c.released_by, scoped_holds.c.release_note)
            .distinct()
            .join(holds_table, holds_table.c.scoped_hold_id == scoped_holds.c.scoped_hold_id)
            .where(scoped_holds.c.released_at.is_not(None), holds_table.c.released_at.is_(None))
        ).all()
    changed = sum(_cover(books, scoped, now) for scoped in wanting)
    return changed + sum(_let_go(books, row[0], row[1], row[2] or "", now) for row in ended)


def _cover(books: Books, scoped: ScopedHold, now: datetime) -> int:
    placed = 0
    while True:
        with books.write() as connection:
            # Locked, so that an end that is recorded meanwhile comes before this or after it, never in between.
            stands = connection.scalar(
                sa.select(scoped_holds.c.scoped_hold_id)
                .where(
                    scoped_holds.c.scoped_hold_id == scoped.scoped_hold_id, scoped_holds.c.released_at.is_(None)
                )
                .with_for_update()
            )
            missing = _missing(connection, scoped, limit=AT_ONCE) if stands else []
            for circuit_id in missing:
                holds.place(
                    connection,
                    circuit_id=circuit_id,
                    reason=scoped.reason,
                    placed_by=scoped.placed_by,
                    holder=scoped.holder,
                    note=scoped.note,
                    evidence={"scope": describe(scoped.scope)},
                    shadow=scoped.shadow,
                    scoped_hold_id=scoped.scoped_hold_id,
                    now=now,
                )
        placed += len(missing)
        if len(missing) < AT_ONCE:
            return placed


def _missing(connection: Connection, scoped: ScopedHold, *, limit: int) -> list[str]:
    held = sa.exists().where(
        holds_table.c.circuit_id == circuits.c.circuit_id,
        holds_table.c.scoped_hold_id == scoped.scoped_hold_id,
        holds_table.c.released_at.is_(None),
    )
    query = circuits_in(scoped.scope).where(sa.not_(held)).order_by(circuits.c.circuit_id).limit(limit)
    return list(connection.scalars(query))


def _let_go(books: Books, scoped_hold_id: str, actor: str, note: str, now: datetime) -> int:
    released = 0
    while True:
        with books.write() as connection:
            members = holds.members(connection, scoped_hold_id, limit=AT_ONCE)
            released += holds.release_members(
                connection, members, actor=actor, evidence={"note": note}, now=now
            )
        if len(members) < AT_ONCE:
            return released


def _read(connection: Connection, condition: sa.ColumnElement[bool]) -> list[ScopedHold]:
    return list(_scoped(connection, condition))


def _scoped(connection: Connection, condition: sa.ColumnElement[bool]) -> Iterator[ScopedHold]:
    counted = (
        sa.select(
            holds_table.c.scoped_hold_id,
            sa.func.count().label("circuits"),
            sa.func.count(holds_table.c.confirmed_open_at).label("confirmed_open"),
            sa.func.max(holds_table.c.confirmed_open_at).label("confirmed_open_at"),
        )
        .where(holds_table.c.released_at.is_(None), holds_table.c.scoped_hold_id != "")
        .group_by(holds_table.c.scoped_hold_id)
        .subquery()
    )
    rows = connection.execute(
        sa.select(scoped_holds, counted.c.circuits, counted.c.confirmed_open, counted.c.confirmed_open_at)
        .outerjoin(counted, counted.c.scoped_hold_id == scoped_holds.c.scoped_hold_id)
        .where(scoped_holds.c.released_at.is_(None), condition)
        .order_by(scoped_holds.c.placed_at, scoped_holds.c.scoped_hold_id)
    ).mappings()
    for row in rows:
        all_open = row["circuits"] is not None and row["confirmed_open"] == row["circuits"]
        yield ScopedHold(
            scoped_hold_id=row["scoped_hold_id"],
            reason=reason_of(row["reason"]),
            scope=Scope(**{part: row[part] for part in PARTS}),
            holder=row["holder"],
            note=row["note"],
            shadow=row["shadow"],
            placed_at=row["placed_at"],
            placed_by=row["placed_by"],
            circuits=row["circuits"] or 0,
            confirmed_open=row["confirmed_open"] or 0,
            confirmed_open_at=row["confirmed_open_at"] if all_open else None,
        )
