"""Rooms: a list for staff, one room for its residents and staff."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import Allowed, Context
from api.circuit_json import RoomJson, RoomPageJson, announcements_of, room_json
from api.json_response import Json
from api.present import present_of, reader_of
from api.problems import Problem, Refusal, not_found
from api.queries import Line, Paged
from api.roles import PREFIX
from dormpower.books import outages, rooms
from dormpower.domain.holds import SupplyState

router = APIRouter(prefix=PREFIX, tags=["rooms"])


class RoomsQuery(Paged):
    """Which rooms; `state` matches any circuit of a room, `q` a part of its name or id."""

    campus: Line | None = None
    building: Line | None = None
    floor: Line | None = None
    state: SupplyState | None = None
    q: Line | None = None


@router.get("/rooms", response_model=RoomPageJson, summary="Find rooms")
def list_rooms(
    request: Request, wanted: Annotated[RoomsQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return a page of rooms by campus, building, floor and name, each with its circuits."""
    reader = reader_of(request, context, allowed.spans)
    now = context.clock.now()
    chosen = rooms.RoomFilter(
        campus=wanted.campus,
        building=wanted.building,
        floor=wanted.floor,
        state=wanted.state,
        text=wanted.q,
    )
    try:
        with context.books.read() as connection:
            page = rooms.list_rooms(
                connection,
                wanted=chosen,
                present=present_of(connection, context),
                limit=wanted.limit,
                cursor=wanted.cursor,
            )
            announced = outages.of_rooms(connection, room_ids=[room.room_id for room in page.rooms], now=now)
            schedules = context.rules(connection).schedules
    except rooms.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    items = [
        room_json(
            room,
            reader,
            announcements=announcements_of(
                room, announced=announced.get(room.room_id, ()), schedules=schedules, now=now
            ),
        )
        for room in page.rooms
    ]
    return Json({"items": items, "next_cursor": page.next_cursor})


@router.get("/rooms/{room_id}", response_model=RoomJson, summary="One room")
def get_room(request: Request, room_id: str, allowed: Allowed, context: Context) -> Response:
    """Return a room with its circuits as they are now, and what is to come for it."""
    now = context.clock.now()
    with context.books.read() as connection:
        room = rooms.find_room(connection, room_id=room_id, present=present_of(connection, context))
        announced = outages.of_rooms(connection, room_ids=[room_id], now=now)
        schedules = context.rules(connection).schedules
    if room is None:
        raise not_found()
    reader = reader_of(request, context, allowed.spans)
    told = announcements_of(room, announced=announced.get(room_id, ()), schedules=schedules, now=now)
    return Json(room_json(room, reader, announcements=told))
