"""The journal replayed into empty books, account by account (invariants 1, 4 and 12).

A few accounts at a time are read whole and forgotten again; what stays is one sum for each ledger account that
is nobody's own (`wh:issued`, `fen:sales`, …). So a year of a large campus takes time and little memory.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.findings import Finding
from dormpower.books.tables import accounts, ledger_accounts, lot_moves, lots, postings, transactions
from dormpower.domain.ledger import PREPAID, Lot, account_name

CHUNK = 50

TRANSFER = "transfer"


@dataclass(slots=True)
class _Account:
    """An account while its transactions are replayed."""

    name: str
    balance_wh: int = 0
    lots: dict[int, Lot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What the books hold of a few accounts, by transaction."""

    postings: dict[str, list[Any]]
    issued: dict[str, list[Any]]
    moves: dict[str, list[Any]]


def replay(connection: Connection, *, progress: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Replay every transaction and yield what does not add up: postings, lots, and cached balances."""
    sums: dict[str, int] = defaultdict(int)
    account_ids = list(
        connection.execute(sa.select(accounts.c.account_id).order_by(accounts.c.account_id)).scalars()
    )
    cached = _own_balances(connection)
    for start in range(0, len(account_ids), CHUNK):
        chunk = account_ids[start : start + CHUNK]
        yield from _replay_chunk(connection, chunk, transactions.c.account_id.in_(chunk), sums, cached)
        if progress is not None:
            progress(f"journal replayed: {min(start + CHUNK, len(account_ids))} of {len(account_ids)} accounts")
    yield from _replay_chunk(connection, [], transactions.c.account_id.is_(None), sums, cached)
    for name in sorted({*cached, *sums}):
        if cached.get(name) != sums[name]:
            held = f"is {cached[name]}" if name in cached else "is missing"
            yield Finding(
                invariant=4, where=name, text=f"the cached balance {held}, the sum of its postings {sums[name]}"
            )


def _own_balances(connection: Connection) -> dict[str, int]:
    return {
        row.ledger_account_id: int(row.balance)
        for row in connection.execute(sa.select(ledger_accounts.c.ledger_account_id, ledger_accounts.c.balance))
    }


def _replay_chunk(
    connection: Connection,
    account_ids: Sequence[str],
    which: sa.ColumnElement[bool],
    sums: dict[str, int],
    cached: dict[str, int],
) -> Iterator[Finding]:
    read = _read(connection, account_ids, which)
    rows = connection.execute(
        sa.select(
            transactions.c.transaction_id,
            transactions.c.account_id,
            transactions.c.kind,
            transactions.c.energy_wh,
        )
        .where(which)
        .order_by(transactions.c.account_id, transactions.c.sequence)
    ).all()
    replayed: dict[str, _Account] = {}
    for account_id, entries in groupby(rows, key=lambda row: row.account_id):
        account = _Account(account_name(account_id or ""))
        replayed[account_id] = account
        for entry in entries:
            yield from _replay_entry(entry, account, read, sums)
    for account_id in account_ids:
        found = replayed.get(account_id, _Account(account_name(account_id)))
        yield from _compare(connection, account_id, found)
        balance_wh = cached.pop(found.name, 0)
        if balance_wh != sums.pop(found.name, 0):
            yield Finding(
                invariant=4, where=found.name, text="the cached balance is not the sum of its postings"
            )


def _read(connection: Connection, account_ids: Sequence[str], which: sa.ColumnElement[bool]) -> _Chunk:
    read = _Chunk(defaultdict(list), defaultdict(list), defaultdict(list))
    for row in connection.execute(
        sa.select(postings.c.transaction_id, postings.c.ledger_account_id, postings.c.unit, postings.c.amount)
        .join(transactions, transactions.c.transaction_id == postings.c.transaction_id)
        .where(which)
    ):
        read.postings[row.transaction_id].append(row)
    for row in connection.execute(
        sa.select(lots).where(lots.c.account_id.in_(account_ids)).order_by(lots.c.lot_id)
    ):
        read.issued[row.transaction_id].append(row)
    for row in connection.execute(
        sa.select(lot_moves)
        .join(lots, lots.c.lot_id == lot_moves.c.lot_id)
        .where(lots.c.account_id.in_(account_ids))
        .order_by(lot_moves.c.lot_move_id)
    ):
        read.moves[row.transaction_id].append(row)
    return read


def _replay_entry(entry: Any, account: _Account, read: _Chunk, sums: dict[str, int]) -> Iterator[Finding]:
    """Apply one transaction and yield what is wrong with it."""
    where = f"transaction {entry.transaction_id}"
    totals: dict[str, int] = defaultdict(int)
    prepaid_fen = own_wh = 0
    for line in read.postings.get(entry.transaction_id, []):
        totals[line.unit] += line.amount
        sums[line.ledger_account_id] += line.amount
        if line.ledger_account_id == PREPAID:
            prepaid_fen += line.amount
        elif line.ledger_account_id == account.name:
            own_wh += line.amount
    for unit, total in totals.items():
        if total:
            yield Finding(invariant=1, where=where, text=f"its postings sum to {total} {unit}")
    if own_wh != entry.energy_wh:
        yield Finding(invariant=12, where=where, text=f"it says {entry.energy_wh} Wh and posts {own_wh}")
    account.balance_wh += own_wh
    issued = read.issued.get(entry.transaction_id, [])
    moves = read.moves.get(entry.transaction_id, [])
    yield from _replay_lots(where, account, issued, moves)
    # The fen of what is transferred stay prepaid: they leave one account's lots for another's.
    issued_fen = 0 if entry.kind == TRANSFER else sum(row.cost_fen for row in issued)
    taken_fen = sum(row.cost_fen for row in moves if row.cause != "transferred")
    if prepaid_fen != taken_fen - issued_fen:
        yield Finding(
            invariant=12,
            where=where,
            text=f"its lots moved {taken_fen - issued_fen} fen, its postings {prepaid_fen}",
        )
    remaining_wh = sum(lot.remaining_wh for lot in account.lots.values())
    if remaining_wh != max(account.balance_wh, 0):  # energy is owed only while none remains
        yield Finding(
            invariant=12,
            where=where,
            text=f"a balance of {account.balance_wh} Wh with {remaining_wh} Wh left in lots",
        )


def _replay_lots(
    where: str, account: _Account, issued: Sequence[Any], moves: Sequence[Any]
) -> Iterator[Finding]:
    for row in issued:
        account.lots[row.lot_id] = Lot(
            number=row.lot_id,
            origin=row.origin,
            energy_wh=row.energy_wh,
            cost_fen=row.cost_fen,
            remaining_wh=row.energy_wh,
        )
    for row in moves:
        lot = account.lots.get(row.lot_id)
        if lot is None or not 0 <= lot.remaining_wh - row.energy_wh <= lot.energy_wh:
            yield Finding(
                invariant=12, where=f"lot {row.lot_id}", text=f"it has no {row.energy_wh} Wh to move at {where}"
            )
            continue
        after = replace(lot, remaining_wh=lot.remaining_wh - row.energy_wh)
        account.lots[row.lot_id] = after
        if row.cost_fen != lot.remaining_fen - after.remaining_fen:
            yield Finding(
                invariant=12,
                where=f"lot {row.lot_id}",
                text=f"its money does not add up: {row.cost_fen} fen moved for {row.energy_wh} Wh at {where}",
            )


def _compare(connection: Connection, account_id: str, replayed: _Account) -> Iterator[Finding]:
    for row in connection.execute(
        sa.select(lots.c.lot_id, lots.c.remaining_wh, lots.c.remaining_fen).where(
            lots.c.account_id == account_id
        )
    ):
        lot = replayed.lots.get(row.lot_id)
        if lot is None:
            yield Finding(
                invariant=12, where=f"lot {row.lot_id}", text="no transaction of its account issued it"
            )
        elif (lot.remaining_wh, lot.remaining_fen) != (row.remaining_wh, row.remaining_fen):
            yield Finding(
                invariant=12,
                where=f"lot {row.lot_id}",
                text=f"{row.remaining_wh} Wh and {row.remaining_fen} fen remain, replayed "
                f"{lot.remaining_wh} Wh and {lot.remaining_fen} fen",
            )
