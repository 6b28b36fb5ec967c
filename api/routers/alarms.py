"""Alarms for maintenance: the list, one with its steps, taking note of it, putting it aside; figures."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.circuit_json import EvidenceJson, HoldDetail, Reader, evidence_json, sentence_json
from api.json_response import Json
from api.present import reader_of
from api.problems import Problem, Refusal, not_found
from api.queries import Instant, Line, Paged
from api.roles import PREFIX
from dormpower.books import alarm_steps, alarms, shelving
from dormpower.books.alarms import Alarm
from dormpower.domain.alarms import AlarmKind, UnableToChangeAlarmError, UnableToShelveAsAskedError
from dormpower.domain.evidence import prohibited_evidence

router = APIRouter(prefix=PREFIX, tags=["alarms"])


class AlarmJson(BaseModel):
    """One alarm: raised while its condition lasts, cleared when it ends, acknowledged by a person."""

    alarm_id: str
    kind: str
    priority: Literal["critical", "high", "medium", "low"]
    subject_kind: str
    subject_id: str
    circuit_id: str | None
    module_id: str | None
    line_id: str | None
    raised_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    shelved_until_at: datetime | None = Field(description="Put aside until then; past: no longer.")
    shelved_by: str | None
    detail: dict[str, Any]


class AlarmStepJson(BaseModel):
    """Who did what with an alarm, and when; `system` raises and clears."""

    step: Literal["raised", "cleared", "acknowledged", "shelved", "unshelved"]
    stepped_at: datetime
    actor: str
    detail: dict[str, Any]


class AlarmWithStepsJson(AlarmJson):
    """An alarm and its life, oldest step first."""

    steps: list[AlarmStepJson]


class AlarmPageJson(BaseModel):
    """A page of alarms, newest first."""

    items: list[AlarmJson]
    next_cursor: str | None


class SuspicionJson(BaseModel):
    """An alarm about the load of a room's own circuit: nobody was switched off, and it can be disputed."""

    alarm_id: str
    kind: str
    raised_at: datetime
    cleared_at: datetime | None
    detail: HoldDetail
    evidence: EvidenceJson


class SuspicionsJson(BaseModel):
    """A page of them, newest first."""

    items: list[SuspicionJson]
    next_cursor: str | None


class AlarmsQuery(Paged):
    """Which alarms."""

    kind: AlarmKind | None = None
    state: Literal["active", "cleared"] | None = None
    acknowledged: bool | None = None
    building: Line | None = None
    shelved: bool | None = None


class ShelvingRequest(BaseModel):
    """Put an alarm aside until an instant, and why."""

    model_config = ConfigDict(extra="forbid")

    until_at: Instant
    reason: Line


class AlarmFiguresJson(BaseModel):
    """How many alarms there are now. `flooding`: more were raised lately than a person can follow."""

    active: int
    unacknowledged: int
    shelved: int
    standing: int = Field(description="Active for a day or longer.")
    raised_lately: int = Field(description="Raised within the last ten minutes.")
    flooding: bool


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """Fill an alarm."""
    return {name: getattr(alarm, name) for name in AlarmJson.model_fields}


def suspicion_json(alarm: Alarm, reader: Reader) -> dict[str, Any]:
    """Fill a prohibited-load alarm as the room's own people see it."""
    evidence = prohibited_evidence(alarm.detail)
    return {
        "alarm_id": alarm.alarm_id,
        "kind": alarm.kind,
        "raised_at": alarm.raised_at,
        "cleared_at": alarm.cleared_at,
        "detail": sentence_json(f"alarm.{alarm.kind}", {}, reader),
        "evidence": evidence_json(evidence, decided_at=alarm.raised_at, reader=reader),
    }


@router.get("/alarms", response_model=AlarmPageJson, summary="List alarms")
def list_alarms(wanted: Annotated[AlarmsQuery, Query()], allowed: Allowed, context: Context) -> Response:
    """Return a page of alarms, newest first."""
    del allowed
    with context.books.read() as connection:
        page, next_cursor = alarms.listing(
            connection,
            kinds=None if wanted.kind is None else (wanted.kind,),
            state=wanted.state,
            acknowledged=wanted.acknowledged,
            building=wanted.building,
            shelved=None if wanted.shelved is None else (wanted.shelved, context.clock.now()),
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    return Json({"items": [alarm_json(alarm) for alarm in page], "next_cursor": next_cursor})


@router.get("/alarms/figures", response_model=AlarmFiguresJson, summary="How many alarms there are")
def alarm_figures(allowed: Allowed, context: Context) -> Response:
    """Count alarms: floods and standing ones show here."""
    del allowed
    with context.books.read() as connection:
        found = shelving.figures(connection, now=context.clock.now())
    return Json({name: getattr(found, name) for name in AlarmFiguresJson.model_fields})


@router.get("/alarms/{alarm_id}", response_model=AlarmWithStepsJson, summary="One alarm with its steps")
def get_alarm(alarm_id: str, allowed: Allowed, context: Context) -> Response:
    """Return an alarm, and who did what with it when."""
    del allowed
    try:
        with context.books.read() as connection:
            alarm = alarms.get(connection, alarm_id)
            steps = alarm_steps.history(connection, alarm_id)
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    shown = [{name: getattr(step, name) for name in AlarmStepJson.model_fields} for step in steps]
    return Json({**alarm_json(alarm), "steps": shown})


@router.get(
    "/circuits/{circuit_id}/alarms",
    response_model=SuspicionsJson,
    summary="What looked prohibited on a circuit",
)
def list_of_circuit(
    request: Request, circuit_id: str, wanted: Annotated[Paged, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return the prohibited-load alarms of a circuit, newest first; residents see the own residency."""
    with context.books.read() as connection:
        page, next_cursor = alarms.listing(
            connection,
            kinds=(AlarmKind.PROHIBITED_LOAD,),
            circuit_id=circuit_id,
            spans=allowed.spans,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    reader = reader_of(request, context, allowed.spans)
    return Json({"items": [suspicion_json(alarm, reader) for alarm in page], "next_cursor": next_cursor})


@router.post("/alarms/{alarm_id}/acknowledge", response_model=AlarmJson, summary="Take note of an alarm")
def acknowledge_alarm(alarm_id: str, allowed: Allowed, context: Context) -> Response:
    """Put on record who took note; the first person stays, a repeat changes nothing."""
    try:
        with context.books.write() as connection:
            alarm = alarms.acknowledge(
                connection,
                alarm_id=alarm_id,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    return Json(alarm_json(alarm))


@router.post("/alarms/{alarm_id}/shelve", response_model=AlarmJson, summary="Put an alarm aside")
def shelve_alarm(alarm_id: str, wanted: ShelvingRequest, allowed: Allowed, context: Context) -> Response:
    """Put an active alarm aside until an instant within three days; the condition is watched all the same."""
    try:
        with context.books.write() as connection:
            alarm = shelving.shelve(
                connection,
                alarm_id=alarm_id,
                until_at=wanted.until_at,
                reason=wanted.reason,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    except UnableToShelveAsAskedError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    except UnableToChangeAlarmError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    return Json(alarm_json(alarm))


@router.delete("/alarms/{alarm_id}/shelve", response_model=AlarmJson, summary="Bring an alarm back")
def unshelve_alarm(alarm_id: str, allowed: Allowed, context: Context) -> Response:
    """Bring an alarm back before its time."""
    try:
        with context.books.write() as connection:
            alarm = shelving.unshelve(
                connection,
                alarm_id=alarm_id,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except alarms.UnableToFindAlarmError as refusal:
        raise not_found() from refusal
    except UnableToChangeAlarmError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    return Json(alarm_json(alarm))
