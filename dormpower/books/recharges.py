"""The recharge history of a circuit: what people see of the journal, clipped to what they may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.residencies import Span, within
from dormpower.books.tables import transactions

KINDS = ("recharge", "grant", "refund", "transfer", "reversal")
MAX_ITEMS = 200


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One transaction as the history shows it."""

    transaction_id: str
    kind: str
    recharged_at: datetime
    amount_fen: int
    price_millifen_per_kwh: int | None
    energy_wh: int
    balance_after_wh: int | None
    channel: str | None


def history(
    connection: Connection,
    *,
    circuit_id: str,
    spans: Sequence[Span] | None,
    kind: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[HistoryItem], str | None]:
    """Return a page of a circuit's history, newest first, and where to go on (None at the end).

    `spans` bounds what may be seen (None: all of it). Pages go by the order of commit, so that a transaction
    that comes meanwhile shifts nothing. Raises UnableToReadCursorError.
    """
    limit = min(max(limit, 1), MAX_ITEMS)
    query = (
        sa.select(transactions)
        .where(
            transactions.c.circuit_id == circuit_id,
            transactions.c.kind.in_(KINDS if kind is None else (kind,)),
            within(spans, transactions.c.posted_at),
        )
        .order_by(transactions.c.sequence.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(transactions.c.sequence < _sequence_of(cursor))
    rows = connection.execute(query).all()
    next_cursor = str(rows[limit - 1].sequence) if len(rows) > limit else None
    return [
        HistoryItem(
            transaction_id=row.transaction_id,
            kind=row.kind,
            recharged_at=row.posted_at,
            amount_fen=row.amount_fen,
            price_millifen_per_kwh=row.price_millifen_per_kwh,
            energy_wh=row.energy_wh,
            balance_after_wh=row.balance_after_wh,
            channel=row.channel,
        )
        for row in rows[:limit]
    ], next_cursor


def _sequence_of(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
    return int(cursor)
