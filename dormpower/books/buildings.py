"""Buildings at a glance: how many rooms each has, and in which state they are."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.circuits_view import Present, state_is
from dormpower.books.tables import circuits, rooms
from dormpower.domain.holds import SupplyState

# A room counts once, by whichever of its circuits comes first in this order.
STATES = tuple(SupplyState)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingView:
    """A building at one moment; `rooms_by_state` adds up to `rooms`."""

    campus: str
    building: str
    rooms: int
    rooms_by_state: Mapping[SupplyState, int]


def overview(connection: Connection, *, present: Present) -> list[BuildingView]:
    """Return all buildings by campus and name, in one query."""
    rank = sa.case(
        *(
            (state_is(state, circuit_id=circuits.c.circuit_id, present=present), number)
            for number, state in enumerate(STATES)
        ),
        else_=len(STATES),
    )
    a_room = (
        sa.select(rooms.c.campus, rooms.c.building, rooms.c.room_id, sa.func.min(rank).label("rank"))
        .join(circuits, circuits.c.room_id == rooms.c.room_id)
        .where(rooms.c.closed_at.is_(None))
        .group_by(rooms.c.campus, rooms.c.building, rooms.c.room_id)
        .subquery()
    )
    found: dict[tuple[str, str], dict[SupplyState, int]] = {}
    for row in connection.execute(
        sa.select(a_room.c.campus, a_room.c.building, a_room.c.rank, sa.func.count().label("number"))
        .group_by(a_room.c.campus, a_room.c.building, a_room.c.rank)
        .order_by(a_room.c.campus, a_room.c.building, a_room.c.rank)
    ):
        found.setdefault((row.campus, row.building), {})[STATES[row.rank]] = row.number
    return [
        BuildingView(campus=campus, building=building, rooms=sum(by_state.values()), rooms_by_state=by_state)
        for (campus, building), by_state in found.items()
    ]
