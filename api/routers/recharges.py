"""Recharges: a circuit's history, and finance's counter."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.counter import RechargeOrder
from api.json_response import Json
from api.problems import Problem, Refusal
from api.queries import Line, Paged
from api.roles import PREFIX
from dormpower.books import recharges
from dormpower.domain.units import MAX_AMOUNT_FEN, format_price_yuan

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
    """Return a page of the history, newest first; residents see the time of their own residency."""
    try:
        with context.books.read() as connection:
            items, next_cursor = recharges.history(
                connection,
                circuit_id=circuit_id,
                spans=allowed.spans,
                kind=wanted.kind,
                limit=wanted.limit,
                cursor=wanted.cursor,
            )
    except recharges.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json({"items": [_item(item) for item in items], "next_cursor": next_cursor})


@router.post(
    "/circuits/{circuit_id}/recharges",
    status_code=201,
    response_model=RechargeAnswer,
    responses={200: {"model": RechargeAnswer, "description": "The first answer again, byte for byte."}},
    summary="Take money at the counter",
)
def post_recharge(
    circuit_id: str, wanted: RechargeRequest, key: IdempotencyKey, allowed: Allowed, context: Context
) -> Response:
    """Post a recharge once, however often it is sent: the same key and content give the first answer again."""
    posted = context.counter(
        RechargeOrder(
            circuit_id=circuit_id,
            amount_fen=wanted.amount_fen,
            channel=wanted.channel,
            note=wanted.note,
            idempotency_key=key,
            actor=allowed.principal.user.username,
            now=context.clock.now(),
        )
    )
    context.wake()
    return Json(posted.answer, status_code=200 if posted.repeated else 201)


def _item(item: recharges.HistoryItem) -> dict[str, Any]:
    price = item.price_millifen_per_kwh
    return {
        "transaction_id": item.transaction_id,
        "kind": item.kind,
        "recharged_at": item.recharged_at,
        "amount_fen": item.amount_fen,
        "price_yuan_per_kwh": None if price is None else format_price_yuan(price),
        "energy_wh": item.energy_wh,
        "balance_after_wh": item.balance_after_wh,
        "channel": item.channel,
    }
