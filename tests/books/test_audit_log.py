"""The audit chain on real databases: what is sealed can't be edited, deleted, moved or cut off unseen."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from dormpower.books import audit_log, tables
from dormpower.books.database import Books

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
TODAY = date(2026, 3, 1)


def write(books: Books, *subjects: str) -> None:
    with books.write() as connection:
        for subject in subjects:
            audit_log.write(
                connection,
                actor="finance",
                action="recharge",
                subject_kind="circuit",
                subject_id=subject,
                detail={"amount_fen": 1000, "note": "现金"},
                now=NOW,
            )


def seal(books: Books, **options: int) -> int:
    with books.write() as connection:
        return audit_log.seal(connection, **options)


def faults(books: Books, heads: list[audit_log.Head] | None = None) -> list[str]:
    with books.read() as connection:
        return [fault.text for fault in audit_log.verify(connection, heads=heads or [])]


def tamper(books: Books, *statements: str) -> None:
    """Do what somebody with all rights on the database can do."""
    with books.write() as connection:
        for table in ("audit_log", "audit_seals"):
            for action in ("update", "delete"):
                suffix = f" ON {table}" if connection.dialect.name == "postgresql" else ""
                connection.exec_driver_sql(f"DROP TRIGGER immutable_{table}_{action}{suffix}")
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def sealed(books: Books) -> Books:
    write(books, "a", "b", "c", "d")
    assert seal(books) == 4
    assert faults(books) == []
    return books


def test_only_new_rows_are_sealed_and_the_chain_goes_on(sealed: Books):
    assert seal(sealed) == 0
    write(sealed, "e", "f")
    assert (seal(sealed, limit=1), seal(sealed), seal(sealed)) == (1, 1, 0)
    assert faults(sealed) == []
    with sealed.read() as connection:
        end = audit_log.head(connection)
    assert end is not None
    assert end.position == 6


def test_an_edit_is_one_fault(sealed: Books):
    tamper(sealed, "UPDATE audit_log SET actor = 'nobody' WHERE audit_id = 2")
    assert faults(sealed) == ["the row or its place in the chain was changed"]


def test_an_edit_inside_the_detail_is_found(sealed: Books):
    tamper(sealed, """UPDATE audit_log SET detail = '{"amount_fen": 1, "note": "现金"}' WHERE audit_id = 3""")
    assert faults(sealed) == ["the row or its place in the chain was changed"]


def test_a_deleted_row_is_found_with_or_without_its_seal(sealed: Books):
    tamper(sealed, "DELETE FROM audit_seals WHERE audit_id = 2", "DELETE FROM audit_log WHERE audit_id = 2")
    assert faults(sealed) == ["seals 2 to 2 are missing"]


def test_a_row_whose_seal_remained_is_told_as_deleted(sealed: Books):
    tamper(sealed)
    if sealed.is_sqlite:  # a connection of one's own that checks no references
        with closing(sqlite3.connect(str(sealed.engine.url.database))) as stranger:
            stranger.execute("DELETE FROM audit_log WHERE audit_id = 2")
            stranger.commit()
    else:
        with sealed.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_seals DROP CONSTRAINT fk_audit_seals_audit_id")
            connection.exec_driver_sql("DELETE FROM audit_log WHERE audit_id = 2")
    assert faults(sealed) == ["the row was deleted"]


def test_two_rows_that_changed_places_are_found(sealed: Books):
    tamper(
        sealed,
        "UPDATE audit_log SET subject_id = 'x' WHERE audit_id = 2",
        "UPDATE audit_log SET subject_id = 'b' WHERE audit_id = 3",
        "UPDATE audit_log SET subject_id = 'c' WHERE audit_id = 2",
    )
    assert faults(sealed) == ["the row or its place in the chain was changed"] * 2


def test_a_chain_that_was_cut_off_or_made_anew_is_found_by_an_exported_head(sealed: Books):
    with sealed.read() as connection:
        end = audit_log.head(connection)
    assert end is not None
    assert faults(sealed, [end]) == []
    tamper(sealed, "DELETE FROM audit_seals WHERE position = 4", "DELETE FROM audit_log WHERE audit_id = 4")
    assert faults(sealed) == []
    assert faults(sealed, [end]) == ["the chain ends at 3, its head was exported here"]
    write(sealed, "forged")
    seal(sealed)
    assert faults(sealed, [end]) == ["the chain is not the one whose head was exported"]


def test_a_row_that_commits_late_with_a_lower_id_is_sealed_after_the_others(sealed: Books):
    with sealed.write() as connection:
        for audit_id in (8, 6):
            connection.execute(
                sa.insert(tables.audit_log).values(
                    audit_id=audit_id,
                    written_at=NOW,
                    actor="x",
                    action="y",
                    subject_kind="z",
                    subject_id=str(audit_id),
                    detail={},
                )
            )
            assert audit_log.seal(connection) == 1
    assert faults(sealed) == []


def test_a_row_far_below_the_newest_without_a_seal_is_found_and_sealed_by_the_daily_look(
    sealed: Books, tmp_path: Path
):
    with sealed.write() as connection:
        for audit_id in (audit_log.LATE_IDS + 100, 50):
            connection.execute(
                sa.insert(tables.audit_log).values(
                    audit_id=audit_id,
                    written_at=NOW,
                    actor="x",
                    action="y",
                    subject_kind="z",
                    subject_id=str(audit_id),
                    detail={},
                )
            )
            audit_log.seal(connection)
    assert faults(sealed) == ["the row was never sealed, later ones were"]
    assert audit_log.export_head(sealed, path=tmp_path / "heads", on=TODAY, now=NOW)
    assert faults(sealed) == []


def test_the_head_is_exported_once_a_campus_day(sealed: Books, tmp_path: Path):
    path = tmp_path / audit_log.HEADS_FILE
    assert audit_log.read_heads(path) == []
    assert audit_log.export_head(sealed, path=path, on=TODAY, now=NOW)
    assert not audit_log.export_head(sealed, path=path, on=TODAY, now=NOW)
    write(sealed, "e")
    assert audit_log.export_head(sealed, path=path, on=date(2026, 3, 2), now=NOW)
    heads = audit_log.read_heads(path)
    assert [one.position for one in heads] == [4, 5]
    assert faults(sealed, list(heads)) == []
    path.write_text("{}\n")
    with pytest.raises(audit_log.UnableToReadHeadsError, match="line 1"):
        audit_log.read_heads(path)
