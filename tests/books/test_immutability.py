"""The database itself refuses to change what is written in the books (invariants 3 and 38)."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from dormpower.books import immutability, proof
from dormpower.books.database import Books
from dormpower.books.tables import metadata, state_changes

GUARDED = {
    **{
        name: tuple(column.name for column in metadata.tables[name].columns)
        for name in immutability.APPEND_ONLY
    },
    **immutability.FIXED_COLUMNS,
}


@pytest.fixture
def written(proven: Books) -> Books:
    """Books that prove, with at least a row in every guarded table."""
    with proven.write() as connection:
        connection.execute(
            sa.insert(state_changes).values(
                circuit_id="r1-ac",
                changed_at=datetime(2026, 2, 5, tzinfo=UTC),
                from_state="offline",
                to_state="normal",
                cause="reading",
                actor="rule:contact",
                evidence={},
            )
        )
    return proven


def refused(books: Books, statement: str) -> bool:
    try:
        with books.write() as connection:
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as fault:
        return "these rows are immutable" in str(fault.orig)
    return False


def rows(books: Books, table: str) -> list[tuple[object, ...]]:
    with books.read() as connection:
        return sorted(map(repr, connection.execute(sa.select(metadata.tables[table]))))


@pytest.mark.parametrize("table", GUARDED)
def test_no_row_is_changed_or_taken_away(written: Books, table: str):
    before = rows(written, table)
    assert before, "a guard without a row to guard proves nothing"
    for column in GUARDED[table]:
        assert refused(written, f"UPDATE {table} SET {column} = {column}"), column
    assert refused(written, f"DELETE FROM {table}")
    if not written.is_sqlite:
        assert refused(written, f"TRUNCATE {table} CASCADE")
    assert rows(written, table) == before
    assert proof.prove(written) == []


def test_the_journal_and_the_audit_log_are_among_them():
    assert {"transactions", "postings", "lot_moves", "lots", "settled_days", "audit_log", "audit_seals"} <= set(
        GUARDED
    )
