"""The proof: looks for rows that break an invariant; an empty list means that the books prove.

It reads one consistent view while everything runs. Rules that one query can tell are queries here, which return
only what breaks them; the way from registers to charges is walked circuit by circuit (`proof_metering`), the
journal replayed account by account (`proof_journal`), the audit log's chain walked whole (`audit_log.verify`).
`PROVEN` and `NOT_PROVEN` say which invariants that is; an `audit` tells it with its verdict.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, immutability, proof_journal, proof_metering
from dormpower.books.audit_log import Head
from dormpower.books.database import Books
from dormpower.books.findings import Finding
from dormpower.books.proof_answers import check_answers
from dormpower.books.tables import (
    account_links,
    channel_spans,
    lot_moves,
    lots,
    metadata,
    postings,
    segments,
    transactions,
)
from dormpower.domain import ledger

__all__ = ["NOT_PROVEN", "PROVEN", "Finding", "prove"]

Progress = Callable[[str], None]

_INTEGER_TYPES = ("integer", "null")

PROVEN = (1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 38)
NOT_PROVEN: Mapping[int, str] = {
    7: "the books hold no payment notices",
    8: "the books hold no payment notices",
}


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
    for name, text in sorted(immutability.trigger_faults(connection).items()):
        yield Finding(invariant=3, where=name, text=text)
    if connection.dialect.name == "sqlite":  # PostgreSQL's columns take nothing but integers
        for table in metadata.sorted_tables:
            tell(f"integers of {table.name}")
            yield from _non_integers(connection, table)
    for invariant, text, query in _rules():
        tell(text)
        for row in connection.execute(query):
            yield Finding(invariant=invariant, where=str(row[0]), text=text)
    yield from proof_metering.walk(connection, progress=tell)
    yield from proof_journal.replay(connection, progress=tell)
    tell("answers of the journal")
    yield from check_answers(connection)
    for fault in audit_log.verify(
        connection, heads=heads, progress=lambda position: tell(f"audit chain: {position} rows")
    ):
        yield Finding(invariant=38, where=fault.where, text=fault.text)


def _non_integers(connection: Connection, table: sa.Table) -> Iterator[Finding]:
    """Yield what is no integer in a column of integers; SQLite's own keys can't be anything else."""
    columns = [
        column for column in table.columns if isinstance(column.type, sa.Integer) and not column.primary_key
    ]
    if not columns:
        return
    types = [sa.func.typeof(column).label(column.name) for column in columns]
    query = sa.select(*table.primary_key, *types).where(sa.or_(*(one.not_in(_INTEGER_TYPES) for one in types)))
    for row in connection.execute(query):
        key = "/".join(str(value) for value in row[: len(table.primary_key)])
        for column in columns:
            found = row._mapping[column.name]  # noqa: SLF001 - SQLAlchemy's public name
            if found not in _INTEGER_TYPES:
                yield Finding(
                    invariant=2, where=f"{table.name} {key}", text=f"{column.name} is {found}, no integer"
                )


def _rules() -> Iterator[tuple[int, str, sa.Select[tuple[object]]]]:
    yield (
        1,
        "the whole journal does not sum to zero in this unit",
        sa.select(postings.c.unit).group_by(postings.c.unit).having(sa.func.sum(postings.c.amount) != 0),
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
    yield (
        10,
        "the segment belongs to the channel of another circuit",
        sa.select(segments.c.segment_id)
        .join(channel_spans, channel_spans.c.span_id == segments.c.span_id)
        .where(channel_spans.c.circuit_id != segments.c.circuit_id),
    )
    for text, shared in (
        ("two channels serve the circuit at the same time", ("circuit_id",)),
        ("the channel serves two circuits at the same time", ("module_id", "channel")),
    ):
        later = channel_spans.alias("later")
        yield (
            10,
            text,
            sa.select(channel_spans.c.circuit_id)
            .join(later, sa.and_(*(later.c[name] == channel_spans.c[name] for name in shared)))
            .where(
                channel_spans.c.span_id < later.c.span_id,
                _before(channel_spans.c.from_at, channel_spans.c.to_at),
                _before(later.c.from_at, later.c.to_at),
                _before(channel_spans.c.from_at, later.c.to_at),
                _before(later.c.from_at, channel_spans.c.to_at),
            )
            .distinct(),
        )


def _before(start: sa.ColumnElement[datetime], end: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Whether a start lies before an end, which is open where it is null."""
    return sa.or_(end.is_(None), start < end)
