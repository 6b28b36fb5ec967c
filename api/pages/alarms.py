"""Alarms for maintenance, live: what waits for acknowledgement first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.pages.visit import PageRoute, Visit, Visitor, see_other
from api.routers.alarms import acknowledge_alarm
from dormpower.books import alarms, rooms
from dormpower.books.alarms import Alarm

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_WAITING = 100
_CLEARED = 20
# The worst first; within a priority the newest first, as the books list them.
_PRIORITIES = ("critical", "high", "medium", "low")

Kind = Annotated[Literal["all", "load_off"], Query()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The lists by name, in the order they are read, and the rooms of their circuits."""

    lists: Mapping[str, Sequence[Alarm]]
    rooms: Mapping[str, str]


@router.get("/alarms")
def show_alarms(visit: Visitor, kind: Kind = "all") -> Response:
    """Show the alarms; the list reads itself again when one changes."""
    return visit.page("alarms.html", kind=kind, shown=_shown(visit, kind))


@router.get("/alarms/list")
def show_list(visit: Visitor, kind: Kind = "all") -> Response:
    """Return the list alone."""
    return visit.page("alarm_lists.html", kind=kind, shown=_shown(visit, kind))


@router.post("/alarms/{alarm_id}/acknowledge")
def acknowledge(visit: Visitor, alarm_id: str) -> Response:
    """Put on record who took note."""
    acknowledge_alarm(alarm_id, visit.allowed, visit.context)
    return see_other("/alarms?kind=load_off" if visit.form.get("kind") == "load_off" else "/alarms")


def _shown(visit: Visit, kind: str) -> Shown:
    only = None if kind == "all" else kind
    with visit.context.books.read() as connection:
        new, _ = alarms.listing(connection, kind=only, acknowledged=False, limit=_WAITING)
        known, _ = alarms.listing(connection, kind=only, state="active", acknowledged=True, limit=_WAITING)
        cleared, _ = alarms.listing(connection, kind=only, state="cleared", acknowledged=True, limit=_CLEARED)
        circuit_ids = [one.circuit_id for one in (*new, *known, *cleared) if one.circuit_id]
        places = rooms.rooms_of_circuits(connection, circuit_ids=circuit_ids)
    # Of what waits the active goes first, then the worst.
    new.sort(key=lambda one: (one.cleared_at is not None, _rank(one)))
    known.sort(key=_rank)
    return Shown(lists={"new": new, "known": known, "cleared": cleared}, rooms=places)


def _rank(alarm: Alarm) -> int:
    return _PRIORITIES.index(alarm.priority)
