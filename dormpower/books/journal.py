"""The journal: the one module that writes transactions, postings, lots and cached balances, always together.

Each function takes a connection of `Books.write()` and leaves the books proven or raises; nothing is committed
here. Writers are serialised by the lock "journal", so that sequence, balances and lots are read and written by
one transaction at a time. The rules themselves are `dormpower.domain.ledger`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts, audit_log, events, intents
from dormpower.books.database import lock_rows
from dormpower.books.ids import new_id
from dormpower.books.tables import (
    ledger_accounts,
    lot_moves,
    lots,
    meter_points,
    postings,
    settled_days,
    transactions,
)
from dormpower.domain import ledger
from dormpower.domain.ledger import MAX_RECHARGE_FEN, Lot, Plan
from dormpower.domain.tariff import Price
from dormpower.domain.units import energy_bought_wh, format_price_yuan

SETTLEMENT = "settlement"


class UnableToPostError(Exception):
    """The journal refuses a transaction; the message says what was wrong. Nothing was posted."""


class IdempotencyConflictError(UnableToPostError):
    """The key was used before, for other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A history item, the exact bytes that answer for it, and whether this was a repeat."""

    item: Mapping[str, Any]
    answer: bytes
    repeated: bool


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
    lock_rows(connection, "journal")
    content = _digest([circuit_id, amount_fen, channel, note])
    repeat = _repeat(connection, source=source, key=idempotency_key, content=content)
    if repeat is not None:
        return repeat
    if not 1 <= amount_fen <= MAX_RECHARGE_FEN:
        raise UnableToPostError(f"amount_fen: expected 1 to {MAX_RECHARGE_FEN}, got {amount_fen}")
    account_id = accounts.present_account_of(connection, circuit_id)
    energy_wh = energy_bought_wh(amount_fen=amount_fen, price_millifen_per_kwh=price.price_millifen_per_kwh)
    known = _lots_of(connection, [account_id])[account_id]
    posted_wh = accounts.balances_wh(connection, [account_id])[account_id]
    lot = Lot(
        number=_next(connection, lots.c.lot_id),
        origin="paid",
        energy_wh=energy_wh,
        cost_fen=amount_fen,
        remaining_wh=energy_wh,
    )
    try:
        plan = ledger.plan_issue(
            account_id=account_id, balance_wh=posted_wh, lots=known, lot=lot, channel=channel
        )
    except ledger.UnableToPlanError as refusal:
        raise UnableToPostError(str(refusal)) from refusal
    transaction_id = transaction_id or new_id("txn", now)
    item: dict[str, Any] = {
        "transaction_id": transaction_id,
        "kind": "recharge",
        "recharged_at": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "amount_fen": amount_fen,
        "price_yuan_per_kwh": format_price_yuan(price.price_millifen_per_kwh),
        "energy_wh": energy_wh,
        "balance_after_wh": accounts.available_wh(connection, account_id) + energy_wh,
        "channel": channel,
        "circuit_id": circuit_id,
    }
    answer = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
    row = {
        "transaction_id": transaction_id,
        "sequence": _next(connection, transactions.c.sequence),
        "source": source,
        "idempotency_key": idempotency_key,
        "content_sha256": content,
        "kind": "recharge",
        "posted_at": now,
        "account_id": account_id,
        "circuit_id": circuit_id,
        "used_on": None,
        "amount_fen": amount_fen,
        "energy_wh": energy_wh,
        "balance_after_wh": item["balance_after_wh"],
        "price_millifen_per_kwh": price.price_millifen_per_kwh,
        "channel": channel,
        "note": note,
        "actor": actor,
        "answer": answer,
    }
    issued = {
        "lot_id": lot.number,
        "account_id": account_id,
        "transaction_id": transaction_id,
        "origin": "paid",
        "issued_at": now,
        "energy_wh": energy_wh,
        "cost_fen": amount_fen,
        "price_millifen_per_kwh": price.price_millifen_per_kwh,
        "expires_at": None,
        "remaining_wh": energy_wh,
        "remaining_fen": amount_fen,
    }
    _write(connection, [(row, plan)], issued=[issued])
    audit_log.write(
        connection,
        actor=actor,
        action="recharge",
        subject_kind="circuit",
        subject_id=circuit_id,
        detail={key: item[key] for key in ("transaction_id", "amount_fen", "energy_wh", "channel")},
        now=now,
    )
    intents.leave(connection, circuit_id=circuit_id, cause="recharge", now=now)
    events.append(connection, kind="circuit", subject_id=circuit_id, now=now)
    return Posted(item=item, answer=answer, repeated=False)


def post_consumptions(connection: Connection, rows: Sequence[DayCharge], *, now: datetime) -> None:
    """Post days that nothing was posted for, with `settled_days` and `settled_wh`, in a few statements."""
    if not rows:
        return
    lock_rows(connection, "journal")
    known: dict[str, Sequence[Lot]] = dict(
        _lots_of(connection, sorted({row.account_id for row in rows}), remaining=True)
    )
    sequence = _next(connection, transactions.c.sequence)
    written: list[tuple[dict[str, Any], Plan]] = []
    for number, row in enumerate(rows):
        plan = ledger.plan_consumption(
            account_id=row.account_id, lots=known[row.account_id], energy_wh=row.energy_wh
        )
        known[row.account_id] = plan.lots
        written.append((_day_row(row, "consumption", row.energy_wh, sequence + number, now), plan))
    _write(connection, written, issued=[])
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


def post_adjustment(connection: Connection, row: DayCharge, *, now: datetime) -> None:
    """Post what a day's target differs from what was posted, up or down, under `row.number`."""
    lock_rows(connection, "journal")
    delta_wh = row.difference_wh
    known = _lots_of(connection, [row.account_id])[row.account_id]
    if delta_wh >= 0:
        plan = ledger.plan_consumption(account_id=row.account_id, lots=known, energy_wh=delta_wh)
    else:
        posted_wh = accounts.balances_wh(connection, [row.account_id])[row.account_id]
        plan = ledger.plan_give_back(
            account_id=row.account_id, balance_wh=posted_wh, lots=known, energy_wh=-delta_wh
        )
    sequence = _next(connection, transactions.c.sequence)
    _write(connection, [(_day_row(row, "adjustment", delta_wh, sequence, now), plan)], issued=[])
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


def _day_row(row: DayCharge, kind: str, energy_wh: int, sequence: int, now: datetime) -> dict[str, Any]:
    key = f"{row.circuit_id}:{row.used_on.isoformat()}:{row.number}"
    return {
        "transaction_id": new_id("txn", now),
        "sequence": sequence,
        "source": SETTLEMENT,
        "idempotency_key": key,
        "content_sha256": _digest([key, energy_wh]),
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


def _repeat(connection: Connection, *, source: str, key: str, content: str) -> Posted | None:
    found = connection.execute(
        sa.select(transactions.c.content_sha256, transactions.c.answer).where(
            transactions.c.source == source, transactions.c.idempotency_key == key
        )
    ).first()
    if found is None:
        return None
    if found.content_sha256 != content or found.answer is None:
        raise IdempotencyConflictError(
            f"the idempotency key {key!r} was used before for other content; nothing was posted"
        )
    answer = bytes(found.answer)
    return Posted(item=json.loads(answer), answer=answer, repeated=True)


def _digest(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def _next(connection: Connection, column: sa.Column[int]) -> int:
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.max(column), 0))) or 0) + 1


def _lots_of(
    connection: Connection, account_ids: Sequence[str], *, remaining: bool = False
) -> dict[str, list[Lot]]:
    """Return each account's lots; with `remaining` only those with energy left, whose `used_wh` is left 0."""
    used: dict[int, int] = {}
    query = sa.select(lots).where(lots.c.account_id.in_(account_ids)).order_by(lots.c.lot_id)
    if remaining:
        query = query.where(lots.c.remaining_wh > 0)
    else:
        for lot_id, used_wh in connection.execute(
            sa.select(lot_moves.c.lot_id, sa.func.sum(lot_moves.c.energy_wh))
            .join(lots, lots.c.lot_id == lot_moves.c.lot_id)
            .where(lots.c.account_id.in_(account_ids), lot_moves.c.cause == "used")
            .group_by(lot_moves.c.lot_id)
        ):
            used[lot_id] = int(used_wh)
    found: dict[str, list[Lot]] = {account_id: [] for account_id in account_ids}
    for row in connection.execute(query):
        found[row.account_id].append(
            Lot(
                number=row.lot_id,
                origin=row.origin,
                energy_wh=row.energy_wh,
                cost_fen=row.cost_fen,
                remaining_wh=row.remaining_wh,
                used_wh=used.get(row.lot_id, 0),
            )
        )
    return found


def _write(
    connection: Connection,
    written: Sequence[tuple[dict[str, Any], Plan]],
    *,
    issued: Sequence[dict[str, Any]],
) -> None:
    """Write transactions with all that belongs to them: the only place that moves a cached balance or a lot."""
    connection.execute(sa.insert(transactions), [row for row, _ in written])
    totals: dict[str, int] = {}
    for _, plan in written:
        for line in plan.postings:
            name = line.ledger_account_id
            totals[name] = totals.get(name, 0) + line.amount
    _add_balances(connection, totals)
    lines = [
        {
            "transaction_id": row["transaction_id"],
            "ledger_account_id": line.ledger_account_id,
            "unit": line.ledger_account_id.partition(":")[0],
            "amount": line.amount,
        }
        for row, plan in written
        for line in plan.postings
    ]
    if lines:
        connection.execute(sa.insert(postings), lines)
    if issued:
        connection.execute(sa.insert(lots), list(issued))
    moves = [
        {
            "transaction_id": row["transaction_id"],
            "lot_id": move.number,
            "cause": move.cause,
            "energy_wh": move.energy_wh,
            "cost_fen": move.cost_fen,
        }
        for row, plan in written
        for move in plan.moves
    ]
    if not moves:
        return
    connection.execute(sa.insert(lot_moves), moves)
    connection.execute(
        sa.update(lots)
        .where(lots.c.lot_id == sa.bindparam("lot"))
        .values(
            remaining_wh=lots.c.remaining_wh - sa.bindparam("wh"),
            remaining_fen=lots.c.remaining_fen - sa.bindparam("fen"),
        ),
        [{"lot": move["lot_id"], "wh": move["energy_wh"], "fen": move["cost_fen"]} for move in moves],
    )


def _add_balances(connection: Connection, totals: Mapping[str, int]) -> None:
    if totals:
        connection.execute(
            sa.text(
                f"INSERT INTO {ledger_accounts.name} (ledger_account_id, unit, balance) "  # noqa: S608 - our name
                "VALUES (:name, :unit, :amount) ON CONFLICT (ledger_account_id) "
                f"DO UPDATE SET balance = {ledger_accounts.name}.balance + excluded.balance"
            ),
            [
                {"name": name, "unit": name.partition(":")[0], "amount": amount}
                for name, amount in sorted(totals.items())
            ],
        )


def _add_settled(connection: Connection, energies: Iterable[tuple[str, int]]) -> None:
    connection.execute(
        sa.update(meter_points)
        .where(meter_points.c.circuit_id == sa.bindparam("circuit"))
        .values(settled_wh=meter_points.c.settled_wh + sa.bindparam("wh")),
        [{"circuit": circuit_id, "wh": energy_wh} for circuit_id, energy_wh in energies],
    )
