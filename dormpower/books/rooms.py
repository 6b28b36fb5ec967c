"""Rooms: one, or a page of those that match."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import circuits_view
from dormpower.books.circuits_view import CircuitView, Present
from dormpower.books.tables import circuits, holds, rooms
from dormpower.domain.holds import Reason, SupplyState
from dormpower.domain.scopes import Where

MAX_ROOMS = 200


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomView:
    """A room and its circuits at one moment."""

    room_id: str
    campus: str
    building: str
    floor: str
    name: str
    circuits: tuple[CircuitView, ...]
    keep_supply: bool = False

    @property
    def places(self) -> tuple[Where, ...]:
        """Where its circuits are, for rules that differ by place."""
        return tuple(
            Where(
                campus=self.campus,
                building=self.building,
                floor=self.floor,
                room_id=self.room_id,
                kind=circuit.kind,
            )
            for circuit in self.circuits
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFilter:
    """What rooms are wanted; None leaves a field open. `state` matches any circuit, `text` name or id."""

    campus: str | None = None
    building: str | None = None
    floor: str | None = None
    state: SupplyState | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPage:
    """Some rooms, and where to go on (None at the end)."""

    rooms: tuple[RoomView, ...]
    next_cursor: str | None


def find_room(connection: Connection, *, room_id: str, present: Present) -> RoomView | None:
    """Return a room that is not closed, or None."""
    rows = connection.execute(_OPEN_ROOM, {"room_id": room_id}).all()
    found = _with_circuits(connection, rows, present)
    return found[0] if found else None


def list_rooms(
    connection: Connection, *, wanted: RoomFilter, present: Present, limit: int, cursor: str | None
) -> RoomPage:
    """Return a page of rooms by building, floor and name, in a fixed number of queries.

    A page begins after the last room of the one before, so rooms that come or go meanwhile shift nothing.
    Raises UnableToReadCursorError.
    """
    limit = min(max(limit, 1), MAX_ROOMS)
    keys = (rooms.c.campus, rooms.c.building, rooms.c.floor, rooms.c.name, rooms.c.room_id)
    query = _open_rooms().where(*_conditions(wanted, present)).order_by(*keys).limit(limit + 1)
    if cursor is not None:
        query = query.where(sa.tuple_(*keys) > sa.tuple_(*map(sa.literal, _decode(cursor, len(keys)))))
    rows = connection.execute(query).all()
    next_cursor = None
    if len(rows) > limit:
        rows = rows[:limit]
        next_cursor = _encode([getattr(rows[-1], key.name) for key in keys])
    return RoomPage(rooms=_with_circuits(connection, rows, present), next_cursor=next_cursor)


def open_room(connection: Connection, *, room_id: str) -> str | None:
    """Return the id of a room that is not closed, or None where there is no such room."""
    return connection.execute(_OPEN_ROOM_ID, {"room_id": room_id}).scalar_one_or_none()


def room_of_circuit(connection: Connection, *, circuit_id: str) -> str | None:
    """Return the room of a circuit, or None where there is no such circuit."""
    return connection.execute(_ROOM_OF_CIRCUIT, {"circuit_id": circuit_id}).scalar_one_or_none()


def room_of_lockout(connection: Connection, *, lockout_id: str) -> str | None:
    """Return the room of a standing lock-out (one over a scope: a room in it), None where there is none."""
    return connection.execute(
        sa.select(circuits.c.room_id)
        .join(holds, holds.c.circuit_id == circuits.c.circuit_id)
        .where(
            sa.or_(holds.c.hold_id == lockout_id, holds.c.scoped_hold_id == lockout_id),
            holds.c.reason == Reason.LOCKOUT.value,
            holds.c.released_at.is_(None),
        )
        .order_by(holds.c.hold_id)
        .limit(1)
    ).scalar_one_or_none()


def rooms_of_circuits(connection: Connection, *, circuit_ids: Sequence[str]) -> dict[str, str]:
    """Return the rooms of circuits by circuit id; an unknown one is left out."""
    rows = connection.execute(
        sa.select(circuits.c.circuit_id, circuits.c.room_id).where(circuits.c.circuit_id.in_(list(circuit_ids)))
    )
    return {row.circuit_id: row.room_id for row in rows}


def _open_rooms() -> sa.Select[tuple[str, str, str, str, str, bool]]:
    return sa.select(
        rooms.c.room_id,
        rooms.c.campus,
        rooms.c.building,
        rooms.c.floor,
        rooms.c.name,
        rooms.c.keep_supply,
    ).where(rooms.c.closed_at.is_(None))


# Asked with every request for a room or a circuit: built once.
_OPEN_ROOM = _open_rooms().where(rooms.c.room_id == sa.bindparam("room_id"))
_OPEN_ROOM_ID = sa.select(rooms.c.room_id).where(
    rooms.c.room_id == sa.bindparam("room_id"), rooms.c.closed_at.is_(None)
)
_ROOM_OF_CIRCUIT = (
    sa.select(circuits.c.room_id)
    .join(rooms, rooms.c.room_id == circuits.c.room_id)
    .where(circuits.c.circuit_id == sa.bindparam("circuit_id"), rooms.c.closed_at.is_(None))
)


def _conditions(wanted: RoomFilter, present: Present) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (rooms.c.campus, wanted.campus),
            (rooms.c.building, wanted.building),
            (rooms.c.floor, wanted.floor),
        )
        if value is not None
    ]
    if wanted.text:
        conditions.append(
            sa.or_(
                rooms.c.room_id.icontains(wanted.text, autoescape=True),
                rooms.c.name.icontains(wanted.text, autoescape=True),
            )
        )
    if wanted.state is not None:
        in_state = circuits_view.state_is(wanted.state, circuit_id=circuits.c.circuit_id, present=present)
        conditions.append(sa.exists().where(circuits.c.room_id == rooms.c.room_id, in_state))
    return conditions


def _with_circuits(
    connection: Connection, rows: Sequence[sa.Row[tuple[str, str, str, str, str, bool]]], present: Present
) -> tuple[RoomView, ...]:
    if not rows:
        return ()
    views = circuits_view.of_rooms(connection, room_ids=[row.room_id for row in rows], present=present)
    return tuple(
        RoomView(
            room_id=row.room_id,
            campus=row.campus,
            building=row.building,
            floor=row.floor,
            name=row.name,
            circuits=tuple(views[row.room_id]),
            keep_supply=row.keep_supply,
        )
        for row in rows
    )


def _encode(values: Sequence[str]) -> str:
    packed = json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _decode(cursor: str, length: int) -> list[str]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        "".join(values).encode()  # refuses what no database could compare
    except (ValueError, TypeError, RecursionError) as fault:
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor") from fault
    if not isinstance(values, list) or len(values) != length or "\0" in "".join(values):
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
    return values
