"""The proof: looks for rows that break an invariant; an empty list means that the books prove.

It reads one consistent view while everything runs. Rules that one query can tell are queries here, which return
only what breaks them; the way from registers to charges is walked circuit by circuit (`proof_metering`), the
journal replayed account by account (`proof_journal`), the audit log's chain walked whole (`audit_log.verify`).
What is proven: invariants 1 to 5, 9 to 12 and 38. Invariants 6 to 8 and 13 are about answers and notices, which
tests prove.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, immutability, proof_journal, proof_metering
from dormpower.books.audit_log import Head
from dormpower.books.database import Books
from dormpower.books.findings import Finding
from dormpower.books.tables import (
    account_links,
    lot_moves,
    lots,
    postings,
    segments,
    settled_days,
    transactions,
)
from dormpower.domain import ledger

__all__ = ["Finding", "prove"]

Progress = Callable[[str], None]

_INTEGERS = (
    postings.c.amount,
    lots.c.energy_wh,
    lots.c.cost_fen,
    lot_moves.c.energy_wh,
    lot_moves.c.cost_fen,
    segments.c.energy_wh,
    settled_days.c.energy_wh,
    transactions.c.amount_fen,
    transactions.c.energy_wh,
)


def prove(books: Books, *, heads: Iterable[Head] = (), progress: Progress | None = None) -> list[Finding]:
    """Return what breaks the books' invariants; `heads` are ends of the audit chain that were exported.

    `progress` is told in words what is being proven.
    """
    tell = progress or (lambda _: None)
    with _one_view(books) as connection:
        return list(_findings(connection, heads=heads, tell=tell))


@contextmanager
def _one_view(books: Books) -> Iterator[Connection]:
    """Give one consistent view for many statements: PostgreSQL has to be asked for it."""
    if books.is_sqlite:
        with books.read() as connection:
            yield connection
        return
    with books.engine.connect() as connection:
        yield connection.execution_options(isolation_level="REPEATABLE READ")


def _findings(connection: Connection, *, heads: Iterable[Head], tell: Progress) -> Iterator[Finding]:
    for name in sorted(immutability.missing_triggers(connection)):
        yield Finding(invariant=3, where=name, text="the trigger is missing")
    for invariant, text, query in _rules(connection):
        tell(text)
        for row in connection.execute(query):
            yield Finding(invariant=invariant, where=str(row[0]), text=text)
    yield from proof_metering.walk(connection, progress=tell)
    yield from proof_journal.replay(connection, progress=tell)
    for fault in audit_log.verify(
        connection, heads=heads, progress=lambda position: tell(f"audit chain: {position} rows")
    ):
        yield Finding(invariant=38, where=fault.where, text=fault.text)


def _rules(connection: Connection) -> Iterator[tuple[int, str, sa.Select[tuple[object]]]]:
    yield (
        1,
        "the whole journal does not sum to zero in this unit",
        sa.select(postings.c.unit).group_by(postings.c.unit).having(sa.func.sum(postings.c.amount) != 0),
    )
    if connection.dialect.name == "sqlite":  # PostgreSQL's columns take nothing but integers
        for column in _INTEGERS:
            yield (
                2,
                f"{column.table.name}.{column.name} is no integer",
                sa.select(column).where(sa.func.typeof(column) != "integer"),
            )
    for names, columns in (
        ("source and idempotency key", (transactions.c.source, transactions.c.idempotency_key)),
        ("sequence", (transactions.c.sequence,)),
    ):
        yield (
            5,
            f"several transactions have this {names}",
            sa.select(columns[-1]).group_by(*columns).having(sa.func.count() > 1),
        )
    refunded_fen = sa.func.sum(lot_moves.c.cost_fen)
    yield (
        9,
        "the refunds of a payment exceed it",
        sa.select(lots.c.payment_id)
        .join(lot_moves, lot_moves.c.lot_id == lots.c.lot_id)
        .join(transactions, transactions.c.transaction_id == lots.c.payment_id)
        .where(lot_moves.c.cause == "refunded")
        .group_by(lots.c.payment_id, transactions.c.amount_fen)
        .having(refunded_fen > transactions.c.amount_fen),
    )
    yield (
        9,
        "a transaction was reversed more than once",
        sa.select(transactions.c.reverses_id)
        .where(transactions.c.reverses_id.is_not(None))
        .group_by(transactions.c.reverses_id)
        .having(sa.func.count() > 1),
    )
    yield (
        12,
        "energy left one account in a transfer and did not reach another",
        sa.select(postings.c.ledger_account_id)
        .where(postings.c.ledger_account_id == ledger.MOVED)
        .group_by(postings.c.ledger_account_id)
        .having(sa.func.sum(postings.c.amount) != 0),
    )
    other = account_links.alias("other")
    yield (
        10,
        "two accounts are linked to a circuit on the same day",
        sa.select(account_links.c.circuit_id)
        .join(
            other,
            sa.and_(
                other.c.circuit_id == account_links.c.circuit_id,
                sa.tuple_(other.c.from_on, other.c.account_id)
                > sa.tuple_(account_links.c.from_on, account_links.c.account_id),
            ),
        )
        .where(sa.or_(account_links.c.to_on.is_(None), account_links.c.to_on > other.c.from_on))
        .distinct(),
    )
