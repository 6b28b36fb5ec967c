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
from dormpower.domain.timeline import (
    CommandSent,
    Entry,
    HoldPlaced,
    HoldReleased,
    StateChanged,
    explain_entry,
)

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
    reason: Reason | None = None
    release: Release | None = None
    expected_release_at: datetime | None = None
    command_id: str | None = None
    reasons: list[Reason] | None = None
    attempt: int | None = None
    finished_at: datetime | None = None
    read_back_at: datetime | None = None
    detail: HoldDetail
    evidence: EvidenceJson | None = None


class TimelineJson(BaseModel):
    """A page of entries, newest first."""

    items: list[TimelineEntry]
    next_cursor: str | None


_STATE_FIELDS = ("from_state", "to_state", "cause", "actor", "relay")
_COMMAND_FIELDS = ("relay", "attempt", "finished_at", "outcome", "read_back_relay", "read_back_at")
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
    """Fill an entry, with its sentence."""
    said = explain_entry(entry)
    detail = sentence_json(said.code, said.params, reader)
    return {**_NOTHING, "at": entry.at, **_own_fields(entry, reader), "detail": detail}


def _own_fields(entry: Entry, reader: Reader) -> dict[str, Any]:
    match entry:
        case HoldPlaced(hold=hold):
            evidence = shown_evidence(hold.reason, hold.evidence)
            return {
                **_hold_fields(entry, "placed", hold.placed_by),
                "release": hold.release.value,
                "expected_release_at": hold.expected_release_at,
                "evidence": evidence_json(evidence, decided_at=entry.at, reader=reader),
            }
        case HoldReleased():
            return _hold_fields(entry, "released", entry.released_by)
        case StateChanged():
            return {"type": "state"} | _named(entry, _STATE_FIELDS)
        case CommandSent():
            own = {"type": "command", "command_id": entry.entry_id, "reasons": list(entry.reasons)}
            return own | _named(entry, _COMMAND_FIELDS)


def _named(entry: Entry, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in names}


def _hold_fields(entry: HoldPlaced | HoldReleased, step: str, actor: str) -> dict[str, Any]:
    hold = entry.hold
    return {
        "type": "hold",
        "step": step,
        "hold_id": hold.hold_id,
        "reason": hold.reason.value,
        "cause": f"hold.{hold.reason.value}.{step}",
        "actor": actor,
    }
