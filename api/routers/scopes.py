"""What people do to a part of the site: lock out, mark vacant, switch off. Nothing here moves a relay."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Line
from api.queries import Query as QueryModel
from api.roles import PREFIX
from dormpower.books import emergency, scoped_holds, scoped_resets
from dormpower.books.scoped_holds import PARTS, ScopedHold
from dormpower.domain.holds import Reason
from dormpower.domain.scopes import Scope

router = APIRouter(prefix=PREFIX, tags=["maintenance"])

SENTENCE = "supply switch reported open; isolate, lock and prove dead at the breaker before work"
MAX_CIRCUITS = 1_000_000


class ScopeJson(BaseModel):
    """A part of the site: a room, or a campus and what of it; what is left out is open."""

    model_config = ConfigDict(extra="forbid")

    campus: Line | None = None
    building: Line | None = None
    floor: Line | None = None
    room_id: Line | None = None
    kind: Literal["lighting", "ac"] | None = None

    def to_domain(self) -> Scope:
        """Return it as the domain's."""
        return Scope(**{part: getattr(self, part) for part in PARTS})


class ScopeRequest(BaseModel):
    """Where, and why: what people read on each room's page."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeJson
    reason: Line


class ResetRequest(BaseModel):
    """Where to reset trips."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeJson


class ScopedResetJson(BaseModel):
    """How many circuits of the scope had a trip or were opened locally, and how many holds were released."""

    scope: ScopeJson
    circuits: int
    released: int


class VacancyRequest(BaseModel):
    """Which room, and why."""

    model_config = ConfigDict(extra="forbid")

    room_id: Line
    reason: Line


class ScopedHoldJson(BaseModel):
    """A hold on every circuit of a scope. `confirmed_open` of its `circuits` were read back open since."""

    scoped_hold_id: str
    scope: ScopeJson
    holder: str
    reason: str
    placed_at: datetime
    circuits: int
    confirmed_open: int
    confirmed_open_at: datetime | None = Field(
        description=f"When the last circuit was read back open, null while one is missing: {SENTENCE}."
    )


class ScopedHoldsJson(BaseModel):
    """All that stand, oldest first."""

    items: list[ScopedHoldJson]


class ReleaseQuery(QueryModel):
    """Why it ends."""

    reason: Line


class ProposalRequest(BaseModel):
    """Which building, and why."""

    model_config = ConfigDict(extra="forbid")

    campus: Line
    building: Line
    reason: Line


class ProposalJson(BaseModel):
    """What would be cut: confirmed with this token and number of circuits before `expires_at` (real time)."""

    token: str
    campus: str
    building: str
    circuits: int
    rooms: int
    keep_supply_rooms: int
    reported_open: int
    expires_at: datetime


class ConfirmRequest(BaseModel):
    """The token of the proposal, and the number of circuits that it named."""

    model_config = ConfigDict(extra="forbid")

    token: Line
    circuits: Annotated[int, Field(strict=True, ge=1, le=MAX_CIRCUITS)]


def scope_json(scope: Scope) -> dict[str, Any]:
    """Fill a scope."""
    return {part: getattr(scope, part) for part in PARTS}


def _json(scoped: ScopedHold) -> dict[str, Any]:
    return {
        "scoped_hold_id": scoped.scoped_hold_id,
        "scope": scope_json(scoped.scope),
        "holder": scoped.holder,
        "reason": scoped.note,
        "placed_at": scoped.placed_at,
        "circuits": scoped.circuits,
        "confirmed_open": scoped.confirmed_open,
        "confirmed_open_at": scoped.confirmed_open_at,
    }


def _place(context: Context, allowed: Allowed, *, reason: Reason, scope: Scope, note: str) -> Response:
    name = allowed.principal.user.username
    try:
        scoped = scoped_holds.place(
            books=context.books,
            reason=reason,
            scope=scope,
            holder=name,
            note=note,
            placed_by=name,
            now=context.clock.now(),
        )
    except scoped_holds.UnableToPlaceScopedHoldError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json(_json(scoped), status_code=202)


def _list(context: Context, reason: Reason) -> Response:
    with context.books.read() as connection:
        found = scoped_holds.standing(connection, reason=reason)
    return Json({"items": [_json(scoped) for scoped in found]})


def release(context: Context, allowed: Allowed, *, scoped_hold_id: str, note: str, reason: Reason) -> Response:
    """End a scoped hold of one reason; anything else is not found."""
    try:
        with context.books.read() as connection:
            scoped = scoped_holds.get(connection, scoped_hold_id)
        if scoped.reason is not reason:
            raise not_found()
        scoped_holds.release(
            books=context.books,
            scoped_hold_id=scoped_hold_id,
            actor=allowed.principal.user.username,
            note=note,
            now=context.clock.now(),
        )
    except scoped_holds.UnableToFindScopedHoldError as refusal:
        raise not_found() from refusal
    context.wake()
    return Response(status_code=204)


@router.get("/lockouts", response_model=ScopedHoldsJson, summary="List lock-outs over a part of the site")
def list_lockouts(allowed: Allowed, context: Context) -> Response:
    """Return the standing lock-outs over rooms, floors and buildings; a circuit's own is on its room."""
    del allowed
    return _list(context, Reason.LOCKOUT)


@router.post(
    "/lockouts", status_code=202, response_model=ScopedHoldJson, summary="Lock out a room, floor or building"
)
def place_lockout(wanted: ScopeRequest, allowed: Allowed, context: Context) -> Response:
    """Lock every circuit of a scope out in the own name, those that are described later among them."""
    return _place(context, allowed, reason=Reason.LOCKOUT, scope=wanted.scope.to_domain(), note=wanted.reason)


@router.post("/resets", response_model=ScopedResetJson, summary="Reset trips in a room, floor or building")
def reset(wanted: ResetRequest, allowed: Allowed, context: Context) -> Response:
    """Release latched trips and `opened_locally` of every circuit of a scope, nothing else."""
    scope = wanted.scope.to_domain()
    try:
        done = scoped_resets.reset(
            books=context.books,
            scope=scope,
            actor=allowed.principal.user.username,
            now=context.clock.now(),
        )
    except scoped_holds.UnableToPlaceScopedHoldError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json({"scope": scope_json(scope), "circuits": done.circuits, "released": done.released})


@router.get("/vacancies", response_model=ScopedHoldsJson, summary="List vacant rooms")
def list_vacancies(allowed: Allowed, context: Context) -> Response:
    """Return the rooms that are without supply because nobody lives there."""
    del allowed
    return _list(context, Reason.VACANT)


@router.post("/vacancies", status_code=202, response_model=ScopedHoldJson, summary="Mark a room vacant")
def place_vacancy(wanted: VacancyRequest, allowed: Allowed, context: Context) -> Response:
    """Take a room off supply until the vacancy ends."""
    return _place(
        context, allowed, reason=Reason.VACANT, scope=Scope(room_id=wanted.room_id), note=wanted.reason
    )


@router.delete("/vacancies/{scoped_hold_id}", status_code=204, summary="End a vacancy")
def end_vacancy(
    scoped_hold_id: str, wanted: Annotated[ReleaseQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Give a room its supply back."""
    return release(context, allowed, scoped_hold_id=scoped_hold_id, note=wanted.reason, reason=Reason.VACANT)


@router.get("/emergencies", response_model=ScopedHoldsJson, summary="List buildings that are switched off")
def list_emergencies(allowed: Allowed, context: Context) -> Response:
    """Return the standing emergencies and how many of their circuits there are."""
    del allowed
    return _list(context, Reason.EMERGENCY)


@router.post("/emergencies/proposals", response_model=ProposalJson, summary="Ask what an emergency off cuts")
def propose_emergency(wanted: ProposalRequest, allowed: Allowed, context: Context) -> Response:
    """Name what would be cut; nothing is cut. The token is valid for a minute and bound to the numbers."""
    try:
        with context.books.write() as connection:
            proposal = emergency.propose(
                connection,
                campus=wanted.campus,
                building=wanted.building,
                note=wanted.reason,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
                real_now=context.clock.real_now(),
            )
    except scoped_holds.UnableToPlaceScopedHoldError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json({name: getattr(proposal, name) for name in ProposalJson.model_fields})


@router.post("/emergencies", status_code=202, response_model=ScopedHoldJson, summary="Switch a building off")
def confirm_emergency(wanted: ConfirmRequest, allowed: Allowed, context: Context) -> Response:
    """Switch the proposed building off. Where anything does not fit any more, nothing is cut (409)."""
    try:
        scoped = emergency.confirm(
            books=context.books,
            token=wanted.token,
            circuits=wanted.circuits,
            actor=allowed.principal.user.username,
            now=context.clock.now(),
            real_now=context.clock.real_now(),
        )
    except emergency.UnableToConfirmEmergencyError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    context.wake()
    return Json(_json(scoped), status_code=202)


@router.delete("/emergencies/{scoped_hold_id}", status_code=204, summary="End an emergency off")
def end_emergency(
    scoped_hold_id: str, wanted: Annotated[ReleaseQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Let a building come back, in batches."""
    return release(context, allowed, scoped_hold_id=scoped_hold_id, note=wanted.reason, reason=Reason.EMERGENCY)
