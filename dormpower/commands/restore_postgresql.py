"""Loading a dump into PostgreSQL so that nothing is lost: what is there is set aside first, and comes back.

The books in the database move into a schema of their own in one transaction; the dump is loaded where they were
and brought to this version, and the caller proves it. Whatever fails on the way, in the restore of the files
too, takes the loaded books away again and moves the old ones back. What was set aside stays until an operator
drops it.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import migration
from dormpower.books.database import Books, open_books
from dormpower.books.tables import leases

# A session that holds a table keeps it from moving: better a refusal than a wait without an end.
_LOCK_TIMEOUT_MS = 5_000
ASIDE_PREFIX = "before_restore_"


class UnableToLoadDumpError(Exception):
    """The dump was not loaded and the database is as it was; the message says why and what to do."""


@contextmanager
def loaded_dump(
    database: str, dump: Path, *, force: bool, accept: Callable[[Books], None]
) -> Iterator[str | None]:
    """Load a dump for the body, and for good where the body ends well; yields the schema of what was there.

    `accept` looks at the loaded books, brought to this version, and raises where they must not be used. Raises
    UnableToLoadDumpError.
    """
    program = shutil.which("pg_restore")
    if program is None:
        raise UnableToLoadDumpError("this machine lacks pg_restore; install postgresql-client")
    books = open_books(database)
    try:
        _refuse_used(books, force=force)
        aside = _set_aside(books)
        try:
            _load(program, books.engine.url, dump)
            migration.upgrade(books)
            accept(books)
            yield aside
        except BaseException:
            _take_back(books, aside)
            raise
    finally:
        books.close()


def _refuse_used(books: Books, *, force: bool) -> None:
    """Refuse a database that processes live on, with or without --force, and one that holds something else."""
    with books.read() as connection:
        holder = _live_lease(connection)
        if holder is not None:
            raise UnableToLoadDumpError(
                f"database: in use: {holder}; stop `dormpower serve` first, then wait a minute"
            )
        others = connection.scalar(sa.text(_OTHER_SESSIONS))
        if others:
            raise UnableToLoadDumpError(
                f"database: {others} other sessions of the same user are open; stop the gateway, the API and "
                "whatever else works on these books first"
            )
        if not force and _objects(connection, _schema(connection)):
            raise UnableToLoadDumpError(
                "database: it isn't empty, it may hold books already; empty it, or use --force, "
                "which sets aside what is there in a schema of its own"
            )


def _live_lease(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(leases.name):
        return None
    row = connection.execute(
        sa.select(leases.c.name, leases.c.holder).where(leases.c.until_at > datetime.now(UTC)).limit(1)
    ).one_or_none()
    return None if row is None else f"{row.holder} holds {row.name}"


def _set_aside(books: Books) -> str | None:
    """Move what is there into a new schema; returns its name, None where there was nothing."""
    try:
        with books.write() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
            schema = _schema(connection)
            if not _objects(connection, schema):
                return None
            aside = f"{ASIDE_PREFIX}{datetime.now(UTC):%Y%m%dt%H%M%S%fz}"
            connection.exec_driver_sql(f"CREATE SCHEMA {aside}")
            _move(connection, schema, aside)
            return aside
    except sa.exc.DBAPIError as fault:
        raise UnableToLoadDumpError(f"database: what is there can't be set aside: {fault.orig}") from fault


def _take_back(books: Books, aside: str | None) -> None:
    """Drop what was loaded and move back what was set aside, in one transaction."""
    with books.write() as connection:
        schema, doomed = _schema(connection), "restore_failed"
        connection.exec_driver_sql(f"CREATE SCHEMA {doomed}")
        _move(connection, schema, doomed)
        connection.exec_driver_sql(f"DROP SCHEMA {doomed} CASCADE")
        if aside is not None:
            _move(connection, aside, schema)
            connection.exec_driver_sql(f"DROP SCHEMA {aside}")


def _load(program: str, url: sa.URL, dump: Path) -> None:
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own tool, no shell
        [program, "--no-owner", "--single-transaction", "--exit-on-error", f"--dbname={address}", str(dump)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UnableToLoadDumpError(f"pg_restore failed: {done.stderr.strip()}")


def _schema(connection: Connection) -> str:
    return str(connection.scalar(sa.text("SELECT quote_ident(current_schema())")))


def _objects(connection: Connection, schema: str) -> list[str]:
    """Return what stands in a schema, as the first words of an ALTER statement each."""
    return list(connection.execute(sa.text(_OBJECTS), {"schema": schema}).scalars())


def _move(connection: Connection, schema: str, target: str) -> None:
    for found in _objects(connection, schema):
        connection.exec_driver_sql(f"ALTER {found} SET SCHEMA {target}")


_OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""
# A sequence that belongs to a column moves along with its table, an extension's parts with the extension.
_OBJECTS = """
SELECT 'TABLE ' || c.oid::regclass FROM pg_class c
WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
AND NOT EXISTS (
    SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
    AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i'))
)
UNION ALL
SELECT 'ROUTINE ' || p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = CAST(:schema AS regnamespace)
AND NOT EXISTS (
    SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
)
"""
