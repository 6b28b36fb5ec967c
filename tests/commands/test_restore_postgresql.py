"""Backup and restore of books on PostgreSQL: checked first, never over a live site, nothing lost or left."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import load
from dormpower.books import audit_log, leases, migration, shadow
from dormpower.books import tables as t
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.commands.backup import backup
from dormpower.commands.ledger import broken_rules
from dormpower.commands.restore import UnableToRestoreError, restore
from dormpower.commands.restore_postgresql import UnableToLoadDumpError

pytestmark = [
    pytest.mark.needs("postgres", "initdb", "pg_dump", "pg_restore"),
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
]

SITE = """
site: {{id: s, name: S}}
database: {database}
lines: [{{id: a, transport: tcp, host: 127.0.0.1, port: 1}}]
modules: [{{id: m1, profile: dormpower-dual, line: a, unit: 1}}]
mqtt: {{url: 'mqtt://127.0.0.1:1', username: g, password_file: mqtt.password}}
rooms:
  - {{room_id: r-1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     ac_module: m1, ac_channel: 1, rated_current_a: 32}}
"""
NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)


@pytest.fixture
def site(tmp_path, database_url) -> Path:
    return make_site(tmp_path / "site", database_url)


def make_site(folder: Path, database: str) -> Path:
    folder.mkdir()
    path = folder / "dormpower.yaml"
    path.write_text(SITE.format(database=database), encoding="utf-8")
    (folder / "mqtt.password").write_text("secret", encoding="utf-8")
    with Database(database) as books:
        migration.upgrade(books)
        sync_site(books=books, site=load(path).site, now=NOW, today=NOW.date())
    return path


@pytest.fixture
def archive(site, tmp_path) -> Path:
    backup(tmp_path / "b.tar.gz", site)
    return tmp_path / "b.tar.gz"


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    return tmp_path / "elsewhere" / "dormpower.yaml"


class Database:
    """Looks into the database and closes again, so that no session of ours is in the way."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Books:
        self._books = open_books(self._url)
        return self._books

    def __exit__(self, *_: object) -> None:
        self._books.close()


def empty(url: str) -> None:
    with Database(url) as books, books.write() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")


def mark(url: str, action: str) -> None:
    """Leave a row in the books that a backup of before doesn't have."""
    with Database(url) as books, books.write() as connection:
        audit_log.write(
            connection, actor="test", action=action, subject_kind="site", subject_id="s", detail={}, now=NOW
        )


def state(url: str) -> dict[str, object]:
    """What stands in the database: its schemas, and who did what by the books in use."""
    with Database(url) as books, books.read() as connection:
        schemas = connection.execute(
            sa.text(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            )
        ).scalars()
        tables = sa.inspect(connection).get_table_names()
        actions = connection.execute(sa.select(t.audit_log.c.action)).scalars()
        return {"schemas": set(schemas), "tables": set(tables), "actions": sorted(actions)}


def test_books_are_restored_into_an_empty_database_prove_and_are_in_shadow(archive, elsewhere, database_url):
    before = state(database_url)
    empty(database_url)
    restore(archive, elsewhere)
    assert state(database_url) == {**before, "actions": ["site.synced"]}  # the backup notes itself afterwards
    with Database(database_url) as books:
        migration.require_current(books)
        assert broken_rules(books) == []
        with books.read() as connection:
            assert shadow.awaits_confirmation(connection)
            assert connection.execute(sa.select(t.rooms.c.room_id)).scalars().all() == ["r-1"]
    (elsewhere.parent / "mqtt.password").write_text("secret", encoding="utf-8")  # no backup has it
    restore(None, elsewhere, confirmed=True)
    with Database(database_url) as books, books.read() as connection:
        assert not shadow.awaits_confirmation(connection)


def test_a_database_that_holds_books_is_refused_and_no_file_is_left(archive, elsewhere, database_url):
    mark(database_url, "after.backup")
    before = state(database_url)
    with pytest.raises(UnableToLoadDumpError, match="may hold books already"):
        restore(archive, elsewhere)
    assert list(elsewhere.parent.iterdir()) == []
    assert state(database_url) == before
    empty(database_url)
    restore(archive, elsewhere)  # nothing of the refusal is in the way
    assert elsewhere.is_file()


def test_with_force_the_books_that_were_there_are_kept_in_a_schema_of_their_own(archive, site, database_url):
    mark(database_url, "after.backup")
    old = state(database_url)
    restore(archive, site, force=True)
    new = state(database_url)
    assert "after.backup" in old["actions"]
    assert "after.backup" not in new["actions"]
    assert new["tables"] == old["tables"]
    (aside,) = new["schemas"] - old["schemas"]
    with Database(database_url) as books, books.read() as connection:
        kept = connection.execute(sa.text(f"SELECT action FROM {aside}.audit_log")).scalars()
        assert sorted(kept) == old["actions"]
    assert next(site.parent.glob("before-restore-*")).joinpath("dormpower.yaml").is_file()


def test_a_backup_of_after_a_restore_holds_the_books_in_use_alone_and_can_be_restored(
    archive, site, tmp_path, database_url
):
    restore(archive, site, force=True)
    (site.parent / "mqtt.password").write_text("secret", encoding="utf-8")
    mark(database_url, "after.restore")
    backup(tmp_path / "later.tar.gz", site)
    mark(database_url, "after.backup")
    restore(tmp_path / "later.tar.gz", site, force=True)
    assert "after.restore" in state(database_url)["actions"]
    assert "after.backup" not in state(database_url)["actions"]


@pytest.fixture
def owned_url(database_url) -> Iterator[str]:
    """A database whose owner may do nothing beyond it."""
    server = sa.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE plain LOGIN")
        connection.exec_driver_sql("CREATE DATABASE plain_books OWNER plain")
    yield (
        sa.make_url(database_url)
        .set(username="plain", database="plain_books")
        .render_as_string(hide_password=False)
    )
    with server.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE plain_books WITH (FORCE)")
        connection.exec_driver_sql("DROP ROLE plain")


def test_owning_the_database_is_enough_to_restore_over_what_is_there(owned_url, tmp_path):
    site = make_site(tmp_path / "owned", owned_url)
    backup(tmp_path / "owned.tar.gz", site)
    mark(owned_url, "after.backup")
    restore(tmp_path / "owned.tar.gz", site, force=True)
    assert state(owned_url)["actions"] == ["site.synced"]
    with Database(owned_url) as books:
        assert broken_rules(books) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_gateway_s_lease_refuses_the_restore_with_force_too(archive, site, database_url, force):
    with Database(database_url) as books:
        assert leases.acquire(
            books=books, name="gateway:g1", holder="g1@here", real_now=datetime.now(UTC), for_s=3600
        )
    before, files = state(database_url), sorted(site.parent.iterdir())
    with pytest.raises(
        (UnableToLoadDumpError, UnableToRestoreError), match="g1@here holds gateway:g1" if force else "exists"
    ):
        restore(archive, site, force=force)
    assert state(database_url) == before
    assert sorted(site.parent.iterdir()) == files


def test_a_session_that_works_on_the_books_refuses_the_restore(archive, site, database_url):
    before = state(database_url)
    with (
        Database(database_url) as books,
        books.read() as connection,
    ):
        connection.execute(sa.text("SELECT 1"))
        with pytest.raises(UnableToLoadDumpError, match="1 other sessions of the same user are open"):
            restore(archive, site, force=True)
    assert state(database_url) == before
    assert not list(site.parent.glob("before-restore-*"))


def test_a_backup_whose_books_do_not_prove_changes_neither_books_nor_files(site, tmp_path, database_url):
    with Database(database_url) as books, books.write() as connection:
        connection.execute(sa.update(t.ledger_accounts).values(balance=5))
    backup(tmp_path / "bad.tar.gz", site)
    with Database(database_url) as books, books.write() as connection:
        connection.execute(sa.update(t.ledger_accounts).values(balance=0))
    mark(database_url, "after.backup")
    before, content = state(database_url), site.read_text(encoding="utf-8")
    with pytest.raises(UnableToRestoreError, match="don't prove"):
        restore(tmp_path / "bad.tar.gz", site, force=True)
    assert state(database_url) == before
    assert site.read_text(encoding="utf-8") == content
    assert not list(site.parent.glob("before-restore-*"))
    with Database(database_url) as books:
        assert broken_rules(books) == []  # the triggers came back too


def test_a_dump_that_does_not_load_into_an_empty_database_leaves_it_empty(
    site, tmp_path, elsewhere, database_url
):
    with Database(database_url) as books, books.write() as connection:
        connection.execute(sa.update(t.ledger_accounts).values(balance=5))
    backup(tmp_path / "bad.tar.gz", site)
    empty(database_url)
    with pytest.raises(UnableToRestoreError, match="don't prove"):
        restore(tmp_path / "bad.tar.gz", elsewhere)
    with Database(database_url) as books, books.read() as connection:
        assert sa.inspect(connection).get_table_names() == []
        assert sa.inspect(connection).get_schema_names() == ["information_schema", "public"]
    assert list(elsewhere.parent.iterdir()) == []
