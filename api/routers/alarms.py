"""Alarms for maintenance: the list, and taking note of one."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import not_found
from api.queries import Line, Paged
from api.roles import PREFIX
from dormpower.books import alarms
from dormpower.books.alarms import Alarm
from dormpower.domain.alarms import AlarmKind

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
    detail: dict[str, Any]


class AlarmPageJson(BaseModel):
    """A page of alarms, newest first."""

    items: list[AlarmJson]
    next_cursor: str | None


class AlarmsQuery(Paged):
    """Which alarms."""

    kind: AlarmKind | None = None
    state: Literal["active", "cleared"] | None = None
    acknowledged: bool | None = None
    building: Line | None = None


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """Fill an alarm."""
    return {name: getattr(alarm, name) for name in AlarmJson.model_fields}


@router.get("/alarms", response_model=AlarmPageJson, summary="List alarms")
def list_alarms(wanted: Annotated[AlarmsQuery, Query()], allowed: Allowed, context: Context) -> Response:
    """Return a page of alarms, newest first."""
    del allowed
    with context.books.read() as connection:
        page, next_cursor = alarms.listing(
            connection,
            kind=wanted.kind,
            state=wanted.state,
            acknowledged=wanted.acknowledged,
            building=wanted.building,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    return Json({"items": [alarm_json(alarm) for alarm in page], "next_cursor": next_cursor})


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
