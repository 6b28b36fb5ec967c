"""Fixtures that several folders of tests share."""

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dormpower.books import migration
from dormpower.books.database import Books, open_books, wait_until_reachable

_database_numbers = itertools.count(1)


def find_program(name: str) -> str | None:
    """Return the path of a program, looking where Debian keeps servers too."""
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    if found:
        return found
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else None


def pytest_sessionstart() -> None:
    """Say that there is no event loop yet: plugins that look for one would make one that nobody closes."""
    asyncio.set_event_loop(None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with its reason, a test whose programs this machine lacks; in CI that is a failure."""
    for mark in item.iter_markers("needs"):
        missing = [name for name in mark.args if find_program(name) is None]
        if missing:
            reason = f"this machine lacks {', '.join(missing)}"
            if os.environ.get("CI") == "true":
                pytest.fail(f"in CI nothing may be skipped: {reason}")
            pytest.skip(reason)


# --- databases: every test that takes `books` runs on SQLite and on a real PostgreSQL -------------------------


def _start_postgresql(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a PostgreSQL of our own on a free loopback port; returns the process and the URL of its server.

    PostgreSQL refuses to run as root: then it runs as the user `postgres` of Debian's package. Nothing is
    synced to disk, because these data live as long as the tests.
    """
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    subprocess.run(
        [find_program("initdb"), "-D", data, "-U", "dormpower", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        **owner,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "shared_buffers": "64MB",
        "max_connections": "200",
        "autovacuum": "off",
    }
    arguments = [item for key, value in options.items() for item in ("-c", f"{key}={value}")]
    with (folder / "postgresql.log").open("wb") as log:
        process = subprocess.Popen(
            [find_program("postgres"), "-D", data, *arguments],
            cwd=folder,
            stdout=log,
            stderr=log,
            **owner,
        )
    return process, f"postgresql+psycopg://dormpower@127.0.0.1:{port}"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL (without a database) of a PostgreSQL that was started for these tests alone.

    Tests that ask for it carry the mark `needs("postgres", "initdb")`.
    """
    folder = Path(tempfile.mkdtemp(prefix="dormpower-postgresql-"))
    process, url = _start_postgresql(folder)
    try:
        server = open_books(f"{url}/postgres")
        wait_until_reachable(server, timeout_s=60)
        server.close()
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _execute_on_server(url: str, statement: str) -> None:
    engine = sa.create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(scope="session")
def _postgresql_template(postgresql_url: str) -> str:
    """The name of a migrated database that each test's own is copied from."""
    _execute_on_server(postgresql_url, "CREATE DATABASE template_books")
    books = open_books(f"{postgresql_url}/template_books")
    migration.upgrade(books)
    books.close()
    return "template_books"


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file that each test's own is copied from."""
    path = tmp_path_factory.mktemp("books") / "template.db"
    books = open_books(f"sqlite:///{path}")
    migration.upgrade(books)
    with books.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    books.close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres", "initdb"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, migrated database: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "books.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    url = request.getfixturevalue("postgresql_url")
    template = request.getfixturevalue("_postgresql_template")
    name = f"books_{next(_database_numbers)}"
    _execute_on_server(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield f"{url}/{name}"
    _execute_on_server(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    """Fresh, migrated books: the test runs once on SQLite and once on PostgreSQL."""
    opened = open_books(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_books(_sqlite_template: Path, tmp_path: Path) -> Iterator[Books]:
    """Fresh, migrated books on SQLite alone, for tests that aren't about the database."""
    path = tmp_path / "books.db"
    shutil.copyfile(_sqlite_template, path)
    opened = open_books(f"sqlite:///{path}")
    yield opened
    opened.close()
