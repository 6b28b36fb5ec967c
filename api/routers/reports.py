"""Feeders with their live demand, and reports: who was shed, who would have been off, false trips."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.access import Allowed, Context
from api.circuit_json import EvidenceJson, evidence_json
from api.context import ApiContext
from api.json_response import Json
from api.present import reader_of
from api.problems import Problem, Refusal
from api.queries import Line, Paged, Period
from api.roles import PREFIX
from dormpower.books import fairness, feeders, reports, reviews, shadow_alarms
from dormpower.domain.days import CampusDays
from dormpower.domain.evidence import prohibited_evidence, shown_evidence
from dormpower.domain.holds import Reason, reason_of

router = APIRouter(prefix=PREFIX, tags=["reports"])


class FeederJson(BaseModel):
    """A feeder at the gateway's last decision; `source` unknown: no demand can be told."""

    feeder_id: str
    parent: str | None
    limit_w: int
    mode: Literal["enforce", "shadow", "off"]
    source: Literal["metered", "summed", "unknown"]
    measured_w: int | None
    expected_w: int
    projected_w: int
    reserved_w: int
    circuits_off: int
    sampled_at: datetime | None
    decided_at: datetime
    alarms: list[str]


class FeedersJson(BaseModel):
    """All feeders, by id."""

    items: list[FeederJson]


class CircuitOffJson(BaseModel):
    """How long a circuit was shed in the period."""

    room_id: str
    circuit_id: str
    minutes_off: float
    turns: int


class FairnessJson(BaseModel):
    """A page of the circuits that were shed, longest off first, and figures over all of them."""

    circuits: int
    minutes_off: float
    longest_minutes_off: float
    items: list[CircuitOffJson]
    next_cursor: str | None


class OffOnDayJson(BaseModel):
    """How long a circuit was shed on a campus day."""

    circuit_id: str
    on: date
    minutes_off: float
    turns: int


class RoomFairnessJson(BaseModel):
    """The days on which a circuit of the room was shed, oldest first."""

    items: list[OffOnDayJson]


class ShadowJson(BaseModel):
    """A decision in shadow: the circuit would have been off within [from_at, to_at); to_at null: still."""

    hold_id: str
    circuit_id: str
    room_id: str
    campus: str
    building: str
    reason: Reason | str
    placed_by: str
    from_at: datetime
    to_at: datetime | None
    evidence: EvidenceJson | None


class ShadowPageJson(BaseModel):
    """A page of decisions in shadow, newest first."""

    items: list[ShadowJson]
    next_cursor: str | None


class ShadowAlarmJson(BaseModel):
    """A decision in shadow that cuts nobody: the alarm would have stood within [from_at, to_at)."""

    shadow_alarm_id: str
    kind: str
    circuit_id: str
    room_id: str
    campus: str
    building: str
    from_at: datetime
    to_at: datetime | None
    evidence: EvidenceJson | None


class ShadowAlarmsJson(BaseModel):
    """A page of such decisions, newest first."""

    items: list[ShadowAlarmJson]
    next_cursor: str | None


class FalseTripsJson(BaseModel):
    """A building's prohibited-load decisions, and how many of the reviewed ones were false."""

    campus: str
    building: str
    trips: int
    alarms: int
    reviewed: int
    false: int
    rate: float | None


class FalseTripsPageJson(BaseModel):
    """Every building with such a decision."""

    items: list[FalseTripsJson]


class FairnessQuery(Period, Paged):
    """Which period and circuits; a feeder stands for all below it."""

    campus: Line | None = None
    building: Line | None = None
    feeder: Line | None = None
    shadow: bool = False


class ShadowAlarmsQuery(Period, Paged):
    """Which period and place."""

    campus: Line | None = None
    building: Line | None = None


class ShadowQuery(ShadowAlarmsQuery):
    """Which period, reason and place."""

    reason: Reason | None = None


@router.get("/feeders", response_model=FeedersJson, summary="Feeders with their live demand")
def list_feeders(allowed: Allowed, context: Context) -> Response:
    """Return every feeder as of the gateway's last decision."""
    del allowed
    with context.books.read() as connection:
        found = feeders.feeders_now(connection)
    return Json({"items": [_fields(one, FeederJson) for one in found]})


@router.get("/reports/fairness", response_model=FairnessJson, summary="Who was shed for how long")
def fairness_report(wanted: Annotated[FairnessQuery, Query()], allowed: Allowed, context: Context) -> Response:
    """Return the circuits that were shed in a period of campus days, longest off first."""
    del allowed
    first_on, last_on, days, now = _period(wanted, context)
    try:
        with context.books.read() as connection:
            found = fairness.report(
                connection,
                from_on=first_on,
                to_on=last_on,
                which=fairness.Which(
                    campus=wanted.campus,
                    building=wanted.building,
                    feeder_id=wanted.feeder,
                    shadow=wanted.shadow,
                ),
                now=now,
                days=days,
                limit=wanted.limit,
                cursor=wanted.cursor,
            )
    except fairness.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json(
        {**_fields(found, FairnessJson), "items": [_fields(one, CircuitOffJson) for one in found.items]}
    )


@router.get("/rooms/{room_id}/fairness", response_model=RoomFairnessJson, summary="When a room was shed")
def room_fairness(
    room_id: str, wanted: Annotated[Period, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return minutes off by circuit and campus day; residents see the days wholly within their residency."""
    first_on, last_on, days, now = _period(wanted, context)
    with context.books.read() as connection:
        found = fairness.of_room(
            connection,
            room_id=room_id,
            from_on=first_on,
            to_on=last_on,
            spans=allowed.spans,
            now=now,
            days=days,
        )
    items = [
        {
            "circuit_id": one.circuit_id,
            "on": one.used_on,
            "minutes_off": round(one.minutes_off, 1),
            "turns": one.turns,
        }
        for one in found
    ]
    return Json({"items": items})


@router.get("/reports/shadow", response_model=ShadowPageJson, summary="Who would have been off")
def shadow_report(
    request: Request, wanted: Annotated[ShadowQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return what rules in shadow decided in a period of campus days: who would have been off, when, why."""
    first_on, last_on, days, _ = _period(wanted, context)
    with context.books.read() as connection:
        page, next_cursor = reports.would_have_been_off(
            connection,
            since=days.start_of(first_on),
            until=days.end_of(last_on),
            reason=wanted.reason,
            campus=wanted.campus,
            building=wanted.building,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    reader = reader_of(request, context, allowed.spans)
    items = []
    for one in page:
        evidence = shown_evidence(reason_of(one.reason), one.evidence)
        items.append(
            {
                **_fields(one, ShadowJson),
                "evidence": evidence_json(evidence, decided_at=one.from_at, reader=reader),
            }
        )
    return Json({"items": items, "next_cursor": next_cursor})


@router.get("/reports/shadow/alarms", response_model=ShadowAlarmsJson, summary="What would have been told")
def shadow_alarms_report(
    request: Request, wanted: Annotated[ShadowAlarmsQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return the alarms that rules in shadow would have raised in a period of campus days, and why."""
    first_on, last_on, days, _ = _period(wanted, context)
    with context.books.read() as connection:
        page, next_cursor = shadow_alarms.report(
            connection,
            since=days.start_of(first_on),
            until=days.end_of(last_on),
            campus=wanted.campus,
            building=wanted.building,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
    reader = reader_of(request, context, allowed.spans)
    items = [
        {
            **_fields(one, ShadowAlarmJson),
            "evidence": evidence_json(prohibited_evidence(one.evidence), decided_at=one.from_at, reader=reader),
        }
        for one in page
    ]
    return Json({"items": items, "next_cursor": next_cursor})


@router.get("/reports/false-trips", response_model=FalseTripsPageJson, summary="The rate of false trips")
def false_trips(wanted: Annotated[Period, Query()], allowed: Allowed, context: Context) -> Response:
    """Return each building's prohibited-load decisions of a period of campus days, with their reviews."""
    del allowed
    first_on, last_on, days, _ = _period(wanted, context)
    with context.books.read() as connection:
        found = reviews.false_trips(connection, since=days.start_of(first_on), until=days.end_of(last_on))
    return Json({"items": [_fields(one, FalseTripsJson) for one in found]})


def _period(wanted: Period, context: ApiContext) -> tuple[date, date, CampusDays, datetime]:
    days, now = CampusDays(context.zone), context.clock.now()
    return *wanted.period(days.day_of(now)), days, now


def _fields(value: object, model: type[BaseModel]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in model.model_fields}
