"""Recharges: a circuit's history, and finance's counter."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.queries import Line, Paged
from api.roles import PREFIX
from dormpower.domain.units import MAX_AMOUNT_FEN

router = APIRouter(prefix=PREFIX, tags=["recharges"])

Kind = Literal["recharge", "grant", "refund", "transfer", "reversal"]
Channel = Literal["cash", "card", "transfer", "campus_card"]


class RechargeItem(BaseModel):
    """One entry of the history: money and energy that came or went, and the balance after it."""

    transaction_id: str
    kind: Kind
    recharged_at: datetime
    amount_fen: int
    price_yuan_per_kwh: str | None
    energy_wh: int
    balance_after_wh: int | None
    channel: str | None


class RechargePage(BaseModel):
    """A page of the history, newest first."""

    items: list[RechargeItem]
    next_cursor: str | None


class RechargeAnswer(RechargeItem):
    """What was posted."""

    circuit_id: str


class RechargeRequest(BaseModel):
    """What was paid at the counter."""

    model_config = ConfigDict(extra="forbid")

    amount_fen: Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT_FEN)]
    channel: Channel
    note: Line | None = None


class HistoryQuery(Paged):
    """Which entries."""

    kind: Kind | None = None


IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Drawn by whoever asks; the same one when the same recharge is sent again. Site-wide.",
    ),
]


@router.get("/circuits/{circuit_id}/recharges", response_model=RechargePage, summary="Recharge history")
def list_recharges(
    circuit_id: str, wanted: Annotated[HistoryQuery, Query()], allowed: Allowed, context: Context
) -> Response:
    raise NotImplementedError


@router.post("/circuits/{circuit_id}/recharges", response_model=RechargeAnswer, status_code=201)
def post_recharge(
    circuit_id: str, wanted: RechargeRequest, key: IdempotencyKey, allowed: Allowed, context: Context
) -> Response:
    raise NotImplementedError
