"""What happened to a circuit: its holds, its changes of state and the commands to its relay."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.access import Allowed, Context
from api.circuit_json import EvidenceJson, HoldDetail, Reader, evidence_json, sentence_json
from api.json_response import Json
from api.present import reader_of
from api.problems import Problem, Refusal
from api.queries import Paged
from api.roles import PREFIX
from dormpower.books import timeline as books_timeline
from dormpower.domain.evidence import shown_evidence
from dormpower.domain.holds import Reason, Release
from dormpower.domain.timeline import Entry, HoldPlaced, explain_entry, fields_of

router = APIRouter(prefix=PREFIX, tags=["rooms"])


class TimelineEntry(BaseModel):
    """A hold placed or released, a change of state, or a command; what does not belong to its type is null."""

    at: datetime
    type: Literal["state", "command", "hold"]
    from_state: str | None = None
    to_state: str | None = None
    cause: str | None = None
    actor: str | None = None
    relay: str | None = None
    outcome: str | None = None
    read_back_relay: str | None = None
    step: Literal["placed", "released"] | None = None
    hold_id: str | None = None
    reason: Reason | str | None = None
    release: Release | None = None
    expected_release_at: datetime | None = None
    command_id: str | None = None
    reasons: list[Reason | str] | None = None
    attempt: int | None = None
    finished_at: datetime | None = None
    read_back_at: datetime | None = None
    detail: HoldDetail
    evidence: EvidenceJson | None = None


class TimelineJson(BaseModel):
    """A page of entries, newest first."""

    items: list[TimelineEntry]
    next_cursor: str | None


_NOTHING: dict[str, Any] = {name: None for name in TimelineEntry.model_fields if name != "detail"}


@router.get("/circuits/{circuit_id}/timeline", response_model=TimelineJson, summary="What happened")
def timeline(
    request: Request,
    circuit_id: str,
    wanted: Annotated[Paged, Query()],
    allowed: Allowed,
    context: Context,
) -> Response:
    """Return what happened to a circuit, newest first; residents see the time of their own residency."""
    try:
        with context.books.read() as connection:
            found, next_cursor = books_timeline.page(
                connection,
                circuit_id=circuit_id,
                spans=allowed.spans,
                limit=wanted.limit,
                cursor=wanted.cursor,
            )
    except books_timeline.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    reader = reader_of(request, context, allowed.spans)
    return Json({"items": [entry_json(entry, reader) for entry in found], "next_cursor": next_cursor})


def entry_json(entry: Entry, reader: Reader) -> dict[str, Any]:
    """Fill an entry, with its sentence, and its evidence where it is a hold that was placed."""
    said = explain_entry(entry)
    shown = {**_NOTHING, **fields_of(entry), "detail": sentence_json(said.code, said.params, reader)}
    if isinstance(entry, HoldPlaced):
        evidence = shown_evidence(entry.hold.reason, entry.hold.evidence)
        shown["evidence"] = evidence_json(evidence, decided_at=entry.at, reader=reader)
    return shown
