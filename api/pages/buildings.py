"""Maintenance's view of the houses: buildings at a glance, and one building's rooms by floor."""

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.pages.states import state_code
from api.pages.visit import PageRoute, Visitor
from api.present import present_of
from api.problems import Problem, Refusal, not_found
from dormpower.books import buildings, rooms
from dormpower.books.circuits_view import CircuitView
from dormpower.books.rooms import RoomView
from dormpower.domain.holds import SupplyState

router = APIRouter(route_class=PageRoute, include_in_schema=False)

# Beyond this a building's page would be unreadable: it says so and asks for a filter.
MAX_ROOMS = 600


@router.get("/buildings")
def show_buildings(visit: Visitor) -> Response:
    """Show every building with its rooms by state."""
    with visit.context.books.read() as connection:
        found = buildings.overview(connection, present=present_of(connection, visit.context))
    return visit.page("buildings.html", buildings=found, states=buildings.STATES)


@router.get("/buildings/{campus}/{building}")
def show_building(
    visit: Visitor, campus: str, building: str, state: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """Show a building's rooms by floor; `state` keeps those with a circuit in that state."""
    if state and state not in set(SupplyState):
        raise Refusal(Problem.INVALID, f"state: expected one of {', '.join(SupplyState)}, got something else")
    wanted = rooms.RoomFilter(campus=campus, building=building, state=SupplyState(state) if state else None)
    found: list[RoomView] = []
    cursor: str | None = None
    with visit.context.books.read() as connection:
        present = present_of(connection, visit.context)
        view = next(
            (
                one
                for one in buildings.overview(connection, present=present)
                if (one.campus, one.building) == (campus, building)
            ),
            None,
        )
        if view is None:
            raise not_found()
        while len(found) < MAX_ROOMS:
            page = rooms.list_rooms(
                connection, wanted=wanted, present=present, limit=rooms.MAX_ROOMS, cursor=cursor
            )
            found += page.rooms
            cursor = page.next_cursor
            if cursor is None:
                break
    floors = [(floor, list(group)) for floor, group in groupby(found, key=lambda room: room.floor)]
    return visit.page(
        "building.html",
        view=view,
        floors=floors,
        count=len(found),
        is_cut=cursor is not None,
        chosen=state,
        states=buildings.STATES,
        worst_of=_worst_of,
    )


def _worst_of(room: RoomView) -> CircuitView:
    """Return the circuit that a room is counted by: the first in the overview's order of states.

    Of two that are to be locked out, the one that is not read back open yet.
    """
    return min(
        room.circuits,
        key=lambda view: (buildings.STATES.index(view.state), state_code(view) == f"state.{view.state}"),
    )
