"""Opening the books: one engine, one way to read, one way to write.

SQLite runs in WAL mode with synchronous=FULL (a commit survives power loss) and writers take the write lock at
the start (BEGIN IMMEDIATE), so that what a transaction read is still true when it commits. On PostgreSQL
writers that depend on what they read lock the rows (`FOR UPDATE`) or an advisory lock.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from dormpower.books.in_use import Share, UnableToLockBooksError

BUSY_TIMEOUT_S = 15
_LOOK_AGAIN_S = 0.001
_PRIMARY_CODE = 0xFF  # of an SQLite result code; what is above says more of it
WRITE_OPTION = "dormpower_write"


class UnableToOpenBooksError(Exception):
    """The database can't be reached or used; the message says which and what to do."""


class Books:
    """A handle on the books. `read()` and `write()` give connections whose block is one transaction."""

    def __init__(self, engine: Engine, share: Share | None = None) -> None:
        self.engine = engine
        self._share = share

    @property
    def is_sqlite(self) -> bool:
        """Whether the books are one SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection with one consistent view; nothing that it writes is kept."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection whose block commits as one transaction, or leaves nothing behind."""
        with (
            self.engine.connect().execution_options(**{WRITE_OPTION: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Give back all connections, and the part in the use of the data folder."""
        self.engine.dispose()
        if self._share is not None:
            self._share.end()


def open_books(url: str, *, base: Path | None = None) -> Books:
    """Open the books named by a SQLAlchemy URL; a relative SQLite path is taken from `base`.

    `base` is the site's data folder, which is in use until `close` (see `in_use`). Creates nothing else but an
    empty SQLite file; `migrations.upgrade` brings the tables. Raises UnableToOpenBooksError for a URL that is
    not SQLite or PostgreSQL (psycopg), and while a restore is under way in the folder.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as fault:
        raise UnableToOpenBooksError(
            f"database: expected sqlite:///FILE or postgresql+psycopg://…, got {url!r}"
        ) from fault
    if parsed.drivername == "sqlite":
        engine = _sqlite_engine(parsed, base)
    elif parsed.drivername == "postgresql+psycopg":
        engine = sa.create_engine(parsed, pool_size=8, max_overflow=8, pool_pre_ping=True, hide_parameters=True)
    else:
        raise UnableToOpenBooksError(
            f"database: expected sqlite:///FILE or postgresql+psycopg://…, got driver {parsed.drivername!r}"
        )
    try:
        return Books(engine, None if base is None else Share(base))
    except UnableToLockBooksError as refusal:
        raise UnableToOpenBooksError(str(refusal)) from refusal


def sqlite_path(url: sa.URL, *, base: Path | None) -> Path:
    """Return the file of an SQLite URL, a relative one from `base`. Raises UnableToOpenBooksError."""
    if not url.database or url.database == ":memory:":
        raise UnableToOpenBooksError("database: expected a file for SQLite, got none")
    return Path(url.database) if base is None else base / url.database


def _sqlite_engine(url: sa.URL, base: Path | None) -> Engine:
    engine = sa.create_engine(
        url.set(database=str(sqlite_path(url, base=base))),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=8,
        max_overflow=24,
        hide_parameters=True,  # a fault's text goes to logs, values don't (invariant 40)
    )

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITE_OPTION, False):
            _begin_immediate(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock, or raise SQLAlchemy's fault after BUSY_TIMEOUT_S.

    SQLite's own waiting soon looks only every 100 ms, and whoever comes in between goes first: a payment waited
    for several short transactions of others.
    """
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as fault:
                if not _is_busy(fault):
                    break
                time.sleep(_LOOK_AGAIN_S)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout={round(BUSY_TIMEOUT_S * 1000)}")


def _is_busy(fault: sqlite3.Error) -> bool:
    """Whether another connection is in the way; while one mends the log after a crash the code is extended."""
    return fault.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY


def is_away(fault: BaseException) -> bool:
    """Whether a fault of a transaction passes by itself: the books are away or busy, or others went first."""
    return isinstance(fault, sa.exc.DBAPIError) and (
        fault.connection_invalidated or isinstance(fault, sa.exc.OperationalError | sa.exc.InterfaceError)
    )


def lock_rows(connection: Connection, name: str) -> None:
    """Serialise writers of one kind until the transaction ends; on SQLite the write lock already does."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


def wait_until_reachable(books: Books, *, timeout_s: float) -> None:
    """Wait for a database server that is still starting; raises UnableToOpenBooksError after the time-out."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with books.read() as connection:
                connection.execute(sa.text("SELECT 1"))
        except sa.exc.OperationalError as fault:
            if time.monotonic() > deadline:
                raise UnableToOpenBooksError(
                    f"database: no answer within {timeout_s:g} s: {fault.orig}"
                ) from fault
            time.sleep(0.2)
        else:
            return
