"""Registers that are not believed, and what a person decides about them."""

from datetime import datetime
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from api.access import MAX_ID_LENGTH, Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Line, Paged
from api.roles import PREFIX
from dormpower.books import quarantines
from dormpower.books.tables import quarantines as table
from dormpower.domain.units import MAX_ENERGY_WH

router = APIRouter(prefix=PREFIX, tags=["maintenance"])

_MAX_ID = 2**63 - 1


class QuarantineJson(BaseModel):
    """A register that was not believed, with its evidence; decided, not closed: the gateway has yet to act."""

    quarantine_id: int
    circuit_id: str
    reason: str
    opened_at: datetime
    accepted_register_wh: int
    accepted_at: datetime
    evidence: dict[str, Any]
    closed_at: datetime | None
    decision: str | None
    estimate_wh: int | None
    decided_at: datetime | None
    decided_by: str | None
    note: str | None


class QuarantinePageJson(BaseModel):
    """A page of quarantines, newest first."""

    items: list[QuarantineJson]
    next_cursor: str | None


class QuarantinesQuery(Paged):
    """Which quarantines: of one circuit, still open or over."""

    circuit_id: Annotated[str | None, Field(max_length=MAX_ID_LENGTH)] = None
    state: Literal["open", "closed"] | None = None


class DecisionRequest(BaseModel):
    """What a person decides: the register is right, its step charges nothing, or this much instead."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["accept", "dismiss", "estimate"]
    energy_wh: Annotated[int, Field(strict=True, ge=0, le=MAX_ENERGY_WH)] | None = None
    note: Line

    @model_validator(mode="after")
    def _energy_goes_with_estimate(self) -> "DecisionRequest":
        if (self.decision == "estimate") != (self.energy_wh is not None):
            raise ValueError("energy_wh: expected with the decision estimate, and only with it")
        return self


_COLUMNS = [table.c[name] for name in QuarantineJson.model_fields]


@router.get("/quarantines", response_model=QuarantinePageJson, summary="List quarantined registers")
def list_quarantines(
    wanted: Annotated[QuarantinesQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    """Return a page of quarantines, newest first."""
    del allowed
    query = sa.select(*_COLUMNS).order_by(table.c.quarantine_id.desc()).limit(wanted.limit + 1)
    if wanted.state is not None:
        is_open = table.c.closed_at.is_(None)
        query = query.where(is_open if wanted.state == "open" else sa.not_(is_open))
    if wanted.circuit_id is not None:
        query = query.where(table.c.circuit_id == wanted.circuit_id)
    if wanted.cursor is not None:
        query = query.where(table.c.quarantine_id < _id_of(wanted.cursor))
    with context.books.read() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    next_cursor = None
    if len(rows) > wanted.limit:
        rows = rows[: wanted.limit]
        next_cursor = str(rows[-1]["quarantine_id"])
    return Json({"items": rows, "next_cursor": next_cursor})


@router.post(
    "/quarantines/{quarantine_id}/decision",
    status_code=202,
    response_model=QuarantineJson,
    summary="Decide about a quarantined register",
)
def decide(
    quarantine_id: Annotated[int, Path(ge=1, le=_MAX_ID)],
    wanted: DecisionRequest,
    allowed: Allowed,
    context: Context,
) -> Response:
    """Record a decision; the gateway, which owns the meter point, carries it out with its next batch."""
    actor, now = allowed.principal.user.username, context.clock.now()
    find = sa.select(*_COLUMNS).where(table.c.quarantine_id == quarantine_id)
    try:
        with context.books.write() as connection:
            if connection.execute(find).first() is None:
                raise not_found()
            if wanted.decision == "accept":
                quarantines.accept(
                    connection, quarantine_id=quarantine_id, actor=actor, now=now, note=wanted.note
                )
            elif wanted.decision == "dismiss":
                quarantines.dismiss(
                    connection, quarantine_id=quarantine_id, actor=actor, now=now, note=wanted.note
                )
            else:
                quarantines.estimate(
                    connection,
                    quarantine_id=quarantine_id,
                    energy_wh=wanted.energy_wh or 0,
                    actor=actor,
                    now=now,
                    note=wanted.note,
                )
            row = dict(connection.execute(find).mappings().one())
    except quarantines.UnableToDecideQuarantineError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    context.wake()
    return Json(row, status_code=202)


def _id_of(cursor: str) -> int:
    if not cursor.isdigit() or int(cursor[:20]) > _MAX_ID:
        raise Refusal(Problem.INVALID, "cursor: expected one that a page gave out as next_cursor")
    return int(cursor[:20])
