"""What maintenance does to a circuit: lock out, lift, reset trips. Nothing here moves a relay."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Line
from api.queries import Query as QueryModel
from api.roles import PREFIX
from api.routers import scopes
from dormpower.books import holds, scoped_holds
from dormpower.books.users import Role
from dormpower.domain.holds import Reason

router = APIRouter(prefix=PREFIX, tags=["maintenance"])


class LockoutRequest(BaseModel):
    """Why the circuit must stay off: what people read on the room's page."""

    model_config = ConfigDict(extra="forbid")

    reason: Line


class LockoutJson(BaseModel):
    """A lock-out; `confirmed_open_at` is null until the relay was read back open, which is no proof of dead."""

    lockout_id: str
    holder: str
    reason: str
    placed_at: datetime
    confirmed_open_at: datetime | None


class LiftQuery(QueryModel):
    """An admin who lifts somebody else's lock-out says why."""

    reason: Line | None = None


class ResetJson(BaseModel):
    """What a reset released; empty where nothing was latched."""

    circuit_id: str
    released: list[str]


def _lockout_json(lockout: holds.Lockout) -> dict[str, Any]:
    return {name: getattr(lockout, name) for name in LockoutJson.model_fields}


@router.post(
    "/circuits/{circuit_id}/lockouts",
    status_code=202,
    response_model=LockoutJson,
    summary="Lock a circuit out",
)
def place_lockout(circuit_id: str, wanted: LockoutRequest, allowed: Allowed, context: Context) -> Response:
    """Place a lock-out in the own name; the gateway opens the relay and reads it back."""
    try:
        with context.books.write() as connection:
            lockout = holds.place_lockout(
                connection,
                circuit_id=circuit_id,
                holder=allowed.principal.user.username,
                reason=wanted.reason,
                now=context.clock.now(),
            )
    except holds.UnableToLockOutError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json(_lockout_json(lockout), status_code=202)


@router.delete("/lockouts/{lockout_id}", status_code=204, summary="Lift a lock-out")
def lift_lockout(
    lockout_id: str, wanted: Annotated[LiftQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Lift the own lock-out. An admin lifts another's by giving a reason, which goes on record."""
    user = allowed.principal.user
    admin_reason = wanted.reason if user.role is Role.ADMIN else None
    if _is_scoped(context, lockout_id, holder=user.username, admin_reason=admin_reason):
        return scopes.release(
            context,
            allowed,
            scoped_hold_id=lockout_id,
            note=wanted.reason or "lifted by its holder",
            reason=Reason.LOCKOUT,
        )
    try:
        with context.books.write() as connection:
            holds.lift_lockout(
                connection,
                lockout_id=lockout_id,
                actor=user.username,
                now=context.clock.now(),
                admin_reason=admin_reason,
            )
    except holds.UnableToFindLockoutError as refusal:
        raise not_found() from refusal
    except holds.UnableToReleaseHoldError as refusal:
        raise Refusal(Problem.NO_RIGHT, str(refusal)) from refusal
    context.wake()
    return Response(status_code=204)


def _is_scoped(context: Context, lockout_id: str, *, holder: str, admin_reason: str | None) -> bool:
    """Whether this is a lock-out over a scope; raises the refusal for somebody else's without a reason."""
    try:
        with context.books.read() as connection:
            scoped = scoped_holds.get(connection, lockout_id)
    except scoped_holds.UnableToFindScopedHoldError:
        return False
    if scoped.holder != holder and not admin_reason:
        raise Refusal(
            Problem.NO_RIGHT,
            f"lock-out {lockout_id}: held by {scoped.holder}, who alone removes it; an admin may with a reason",
        )
    return True


@router.post("/circuits/{circuit_id}/reset", response_model=ResetJson, summary="Reset trips")
def reset(circuit_id: str, allowed: Allowed, context: Context) -> Response:
    """Release latched trips and `opened_locally`, nothing else; other holds stay and keep the circuit off."""
    with context.books.write() as connection:
        released = holds.reset(connection, circuit_id, allowed.principal.user.username, context.clock.now())
    context.wake()
    return Json({"circuit_id": circuit_id, "released": sorted(hold.reason.value for hold in released)})
