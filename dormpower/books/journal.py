"""The journal: taking money, granting energy, and charging days.

Each function takes a connection of `Books.write()` and leaves the books proven or raises; nothing is committed
here. The rules are `dormpower.domain.ledger`, the writing is `journal_write`; corrections and transfers are
beside this file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts
from dormpower.books.database import lock_rows
from dormpower.books.ids import new_id
from dormpower.books.journal_write import (
    Entry,
    IdempotencyConflictError,
    Posted,
    Request,
    UnableToPostError,
    begin,
    digest,
    lot_row,
    lots_of,
    next_number,
    post_entry,
    uses_of,
    write,
)
from dormpower.books.tables import lots, meter_points, settled_days, transactions
from dormpower.domain import ledger
from dormpower.domain.ledger import MAX_RECHARGE_FEN, Lot, LotOrder, Plan
from dormpower.domain.tariff import Price
from dormpower.domain.units import MAX_ENERGY_WH, energy_bought_wh

__all__ = [
    "DayCharge",
    "IdempotencyConflictError",
    "OrderedDays",
    "Posted",
    "UnableToPostError",
    "post_adjustment",
    "post_consumptions",
    "post_grant",
    "post_recharge",
    "recharge_content",
]

SETTLEMENT = "settlement"


class DayCharge(Protocol):
    """A circuit's day to post; `number` is 1 for the day itself, higher for its adjustments."""

    @property
    def circuit_id(self) -> str: ...  # noqa: D102 - named by the class's sentence
    @property
    def used_on(self) -> date: ...  # noqa: D102
    @property
    def account_id(self) -> str: ...  # noqa: D102
    @property
    def energy_wh(self) -> int: ...  # noqa: D102
    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def estimated(self) -> bool: ...  # noqa: D102
    @property
    def difference_wh(self) -> int: ...  # noqa: D102


def post_recharge(
    connection: Connection,
    *,
    circuit_id: str,
    amount_fen: int,
    channel: str,
    price: Price,
    source: str,
    idempotency_key: str,
    transaction_id: str | None = None,
    actor: str,
    note: str | None,
    now: datetime,
) -> Posted:
    """Take money: a new lot, which pays owed Wh first; with its audit row, intent and event.

    Same source, key and content: the first answer again. Raises IdempotencyConflictError for other content
    (invariant 6), UnableToPostError for an amount out of 1 to MAX_RECHARGE_FEN or that buys nothing.
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=recharge_content(circuit_id=circuit_id, amount_fen=amount_fen, channel=channel, note=note),
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    if not 1 <= amount_fen <= MAX_RECHARGE_FEN:
        raise UnableToPostError(f"amount_fen: expected 1 to {MAX_RECHARGE_FEN}, got {amount_fen}")
    account_id = accounts.present_account_of(connection, circuit_id)
    energy_wh = energy_bought_wh(amount_fen=amount_fen, price_millifen_per_kwh=price.price_millifen_per_kwh)
    lot = Lot(
        number=next_number(connection, lots.c.lot_id),
        origin="paid",
        energy_wh=energy_wh,
        cost_fen=amount_fen,
        remaining_wh=energy_wh,
    )
    transaction_id = transaction_id or new_id("txn", now)
    entry = Entry(
        kind="recharge",
        account_id=account_id,
        circuit_id=circuit_id,
        energy_wh=energy_wh,
        amount_fen=amount_fen,
        price_millifen_per_kwh=price.price_millifen_per_kwh,
        channel=channel,
        transaction_id=transaction_id,
    )
    row = lot_row(lot, price_millifen_per_kwh=price.price_millifen_per_kwh, payment_id=transaction_id)
    return post_entry(
        connection, request, entry, _issue(connection, account_id, lot, channel=channel), issued=[row]
    )


def recharge_content(*, circuit_id: str, amount_fen: int, channel: str, note: str | None) -> list[Any]:
    """Return what a repeat of a recharge must be the same in."""
    return [circuit_id, amount_fen, channel, note]


def post_grant(
    connection: Connection,
    *,
    circuit_id: str,
    energy_wh: int,
    expires_at: datetime | None,
    source: str,
    idempotency_key: str,
    actor: str,
    note: str | None,
    now: datetime,
) -> Posted:
    """Give energy that costs nothing: a new lot, which pays owed Wh first.

    Repeats and conflicts as for a recharge. Raises UnableToPostError for energy out of 1 to MAX_ENERGY_WH or an
    end that is over already.
    """
    request = Request(
        source=source,
        idempotency_key=idempotency_key,
        content=["grant", circuit_id, energy_wh, None if expires_at is None else expires_at.isoformat(), note],
        actor=actor,
        note=note,
        now=now,
    )
    repeat = begin(connection, request)
    if repeat is not None:
        return repeat
    if not 1 <= energy_wh <= MAX_ENERGY_WH:
        raise UnableToPostError(f"energy_wh: expected 1 to {MAX_ENERGY_WH}, got {energy_wh}")
    if expires_at is not None and expires_at <= now:
        raise UnableToPostError(f"expires_at: expected an instant after {now}, got {expires_at}")
    account_id = accounts.present_account_of(connection, circuit_id)
    lot = Lot(
        number=next_number(connection, lots.c.lot_id),
        origin="granted",
        energy_wh=energy_wh,
        cost_fen=0,
        remaining_wh=energy_wh,
    )
    entry = Entry(kind="grant", account_id=account_id, circuit_id=circuit_id, energy_wh=energy_wh)
    row = lot_row(lot, expires_at=expires_at)
    return post_entry(
        connection, request, entry, _issue(connection, account_id, lot, channel=None), issued=[row]
    )


def _issue(connection: Connection, account_id: str, lot: Lot, *, channel: str | None) -> Plan:
    known = lots_of(connection, [account_id], remaining=True)[account_id]
    balance_wh = accounts.balances_wh(connection, [account_id])[account_id]
    try:
        return ledger.plan_issue(
            account_id=account_id, balance_wh=balance_wh, lots=known, lot=lot, channel=channel
        )
    except ledger.UnableToPlanError as refusal:
        raise UnableToPostError(str(refusal)) from refusal


def post_consumptions(
    connection: Connection, rows: Sequence[DayCharge], *, now: datetime, order: LotOrder = "fifo"
) -> None:
    """Post days that nothing was posted for, with `settled_days` and `settled_wh`, in a few statements."""
    if not rows:
        return
    lock_rows(connection, "journal")
    known: dict[str, Sequence[Lot]] = dict(
        lots_of(connection, sorted({row.account_id for row in rows}), remaining=True)
    )
    sequence = next_number(connection, transactions.c.sequence)
    written: list[tuple[dict[str, Any], Plan]] = []
    for number, row in enumerate(rows):
        plan = ledger.plan_consumption(
            account_id=row.account_id, lots=known[row.account_id], energy_wh=row.energy_wh, order=order
        )
        known[row.account_id] = plan.lots
        written.append((_day_row(row, "consumption", row.energy_wh, sequence + number, now), plan))
    write(connection, written, issued=[])
    connection.execute(
        sa.insert(settled_days),
        [
            {
                "circuit_id": row.circuit_id,
                "used_on": row.used_on,
                "account_id": row.account_id,
                "energy_wh": row.energy_wh,
                "postings": 1,
                "estimated": row.estimated,
                "settled_at": now,
            }
            for row in rows
        ],
    )
    _add_settled(connection, [(row.circuit_id, row.energy_wh) for row in rows])


def post_adjustment(connection: Connection, row: DayCharge, *, now: datetime, order: LotOrder = "fifo") -> None:
    """Post what a day's target differs from what was posted, up or down, under `row.number`."""
    lock_rows(connection, "journal")
    delta_wh = row.difference_wh
    known = lots_of(connection, [row.account_id])[row.account_id]
    if delta_wh >= 0:
        plan = ledger.plan_consumption(account_id=row.account_id, lots=known, energy_wh=delta_wh, order=order)
    else:
        posted_wh = accounts.balances_wh(connection, [row.account_id])[row.account_id]
        plan = ledger.plan_give_back(
            account_id=row.account_id,
            balance_wh=posted_wh,
            lots=known,
            uses=uses_of(connection, row.account_id),
            energy_wh=-delta_wh,
        )
    sequence = next_number(connection, transactions.c.sequence)
    write(connection, [(_day_row(row, "adjustment", delta_wh, sequence, now), plan)], issued=[])
    connection.execute(
        sa.update(settled_days)
        .where(settled_days.c.circuit_id == row.circuit_id, settled_days.c.used_on == row.used_on)
        .values(
            energy_wh=settled_days.c.energy_wh + delta_wh,
            postings=row.number,
            estimated=row.estimated,
            settled_at=now,
        )
    )
    _add_settled(connection, [(row.circuit_id, delta_wh)])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedDays:
    """Charges days in the order of lots that a site chose: the journal that settlement is given."""

    order: LotOrder

    def post_consumptions(self, connection: Connection, rows: Sequence[DayCharge], *, now: datetime) -> None:
        """Post days that nothing was posted for."""
        post_consumptions(connection, rows, now=now, order=self.order)

    def post_adjustment(self, connection: Connection, row: DayCharge, *, now: datetime) -> None:
        """Post what a day's target differs from what was posted."""
        post_adjustment(connection, row, now=now, order=self.order)


def _day_row(row: DayCharge, kind: str, energy_wh: int, sequence: int, now: datetime) -> dict[str, Any]:
    key = f"{row.circuit_id}:{row.used_on.isoformat()}:{row.number}"
    return {
        "transaction_id": new_id("txn", now),
        "sequence": sequence,
        "source": SETTLEMENT,
        "idempotency_key": key,
        "content_sha256": digest([key, energy_wh]),
        "kind": kind,
        "posted_at": now,
        "account_id": row.account_id,
        "circuit_id": row.circuit_id,
        "used_on": row.used_on,
        "amount_fen": 0,
        "energy_wh": -energy_wh,
        "balance_after_wh": None,
        "price_millifen_per_kwh": None,
        "channel": None,
        "note": None,
        "actor": SETTLEMENT,
        "answer": None,
    }


def _add_settled(connection: Connection, energies: Iterable[tuple[str, int]]) -> None:
    connection.execute(
        sa.update(meter_points)
        .where(meter_points.c.circuit_id == sa.bindparam("circuit"))
        .values(settled_wh=meter_points.c.settled_wh + sa.bindparam("wh")),
        [{"circuit": circuit_id, "wh": energy_wh} for circuit_id, energy_wh in energies],
    )
