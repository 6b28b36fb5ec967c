"""The migrations bring exactly the tables of `dormpower.books.tables`, and nobody works on another version."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from dormpower.books import immutability, migration
from dormpower.books.database import Books, open_books
from dormpower.books.tables import metadata


def test_the_migrated_database_and_the_tables_do_not_differ(books: Books):
    with books.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_the_migrated_sqlite_file_is_to_the_letter_what_the_tables_would_create(
    sqlite_books: Books, tmp_path: Path
):
    created = open_books(f"sqlite:///{tmp_path}/created.db")
    with created.write() as connection:
        metadata.create_all(connection)
    assert _schema(sqlite_books) == _schema(created)
    created.close()


def _schema(books: Books) -> dict[str, list[str]]:
    """Each table's and index's definition, its parts in order of the alphabet.

    Constraints have no order, and SQLite writes a column that is added later behind them, on the same line.
    """
    with books.read() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'index') "
                "AND name <> 'alembic_version'"
            )
        ).all()
    return {name: _parts(sql) for name, sql in rows}


def _parts(sql: str) -> list[str]:
    """Split at the commas between columns and constraints, not at those within their brackets."""
    parts, depth = [""], 0
    for sign in " ".join(sql.replace('"', "").split()):
        if sign == "," and depth == 1:
            parts.append("")
            continue
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if (sign, depth) not in {("(", 1), (")", 0)}:
            parts[-1] += sign
        elif sign == "(":
            parts.append("")
    return sorted(part.strip() for part in parts)


def test_upgrading_twice_changes_nothing(books: Books):
    migration.upgrade(books)
    assert migration.current(books) == migration.head()
    migration.require_current(books)


def test_an_empty_database_is_refused_with_what_to_do(tmp_path: Path):
    books = open_books(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(migration.UnableToUseBooksError, match="found none; run `dormpower migrate`"):
        migration.require_current(books)
    books.close()


def test_books_of_a_newer_program_are_refused_and_left_alone(books: Books):
    with books.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migration.UnableToUseBooksError, match="newer dormpower"):
        migration.require_current(books)
    with pytest.raises(migration.UnableToUseBooksError, match="newer dormpower"):
        migration.upgrade(books)
    assert migration.current(books) == "9999"


def test_an_upgrade_puts_back_triggers_that_were_taken_away(books: Books):
    on_table = "" if books.is_sqlite else " ON postings"
    with books.write() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER immutable_postings_update{on_table}")
        assert set(immutability.trigger_faults(connection)) == {"immutable_postings_update"}
    migration.upgrade(books)
    with books.read() as connection:
        assert immutability.trigger_faults(connection) == {}


def test_a_failed_upgrade_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_connection: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(immutability, "enforce", fail)
    books = open_books(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(RuntimeError, match="power cut"):
        migration.upgrade(books)
    with books.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM sqlite_master")).scalar_one() == 0
    books.close()
