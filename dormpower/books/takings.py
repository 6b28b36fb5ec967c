"""What the finance counter answers for: one receipt, and what a span of time took by channel."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.recharges import KINDS
from dormpower.books.tables import circuits, rooms, transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One transaction of a circuit's account as a receipt shows it."""

    transaction_id: str
    kind: str
    posted_at: datetime
    room_id: str
    room_name: str
    building: str
    circuit_id: str
    circuit_kind: str
    amount_fen: int
    energy_wh: int
    price_millifen_per_kwh: int | None
    balance_after_wh: int | None
    channel: str | None
    note: str | None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """How many transactions of a kind came through a channel, and their sum."""

    kind: str
    channel: str
    count: int
    amount_fen: int


def find_receipt(connection: Connection, *, transaction_id: str) -> Receipt | None:
    """Return a transaction that people may have a receipt of, or None."""
    row = (
        connection.execute(
            sa.select(
                transactions.c.transaction_id,
                transactions.c.kind,
                transactions.c.posted_at,
                rooms.c.room_id,
                rooms.c.name.label("room_name"),
                rooms.c.building,
                circuits.c.circuit_id,
                circuits.c.kind.label("circuit_kind"),
                transactions.c.amount_fen,
                transactions.c.energy_wh,
                transactions.c.price_millifen_per_kwh,
                transactions.c.balance_after_wh,
                transactions.c.channel,
                transactions.c.note,
                transactions.c.actor,
            )
            .join(circuits, circuits.c.circuit_id == transactions.c.circuit_id)
            .join(rooms, rooms.c.room_id == circuits.c.room_id)
            .where(transactions.c.transaction_id == transaction_id, transactions.c.kind.in_(KINDS))
        )
        .mappings()
        .first()
    )
    return None if row is None else Receipt(**row)


def takings(connection: Connection, *, start: datetime, end: datetime) -> list[Taking]:
    """Return what was posted in `[start, end)` through payment channels, by kind and channel."""
    rows = connection.execute(
        sa.select(
            transactions.c.kind,
            transactions.c.channel,
            sa.func.count().label("number"),
            sa.func.sum(transactions.c.amount_fen).label("amount_fen"),
        )
        .where(
            transactions.c.posted_at >= start,
            transactions.c.posted_at < end,
            transactions.c.kind.in_(KINDS),
            transactions.c.channel.is_not(None),
        )
        .group_by(transactions.c.kind, transactions.c.channel)
        .order_by(transactions.c.kind, transactions.c.channel)
    )
    return [
        Taking(kind=row.kind, channel=row.channel, count=row.number, amount_fen=int(row.amount_fen))
        for row in rows
    ]
