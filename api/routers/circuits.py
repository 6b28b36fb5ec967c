"""What a circuit used: daily energy from the books, readings from the readings store."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.context import ApiContext
from api.json_response import Json
from api.problems import Problem, Refusal
from api.queries import Instant, Period
from api.roles import PREFIX
from dormpower.books import usage
from dormpower.books.residencies import Span, any_covers, clip_all
from dormpower.domain.days import CampusDays
from dormpower.readings.port import MAX_ITEMS, Reading, ReadingsStore, UnableToReachReadingsError

router = APIRouter(prefix=PREFIX, tags=["rooms"])

_MAX_EVERY_S = 366 * 86400


class DayJson(BaseModel):
    """A campus day; `energy_wh` null where not known yet, registers null when the day has several segments."""

    on: date
    energy_wh: int | None
    register_from_wh: int | None
    register_to_wh: int | None
    segments: int
    quality: Literal["measured", "estimated", "open"]


_DAY_FIELDS = tuple(DayJson.model_fields)


class UsageJson(BaseModel):
    """Every day of the period, and the sum of those that are known."""

    items: list[DayJson]
    total_wh: int


class ReadingJson(BaseModel):
    """One accepted sample, or a step: mean power, volts, amps, and the last register of it."""

    at: datetime
    power_w: float | None
    voltage_v: float | None
    current_a: float | None
    power_factor: float | None
    register_wh: int


class ReadingsJson(BaseModel):
    """At most 10,000 readings; `next_start` tells where to go on when there were more."""

    items: list[ReadingJson]
    next_start: datetime | None


class ReadingsQuery(BaseModel):
    """A half-open span of time, and perhaps steps of whole seconds; the last day where it is not named."""

    model_config = ConfigDict(extra="forbid")

    start: Instant | None = None
    end: Instant | None = None
    every: Annotated[int, Field(ge=1, le=_MAX_EVERY_S)] | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Return `[start, end)`. Raises Refusal where that holds no instant."""
        end = self.end or now
        start = self.start or end - timedelta(days=1)
        if end <= start:
            raise Refusal(Problem.INVALID, "end: expected after start")
        return start, end


@router.get("/circuits/{circuit_id}/usage/daily", response_model=UsageJson, summary="Energy by day")
def daily_usage(
    circuit_id: str, wanted: Annotated[Period, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return a row for each campus day. A resident sees the days that lie wholly within the own residency."""
    today = CampusDays(context.zone).day_of(context.clock.now())
    first_on, last_on = wanted.period(today)
    items = usage_items(context, circuit_id=circuit_id, first_on=first_on, last_on=last_on, spans=allowed.spans)
    return Json({"items": items, "total_wh": sum(item["energy_wh"] or 0 for item in items)})


def usage_items(
    context: ApiContext, *, circuit_id: str, first_on: date, last_on: date, spans: Sequence[Span] | None
) -> list[dict[str, Any]]:
    """Return a row for each campus day, both ends included; days outside `spans` look as if not known."""
    days = CampusDays(context.zone)
    now = context.clock.now()
    with context.books.read() as connection:
        rows = usage.daily_usage(
            connection,
            circuit_id=circuit_id,
            from_on=first_on,
            to_on=last_on,
            now=now,
            zone=context.zone,
        )
    if spans is None:
        return [_day_json(row) for row in rows]
    items = []
    for row in rows:
        # The open day counts up to now: it may be seen though the residency may end before the day does.
        begins_at, ends_at = days.start_of(row.on), days.end_of(row.on)
        seen = any_covers(spans, begins_at, max(begins_at, min(ends_at, now)))
        items.append(_day_json(row) if seen else _unseen_day(row.on))
    return items


@router.get("/circuits/{circuit_id}/readings", response_model=ReadingsJson, summary="Readings")
def readings(
    circuit_id: str, wanted: Annotated[ReadingsQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return accepted samples of `[start, end)`, or one row for each step of `every` seconds.

    A resident sees the time of the own residency; of a step only what lies within it.
    """
    start, end = wanted.span(context.clock.now())
    found: list[Reading] = []
    try:
        for first, last in clip_all(allowed.spans, start, end):
            room = MAX_ITEMS + 1 - len(found)
            found += _read(context.readings, circuit_id, (first, last), every_s=wanted.every, limit=room)
            if len(found) > MAX_ITEMS:
                break
    except UnableToReachReadingsError as refusal:
        raise Refusal(Problem.READINGS_UNREACHABLE, str(refusal)) from refusal
    next_start = found[MAX_ITEMS].at if len(found) > MAX_ITEMS else None
    return Json({"items": [_reading_json(one) for one in found[:MAX_ITEMS]], "next_start": next_start})


def _read(
    store: ReadingsStore,
    circuit_id: str,
    span: tuple[datetime, datetime],
    *,
    every_s: int | None,
    limit: int,
) -> list[Reading]:
    if every_s is None:
        return store.between(circuit_id, *span, limit=limit)
    return store.every(circuit_id, *span, every_s=every_s, limit=limit)


def _day_json(row: usage.DayUsage) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _DAY_FIELDS}


def _unseen_day(on: date) -> dict[str, Any]:
    """A day that is not this resident's looks like one that is not known."""
    return {
        "on": on,
        "energy_wh": None,
        "register_from_wh": None,
        "register_to_wh": None,
        "segments": 0,
        "quality": usage.Quality.OPEN,
    }


def _reading_json(reading: Reading) -> dict[str, Any]:
    return {name: getattr(reading, name) for name in ReadingJson.model_fields}
