"""Planned outages, and the keep-supply list."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Instant, Line
from api.roles import PREFIX
from api.routers.scopes import ReleaseQuery, ScopeJson, scope_json
from dormpower.books import keep_supply, outages
from dormpower.books.outages import AnnouncedOutage

router = APIRouter(prefix=PREFIX, tags=["maintenance"])


class OutageRequest(BaseModel):
    """Where, from when until when (half-open), and what residents should know."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeJson
    from_at: Instant
    to_at: Instant
    note: Line


class OutageJson(BaseModel):
    """A planned outage; its rooms announce it from `announced_at` on."""

    outage_id: str
    scope: ScopeJson
    from_at: datetime
    to_at: datetime
    note: str
    announced_at: datetime
    announced_by: str


class OutagesJson(BaseModel):
    """What is to come or running, by its beginning."""

    items: list[OutageJson]


class KeepSupplyRequest(BaseModel):
    """Whether the room is kept supplied, and why."""

    model_config = ConfigDict(extra="forbid")

    keep: Annotated[bool, Field(strict=True)]
    reason: Line


class KeptRoomJson(BaseModel):
    """A room that is never cut for arrears and spared curfews."""

    room_id: str
    campus: str
    building: str


class KeptRoomsJson(BaseModel):
    """The keep-supply list, by room."""

    items: list[KeptRoomJson]


class KeepSupplyJson(BaseModel):
    """Whether the room is on the list now, and whether that is a change."""

    room_id: str
    keep: bool
    changed: bool


def _json(announced: AnnouncedOutage) -> dict[str, Any]:
    outage = announced.outage
    return {
        "outage_id": outage.outage_id,
        "scope": scope_json(outage.scope),
        "from_at": outage.from_at,
        "to_at": outage.to_at,
        "note": outage.note,
        "announced_at": announced.announced_at,
        "announced_by": announced.announced_by,
    }


@router.get("/outages", response_model=OutagesJson, summary="List planned outages")
def list_outages(allowed: Allowed, context: Context) -> Response:
    """Return the planned outages that are to come or running."""
    del allowed
    with context.books.read() as connection:
        found = outages.coming(connection, now=context.clock.now())
    return Json({"items": [_json(announced) for announced in found]})


@router.post("/outages", status_code=201, response_model=OutageJson, summary="Announce a planned outage")
def announce_outage(wanted: OutageRequest, allowed: Allowed, context: Context) -> Response:
    """Announce an outage; its circuits are off from its first instant to its last."""
    try:
        with context.books.write() as connection:
            announced = outages.announce(
                connection,
                scope=wanted.scope.to_domain(),
                from_at=wanted.from_at,
                to_at=wanted.to_at,
                note=wanted.note,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except outages.UnableToAnnounceOutageError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json(_json(announced), status_code=201)


@router.delete("/outages/{outage_id}", status_code=204, summary="Call a planned outage off")
def call_outage_off(
    outage_id: str, wanted: Annotated[ReleaseQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Call an outage off, before or while it runs."""
    try:
        with context.books.write() as connection:
            outages.call_off(
                connection,
                outage_id=outage_id,
                actor=allowed.principal.user.username,
                note=wanted.reason,
                now=context.clock.now(),
            )
    except outages.UnableToFindOutageError as refusal:
        raise not_found() from refusal
    context.wake()
    return Response(status_code=204)


@router.get("/keep-supply", response_model=KeptRoomsJson, summary="List rooms that are kept supplied")
def list_kept(allowed: Allowed, context: Context) -> Response:
    """Return the keep-supply list."""
    del allowed
    with context.books.read() as connection:
        found = keep_supply.kept(connection)
    return Json(
        {"items": [{name: getattr(room, name) for name in KeptRoomJson.model_fields} for room in found]}
    )


@router.put(
    "/rooms/{room_id}/keep-supply", response_model=KeepSupplyJson, summary="Keep a room supplied, or not"
)
def keep_room(room_id: str, wanted: KeepSupplyRequest, allowed: Allowed, context: Context) -> Response:
    """Put a room on the keep-supply list or take it off; the reason goes on record."""
    try:
        with context.books.write() as connection:
            changed = keep_supply.set_keep_supply(
                connection,
                room_id=room_id,
                keep=wanted.keep,
                reason=wanted.reason,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except keep_supply.UnableToKeepSupplyError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json({"room_id": room_id, "keep": wanted.keep, "changed": changed})
