"""Replaced and newly commissioned modules: what was read off them, put on record."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from api.access import MAX_ID_LENGTH, Access, Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal
from api.queries import Instant, Line, Paged
from api.roles import PREFIX
from dormpower.books import meter_changes
from dormpower.books.meter_change_checks import Change, Kind, channel_of
from dormpower.books.meter_changes import MeterChange
from dormpower.domain.spans import UnableToChangeMeterError
from dormpower.domain.units import MAX_ENERGY_WH

router = APIRouter(prefix=PREFIX, tags=["maintenance"])

MAX_CHANNEL = 15
RegisterWh = Annotated[int, Field(strict=True, ge=0, le=MAX_ENERGY_WH)]


class ReplacementRequest(BaseModel):
    """A module that was replaced: when, and what both read then.

    Without `module_id` and `channel` the new hardware has the same address. Without `final_register_wh` what
    was used since the last reading is not charged; without `first_register_wh` three readings commission it.
    """

    model_config = ConfigDict(extra="forbid")

    changed_at: Instant
    final_register_wh: RegisterWh | None = None
    first_register_wh: RegisterWh | None = None
    module_id: Annotated[Line, Field(max_length=MAX_ID_LENGTH)] | None = None
    channel: Annotated[int, Field(strict=True, ge=0, le=MAX_CHANNEL)] | None = None
    note: Line

    @model_validator(mode="after")
    def _channel_goes_with_module(self) -> "ReplacementRequest":
        if (self.module_id is None) != (self.channel is None):
            raise ValueError("module_id, channel: expected both or neither")
        return self


class CommissioningRequest(BaseModel):
    """What a module read when it was put into service: charged is what comes after."""

    model_config = ConfigDict(extra="forbid")

    changed_at: Instant
    first_register_wh: RegisterWh
    note: Line


class MeterChangeJson(BaseModel):
    """A change on record; `closed_at` null: it waits for the gateway, or for the site to be described so."""

    meter_change_id: int
    circuit_id: str
    kind: Kind
    module_id: str
    channel: int
    changed_at: datetime
    final_register_wh: int | None
    first_register_wh: int | None
    note: str
    recorded_at: datetime
    recorded_by: str
    closed_at: datetime | None
    outcome: Literal["carried_out", "superseded", "refused"] | None
    refusal: str | None


class MeterChangePageJson(BaseModel):
    """A page of changes, newest first."""

    items: list[MeterChangeJson]
    next_cursor: str | None


class MeterChangesQuery(Paged):
    """Which changes."""

    circuit_id: Annotated[str | None, Field(max_length=MAX_ID_LENGTH)] = None
    state: Literal["waiting", "closed"] | None = None


@router.get("/meter-changes", response_model=MeterChangePageJson, summary="List replacements on record")
def list_meter_changes(
    wanted: Annotated[MeterChangesQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return a page of replacements and commissionings, newest first."""
    del allowed
    try:
        with context.books.read() as connection:
            found, next_cursor = meter_changes.listing(
                connection,
                circuit_id=wanted.circuit_id,
                closed=None if wanted.state is None else wanted.state == "closed",
                limit=wanted.limit,
                cursor=wanted.cursor,
            )
    except meter_changes.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json({"items": [_json(change) for change in found], "next_cursor": next_cursor})


@router.post(
    "/circuits/{circuit_id}/replacements",
    status_code=202,
    response_model=MeterChangeJson,
    summary="Record a replaced module",
)
def record_replacement(
    circuit_id: str, wanted: ReplacementRequest, allowed: Allowed, context: Context
) -> Response:
    """Put a replacement on record; the gateway carries it out before it judges the next reading."""
    return _record(circuit_id, Kind.REPLACEMENT, wanted, allowed, context)


@router.post(
    "/circuits/{circuit_id}/commissioning",
    status_code=202,
    response_model=MeterChangeJson,
    summary="Record a newly commissioned module",
)
def record_commissioning(
    circuit_id: str, wanted: CommissioningRequest, allowed: Allowed, context: Context
) -> Response:
    """Put the first register of a module on record that nobody has believed a reading of yet."""
    return _record(circuit_id, Kind.COMMISSIONING, wanted, allowed, context)


def _record(
    circuit_id: str,
    kind: Kind,
    wanted: ReplacementRequest | CommissioningRequest,
    allowed: Access,
    context: Context,
) -> Response:
    limits = context.limits.get(circuit_id)
    if limits is None:
        raise Refusal(Problem.CONFLICT, f"{circuit_id}: the site file does not describe this circuit any more")
    try:
        with context.books.write() as connection:
            change = meter_changes.record(
                connection,
                circuit_id=circuit_id,
                change=_change(kind, wanted, channel_of(connection, circuit_id)),
                limits=limits,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except UnableToChangeMeterError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    context.wake()
    return Json(_json(change), status_code=202)


def _change(kind: Kind, wanted: ReplacementRequest | CommissioningRequest, present: tuple[str, int]) -> Change:
    """Return what is asked for; where no channel is named it is the one that serves the circuit now."""
    final_wh, channel = None, present
    if isinstance(wanted, ReplacementRequest):
        final_wh = wanted.final_register_wh
        if wanted.module_id is not None and wanted.channel is not None:
            channel = (wanted.module_id, wanted.channel)
    return Change(
        kind=kind,
        module_id=channel[0],
        channel=channel[1],
        changed_at=wanted.changed_at,
        final_register_wh=final_wh,
        first_register_wh=wanted.first_register_wh,
        note=wanted.note,
    )


def _json(change: MeterChange) -> dict[str, Any]:
    return {name: getattr(change, name) for name in MeterChangeJson.model_fields}
