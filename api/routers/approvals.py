"""Cuts that the breaker holds back until an admin approves them (invariant 24)."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal
from api.queries import Line
from api.roles import PREFIX
from dormpower.books import control
from dormpower.books.control import ChosenCut
from dormpower.domain.holds import Reason

router = APIRouter(prefix=PREFIX, tags=["maintenance"])

MAX_CIRCUITS = 1000


class PendingCutJson(BaseModel):
    """A cut that waits; the circuit stays supplied until it is approved.

    A refused one is not made for a day; if it is still due then, it waits again.
    """

    circuit_id: str
    reason: str
    since_at: datetime
    approved_at: datetime | None
    approved_by: str | None
    evidence: dict[str, Any]
    refused_at: datetime | None
    refused_by: str | None
    refusal: str | None


class PendingCutsJson(BaseModel):
    """All cuts that wait, oldest first."""

    items: list[PendingCutJson]


class CutJson(BaseModel):
    """One cut, by what it would cut and why."""

    model_config = ConfigDict(extra="forbid")

    circuit_id: Line
    reason: Reason


class ApprovalRequest(BaseModel):
    """Which cuts may go ahead: `cuts` by circuit and reason, or all that wait for `circuit_ids`, null for all.

    Exactly one of the two is given, so that nothing is decided on by leaving something out.
    """

    model_config = ConfigDict(extra="forbid")

    circuit_ids: Annotated[list[Line], Field(min_length=1, max_length=MAX_CIRCUITS)] | None = None
    cuts: Annotated[list[CutJson], Field(min_length=1, max_length=MAX_CIRCUITS)] = []

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if len(self.model_fields_set & {"circuit_ids", "cuts"}) != 1:
            raise ValueError("expected either circuit_ids or cuts")
        return self

    @property
    def chosen(self) -> list[ChosenCut] | None:
        """Return the cuts that are meant; None for all that wait."""
        if self.cuts:
            return [ChosenCut(cut.circuit_id, cut.reason.value) for cut in self.cuts]
        return None if self.circuit_ids is None else [ChosenCut(one) for one in self.circuit_ids]


class RefusalRequest(ApprovalRequest):
    """Which cuts are wrong, and why; they are named as for an approval."""

    reason: Line


class RefusalJson(BaseModel):
    """How many cuts were refused now."""

    refused: int


class ApprovalJson(BaseModel):
    """How many cuts may go ahead now."""

    approved: int


@router.get("/approvals", response_model=PendingCutsJson, summary="List cuts that wait for approval")
def list_pending_cuts(allowed: Allowed, context: Context) -> Response:
    """Return the cuts that the breaker holds back."""
    del allowed
    with context.books.read() as connection:
        waiting = control.pending(connection)
    return Json(
        {"items": [{name: getattr(cut, name) for name in PendingCutJson.model_fields} for cut in waiting]}
    )


@router.post("/approvals", response_model=ApprovalJson, summary="Approve cuts that wait")
def approve_cuts(wanted: ApprovalRequest, allowed: Allowed, context: Context) -> Response:
    """Let cuts go ahead that the breaker holds back; who approved is on record."""
    with context.books.write() as connection:
        approved = control.approve_cuts(
            connection,
            chosen=wanted.chosen,
            actor=allowed.principal.user.username,
            now=context.clock.now(),
        )
    context.wake()
    return Json({"approved": approved})


@router.post("/approvals/refusals", response_model=RefusalJson, summary="Refuse cuts that wait")
def refuse_cuts(wanted: RefusalRequest, allowed: Allowed, context: Context) -> Response:
    """Say no to cuts that the breaker holds back, so that they keep no other cut from passing."""
    try:
        with context.books.write() as connection:
            refused = control.refuse_cuts(
                connection,
                chosen=wanted.chosen,
                actor=allowed.principal.user.username,
                reason=wanted.reason,
                now=context.clock.now(),
            )
    except control.UnableToRefuseCutsError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json({"refused": refused})
