"""Alarms for maintenance, live: what waits for acknowledgement first, the worst of it on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.responses import Response

from api.pages.visit import PageRoute, Visit, Visitor, see_other
from api.problems import Problem, Refusal, not_found
from api.routers import scopes
from api.routers.alarms import ShelvingRequest, acknowledge_alarm, shelve_alarm, unshelve_alarm
from dormpower.books import alarm_steps, alarms, rooms, shelving
from dormpower.books.alarms import Alarm
from dormpower.books.shelving import AlarmFigures
from dormpower.domain.alarms import AlarmKind

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SHELVE_HOURS = (1, 8, 24, 72)
_WAITING = 100
_CLEARED = 20
# A building whose circuits were found open is off for the same reason as one circuit.
_LOAD_OFF = (AlarmKind.LOAD_OFF, AlarmKind.BUILDING_OPENED)

Kind = Annotated[Literal["all", "load_off"], Query()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The lists by name, in the order they are read, how much each holds, and the rooms of their circuits."""

    lists: Mapping[str, Sequence[Alarm]]
    totals: Mapping[str, int]
    figures: AlarmFigures
    rooms: Mapping[str, str]


@router.get("/alarms")
def show_alarms(visit: Visitor, kind: Kind = "all") -> Response:
    """Show the alarms; the list reads itself again when one changes."""
    return visit.page("alarms.html", kind=kind, shown=_shown(visit, kind))


@router.get("/alarms/list")
def show_list(visit: Visitor, kind: Kind = "all") -> Response:
    """Return the list alone."""
    return visit.page("alarm_lists.html", kind=kind, shown=_shown(visit, kind))


@router.get("/alarms/{alarm_id}")
def show_alarm(visit: Visitor, alarm_id: str) -> Response:
    """Show one alarm: its evidence, who did what with it, and what can be done."""
    try:
        with visit.context.books.read() as connection:
            alarm = alarms.get(connection, alarm_id)
            steps = alarm_steps.history(connection, alarm_id)
            places = rooms.rooms_of_circuits(
                connection, circuit_ids=[alarm.circuit_id] if alarm.circuit_id else []
            )
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    now = visit.context.clock.now()
    return visit.page(
        "alarm.html",
        alarm=alarm,
        steps=steps,
        room_id=places.get(alarm.circuit_id or ""),
        is_aside=alarm.shelved_until_at is not None and alarm.shelved_until_at > now,
        hours=SHELVE_HOURS,
    )


@router.post("/alarms/{alarm_id}/acknowledge")
def acknowledge(visit: Visitor, alarm_id: str) -> Response:
    """Put on record who took note."""
    acknowledge_alarm(alarm_id, visit.allowed, visit.context)
    return _back(visit)


@router.post("/alarms/{alarm_id}/shelve")
def shelve(visit: Visitor, alarm_id: str) -> Response:
    """Put an alarm aside for some hours, with a reason."""
    hours = visit.form.get("hours", "")
    if hours not in {str(one) for one in SHELVE_HOURS}:
        raise Refusal(Problem.INVALID, f"hours: expected one of {SHELVE_HOURS}, got something else")
    until_at = visit.context.clock.now() + timedelta(hours=int(hours))
    try:
        wanted = ShelvingRequest(until_at=until_at, reason=visit.form.get("reason", "").strip())
    except ValidationError as fault:
        raise Refusal(Problem.INVALID, "reason: expected 1 to 200 characters on one line") from fault
    shelve_alarm(alarm_id, wanted, visit.allowed, visit.context)
    return _back(visit)


@router.post("/alarms/{alarm_id}/unshelve")
def unshelve(visit: Visitor, alarm_id: str) -> Response:
    """Bring an alarm back before its time."""
    unshelve_alarm(alarm_id, visit.allowed, visit.context)
    return _back(visit)


@router.post("/alarms/{alarm_id}/reset")
def reset(visit: Visitor, alarm_id: str) -> Response:
    """Reset the building whose relays were found open, as its alarm suggests."""
    try:
        with visit.context.books.read() as connection:
            alarm = alarms.get(connection, alarm_id)
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    if alarm.kind != AlarmKind.BUILDING_OPENED:
        raise not_found()
    scopes.reset(scopes.ResetRequest(**alarm.detail["reset"]), visit.allowed, visit.context)
    return _back(visit)


def _back(visit: Visit) -> Response:
    return see_other("/alarms?kind=load_off" if visit.form.get("kind") == "load_off" else "/alarms")


def _shown(visit: Visit, kind: str) -> Shown:
    only, now = None if kind == "all" else _LOAD_OFF, visit.context.clock.now()
    with visit.context.books.read() as connection:
        new, waiting = alarms.worst_first(connection, acknowledged=False, kinds=only, now=now, limit=_WAITING)
        known, active = alarms.worst_first(connection, acknowledged=True, kinds=only, now=now, limit=_WAITING)
        aside, _ = alarms.listing(connection, kinds=only, state="active", shelved=(True, now), limit=_WAITING)
        cleared, _ = alarms.listing(connection, kinds=only, state="cleared", acknowledged=True, limit=_CLEARED)
        figures = shelving.figures(connection, now=now)
        circuit_ids = [one.circuit_id for one in (*new, *known, *aside, *cleared) if one.circuit_id]
        places = rooms.rooms_of_circuits(connection, circuit_ids=circuit_ids)
    return Shown(
        lists={"new": new, "known": known, "aside": aside, "cleared": cleared},
        totals={"new": waiting, "known": active, "aside": len(aside), "cleared": len(cleared)},
        figures=figures,
        rooms=places,
    )
