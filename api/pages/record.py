"""What is on record of a room beside its money: time off for a feeder, questions, the timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.circuit_json import Reader, announcement_json, announcements_of
from api.pages.visit import PageRoute, Visit, Visitor
from api.problems import Problem, Refusal
from api.queries import Cursor
from api.routers.alarms import suspicion_json
from api.routers.timeline import entry_json
from dormpower.books import alarms, fairness, outages, residencies, reviews, timeline
from dormpower.books.feeders import OffOnDay
from dormpower.books.reviews import Dispute
from dormpower.books.rooms import RoomView
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.days import CampusDays

router = APIRouter(route_class=PageRoute, include_in_schema=False)

OFF_DAYS = 30
_SUSPICIONS = 3
_QUESTIONS = 10
_ENTRIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A circuit's questions; `askable` are decisions that the reader may still ask about, by kind and id."""

    kind: str
    circuit_id: str
    askable: Sequence[Mapping[str, Any]]
    disputes: Sequence[Dispute]


@router.get("/circuits/{circuit_id}/timeline")
def show_timeline(
    visit: Visitor, circuit_id: str, cursor: Annotated[Cursor | None, Query()] = None
) -> Response:
    """Show what happened to a circuit, newest first; a resident sees the time of the own residency."""
    try:
        with visit.context.books.read() as connection:
            found, next_cursor = timeline.page(
                connection, circuit_id=circuit_id, spans=visit.allowed.spans, limit=_ENTRIES, cursor=cursor
            )
    except timeline.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    reader = reader_of(visit)
    return visit.page(
        "timeline.html",
        circuit_id=circuit_id,
        room_id=visit.allowed.room_id,
        entries=[entry_json(entry, reader) for entry in found],
        cursor=cursor,
        next_cursor=next_cursor,
    )


def reader_of(visit: Visit) -> Reader:
    """Return who reads the page."""
    return Reader(language=visit.language, zone=visit.context.zone, spans=visit.allowed.spans)


def announcements(visit: Visit, room: RoomView) -> list[dict[str, Any]]:
    """Return what is announced for a room: its next curfew and night limits, and planned outages."""
    context, now = visit.context, visit.context.clock.now()
    with context.books.read() as connection:
        schedules = context.rules(connection).schedules
        planned = outages.of_rooms(connection, room_ids=[room.room_id], now=now)
    told = announcements_of(room, announced=planned.get(room.room_id, ()), schedules=schedules, now=now)
    return [announcement_json(one, reader_of(visit)) for one in told]


def minutes_off(visit: Visit, room: RoomView) -> Sequence[OffOnDay]:
    """Return on which of the last days the room was shed for how long, newest first."""
    days, now = CampusDays(visit.context.zone), visit.context.clock.now()
    last_on = days.day_of(now)
    with visit.context.books.read() as connection:
        found = fairness.of_room(
            connection,
            room_id=room.room_id,
            from_on=last_on - timedelta(days=OFF_DAYS - 1),
            to_on=last_on,
            spans=visit.allowed.spans,
            now=now,
            days=days,
        )
    return found[::-1]


def questions(visit: Visit, room: RoomView, shown: Mapping[str, Mapping[str, Any]]) -> list[Asked]:
    """Return what was asked about each circuit, and what may be. `shown` is each circuit's JSON."""
    spans, reader, who = visit.allowed.spans, reader_of(visit), visit.principal.user.username
    asked = []
    with visit.context.books.read() as connection:
        for view in room.circuits:
            disputes, _ = reviews.listing(connection, circuit_id=view.circuit_id, spans=spans, limit=_QUESTIONS)
            suspected, _ = alarms.listing(
                connection,
                kinds=(AlarmKind.PROHIBITED_LOAD,),
                circuit_id=view.circuit_id,
                spans=spans,
                limit=_SUSPICIONS,
            )
            known = {one.subject_id for one in disputes if one.asked_by == who}
            holds = shown[view.circuit_id]["holds"]
            askable = [
                *(
                    {"subject_kind": "hold", "subject_id": hold["hold_id"], **hold}
                    for hold in holds
                    if residencies.any_holds(spans, hold["since_at"])
                ),
                *(
                    {
                        "subject_kind": "alarm",
                        "subject_id": told["alarm_id"],
                        "since_at": told["raised_at"],
                        **told,
                    }
                    for told in (suspicion_json(alarm, reader) for alarm in suspected)
                ),
            ]
            asked.append(
                Asked(
                    kind=view.kind,
                    circuit_id=view.circuit_id,
                    askable=[one for one in askable if one["subject_id"] not in known],
                    disputes=disputes,
                )
            )
    return asked
