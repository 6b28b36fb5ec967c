"""Whether the gateway decided right: residents ask, maintenance answers; permits."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Instant, Line, Paged
from api.roles import PREFIX
from dormpower.books import permits, residencies, reviews

router = APIRouter(prefix=PREFIX, tags=["decisions"])

Watts = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class QuestionRequest(BaseModel):
    """Which hold or alarm of the circuit, and what is asked: "was this right?"."""

    model_config = ConfigDict(extra="forbid")

    subject_kind: Literal["hold", "alarm"]
    subject_id: Line
    question: Line


class DisputeJson(BaseModel):
    """A question about a decision, and its answer once there is one."""

    dispute_id: str
    subject_kind: str
    subject_id: str
    circuit_id: str
    question: str
    asked_by: str
    asked_at: datetime
    verdict: Literal["right", "false"] | None
    answer: str | None
    answered_by: str | None
    answered_at: datetime | None


class DisputesJson(BaseModel):
    """A page of questions, newest first."""

    items: list[DisputeJson]
    next_cursor: str | None


class DisputesQuery(Paged):
    """Which questions; `open` leaves out what is answered."""

    open: bool = False


class AnswerRequest(BaseModel):
    """What maintenance found, and what the resident is told."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["right", "false"]
    answer: Line


class ReviewRequest(BaseModel):
    """Mark a decision right or a false trip."""

    model_config = ConfigDict(extra="forbid")

    subject_kind: Literal["hold", "alarm"]
    subject_id: Line
    verdict: Literal["right", "false"]
    note: Line


class PermitRequest(BaseModel):
    """An appliance that looks prohibited, its power, and until when it is permitted."""

    model_config = ConfigDict(extra="forbid")

    appliance: Line
    from_w: Watts
    to_w: Watts
    to_at: Instant
    from_at: Instant | None = None


class PermitJson(BaseModel):
    """A permit for steps of `from_w` to `to_w` W within [from_at, to_at)."""

    permit_id: str
    room_id: str
    appliance: str
    from_w: int
    to_w: int
    from_at: datetime
    to_at: datetime
    granted_by: str
    granted_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None


class PermitsJson(BaseModel):
    """A page of permits, newest first."""

    items: list[PermitJson]
    next_cursor: str | None


def _fields(value: object, model: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in model.model_fields}


@router.post(
    "/circuits/{circuit_id}/disputes", status_code=201, response_model=DisputeJson, summary="Was this right?"
)
def ask(circuit_id: str, wanted: QuestionRequest, allowed: Allowed, context: Context) -> Response:
    """Ask whether a decision about the circuit was right; asked again, the first question is returned."""
    try:
        with context.books.write() as connection:
            decided = reviews.find_decision(
                connection, subject_kind=wanted.subject_kind, subject_id=wanted.subject_id
            )
            seen = decided is not None and residencies.any_holds(allowed.spans, decided.at)
            if decided is None or decided.circuit_id != circuit_id or not seen:
                raise not_found()
            found = reviews.dispute(
                connection,
                subject_kind=wanted.subject_kind,
                subject_id=wanted.subject_id,
                question=wanted.question,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except reviews.UnableToDisputeError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json(_fields(found, DisputeJson), status_code=201)


@router.get("/circuits/{circuit_id}/disputes", response_model=DisputesJson, summary="Questions and answers")
def list_of_circuit(
    circuit_id: str, wanted: Annotated[Paged, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return what was asked about the circuit; residents see the time of their own residency."""
    with context.books.read() as connection:
        found, cursor = reviews.listing(
            connection,
            circuit_id=circuit_id,
            spans=allowed.spans,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    return Json({"items": [_fields(one, DisputeJson) for one in found], "next_cursor": cursor})


@router.get("/disputes", response_model=DisputesJson, summary="List questions")
def list_disputes(wanted: Annotated[DisputesQuery, Query()], allowed: Allowed, context: Context) -> Response:
    """Return the questions of all circuits."""
    del allowed
    with context.books.read() as connection:
        found, cursor = reviews.listing(
            connection, answered=False if wanted.open else None, limit=wanted.limit, cursor=wanted.cursor
        )
    return Json({"items": [_fields(one, DisputeJson) for one in found], "next_cursor": cursor})


@router.post("/disputes/{dispute_id}/answer", response_model=DisputeJson, summary="Answer a question")
def answer(dispute_id: str, wanted: AnswerRequest, allowed: Allowed, context: Context) -> Response:
    """Answer a question, once; the verdict is on record as a review too."""
    try:
        with context.books.write() as connection:
            found = reviews.answer(
                connection,
                dispute_id=dispute_id,
                verdict=wanted.verdict,
                text=wanted.answer,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except reviews.UnableToFindDisputeError as refusal:
        raise not_found() from refusal
    return Json(_fields(found, DisputeJson))


@router.post("/reviews", status_code=204, summary="Mark a decision right or a false trip")
def review(wanted: ReviewRequest, allowed: Allowed, context: Context) -> Response:
    """Put on record what was found of a hold or an alarm; the newest finding counts."""
    try:
        with context.books.write() as connection:
            reviews.review(
                connection,
                subject_kind=wanted.subject_kind,
                subject_id=wanted.subject_id,
                verdict=wanted.verdict,
                note=wanted.note,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except reviews.UnableToFindDecisionError as refusal:
        raise not_found() from refusal
    return Response(status_code=204)


@router.get("/permits", response_model=PermitsJson, summary="List permits")
def list_permits(wanted: Annotated[Paged, Query()], allowed: Allowed, context: Context) -> Response:
    """Return permits, ended ones too."""
    del allowed
    with context.books.read() as connection:
        found, cursor = permits.listing(connection, limit=wanted.limit, cursor=wanted.cursor)
    return Json({"items": [_fields(one, PermitJson) for one in found], "next_cursor": cursor})


@router.post("/rooms/{room_id}/permits", status_code=201, response_model=PermitJson, summary="Grant a permit")
def grant(room_id: str, wanted: PermitRequest, allowed: Allowed, context: Context) -> Response:
    """Permit an appliance in a room for a time."""
    try:
        with context.books.write() as connection:
            permit = permits.grant(
                connection,
                room_id=room_id,
                appliance=wanted.appliance,
                from_w=wanted.from_w,
                to_w=wanted.to_w,
                from_at=wanted.from_at,
                to_at=wanted.to_at,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except permits.UnableToGrantPermitError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    context.wake()
    return Json(_fields(permit, PermitJson), status_code=201)


@router.delete("/permits/{permit_id}", status_code=204, summary="Revoke a permit")
def revoke(permit_id: str, allowed: Allowed, context: Context) -> Response:
    """End a permit before its time."""
    try:
        with context.books.write() as connection:
            permits.revoke(
                connection,
                permit_id=permit_id,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except permits.UnableToFindPermitError as refusal:
        raise not_found() from refusal
    context.wake()
    return Response(status_code=204)
