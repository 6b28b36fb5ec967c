"""Writing to the journal: the one module that writes transactions, postings, lots and cached balances.

What is posted, and when it is refused, is decided beside it (`journal`, `corrections`, `transfers`) by plans of
`dormpower.domain.ledger`. Writers are serialised by the lock "journal" (`begin`), so that sequence, balances
and lots are read and written by one transaction at a time. Nothing is committed here.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts, audit_log, events, intents
from dormpower.books.database import lock_rows
from dormpower.books.ids import new_id
from dormpower.books.tables import ledger_accounts, lot_moves, lots, postings, transactions
from dormpower.domain.ledger import Lot, LotMove, Plan
from dormpower.domain.units import format_price_yuan


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks for a transaction, and the key that makes it happen once; a repeat must match `content`."""

    source: str
    idempotency_key: str
    content: Sequence[Any]
    actor: str
    note: str | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a person's transaction is to the history: signed, as the account sees it."""

    kind: str
    account_id: str
    circuit_id: str
    energy_wh: int
    amount_fen: int = 0
    price_millifen_per_kwh: int | None = None
    channel: str | None = None
    reverses_id: str | None = None
    transaction_id: str | None = None
    more: Mapping[str, Any] | None = None  # fields of this kind alone, for the answer and the audit log


def begin(connection: Connection, request: Request) -> Posted | None:
    """Take the journal's lock; return the first answer where the key was used before, None where it is new.

    Raises IdempotencyConflictError for the same key with other content (invariant 6).
    """
    lock_rows(connection, "journal")
    return repeat_of(
        connection, source=request.source, key=request.idempotency_key, content=digest(request.content)
    )


def post_entry(
    connection: Connection,
    request: Request,
    entry: Entry,
    plan: Plan,
    *,
    issued: Sequence[Mapping[str, Any]] = (),
) -> Posted:
    """Write a person's transaction with its answer, audit row, intent and event.

    `issued` are new lots as rows, without account, transaction and instant, which are this one's.
    """
    now = request.now
    transaction_id = entry.transaction_id or new_id("txn", now)
    available_wh = accounts.availables_wh(connection, [entry.account_id])[entry.account_id]
    row: dict[str, Any] = {
        "transaction_id": transaction_id,
        "sequence": next_number(connection, transactions.c.sequence),
        "source": request.source,
        "idempotency_key": request.idempotency_key,
        "content_sha256": digest(request.content),
        "kind": entry.kind,
        "posted_at": now,
        "account_id": entry.account_id,
        "circuit_id": entry.circuit_id,
        "used_on": None,
        "amount_fen": entry.amount_fen,
        "energy_wh": entry.energy_wh,
        "balance_after_wh": available_wh + entry.energy_wh,
        "price_millifen_per_kwh": entry.price_millifen_per_kwh,
        "channel": entry.channel,
        "note": request.note,
        "actor": request.actor,
        "reverses_id": entry.reverses_id,
    }
    item = {**history_item(row), **(entry.more or {})}
    answer = as_answer(item)
    row["answer"] = answer
    own = {"account_id": entry.account_id, "transaction_id": transaction_id, "issued_at": now}
    write(connection, [(row, plan)], issued=[{**own, **lot} for lot in issued])
    audit_log.write(
        connection,
        actor=request.actor,
        action=entry.kind,
        subject_kind="circuit",
        subject_id=entry.circuit_id,
        detail={
            **{key: item[key] for key in ("transaction_id", "amount_fen", "energy_wh", "channel")},
            **(entry.more or {}),
        },
        now=now,
    )
    intents.leave(connection, circuit_id=entry.circuit_id, cause=entry.kind, now=now)
    events.append(connection, kind="circuit", subject_id=entry.circuit_id, now=now)
    return Posted(item=item, answer=answer, repeated=False)


def history_item(row: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
    """Return a transaction's row as people see it; its answer holds this, and what its kind alone has."""
    posted_at: datetime = row["posted_at"]
    price = row["price_millifen_per_kwh"]
    return {
        "transaction_id": row["transaction_id"],
        "kind": row["kind"],
        "recharged_at": posted_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "amount_fen": row["amount_fen"],
        "price_yuan_per_kwh": None if price is None else format_price_yuan(price),
        "energy_wh": row["energy_wh"],
        "balance_after_wh": row["balance_after_wh"],
        "channel": row["channel"],
        "circuit_id": row["circuit_id"],
    }


def repeat_of(connection: Connection, *, source: str, key: str, content: str) -> Posted | None:
    """Return what the key was answered before, None where it is new. Raises IdempotencyConflictError."""
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


def digest(content: Sequence[Any]) -> str:
    """Return a transaction's content as a digest: what a repeat of its key must be the same in."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def as_answer(item: Mapping[str, Any]) -> bytes:
    """Return the bytes that answer for a transaction, now and for every repeat."""
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()


def next_number(connection: Connection, column: sa.Column[int]) -> int:
    """Return the number after the highest; safe under the lock "journal"."""
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.max(column), 0))) or 0) + 1


def lots_of(
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


def lot_row(
    lot: Lot,
    *,
    price_millifen_per_kwh: int | None = None,
    payment_id: str | None = None,
    expires_at: datetime | None = None,
) -> dict[str, Any]:
    """Return a new lot as a row for `post_entry`."""
    return {
        "lot_id": lot.number,
        "origin": lot.origin,
        "payment_id": payment_id,
        "energy_wh": lot.energy_wh,
        "cost_fen": lot.cost_fen,
        "price_millifen_per_kwh": price_millifen_per_kwh,
        "expires_at": expires_at,
        "remaining_wh": lot.energy_wh,
        "remaining_fen": lot.cost_fen,
    }


def uses_of(connection: Connection, account_id: str) -> Iterator[LotMove]:
    """Yield an account's moves of cause "used", newest first."""
    for row in connection.execute(
        sa.select(lot_moves.c.lot_id, lot_moves.c.energy_wh, lot_moves.c.cost_fen)
        .join(lots, lots.c.lot_id == lot_moves.c.lot_id)
        .where(lots.c.account_id == account_id, lot_moves.c.cause == "used")
        .order_by(lot_moves.c.lot_move_id.desc())
    ):
        yield LotMove(number=row.lot_id, cause="used", energy_wh=row.energy_wh, cost_fen=row.cost_fen)


def write(
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
