"""No restore over a site that somebody works on: an API alone, on SQLite and PostgreSQL, here or elsewhere."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from config.settings import load
from dormpower.books.database import UnableToOpenBooksError, open_books
from dormpower.books.in_use import LOCK_FILE, Share, UnableToLockBooksError, alone
from dormpower.books.sites import sync_site
from dormpower.commands.backup import backup
from dormpower.commands.opening import campus_now
from dormpower.commands.restore import UnableToRestoreError, restore
from dormpower.commands.restore_postgresql import UnableToLoadDumpError

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
NOBODY = 65534
SITE = """
site: {{id: s, name: S}}
database: {database}
api: {{host: 127.0.0.1, port: {port}}}
lines: [{{id: a, transport: tcp, host: 127.0.0.1, port: 1}}]
modules: [{{id: m1, profile: dormpower-dual, line: a, unit: 1}}]
rooms:
  - {{room_id: r-1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     ac_module: m1, ac_channel: 1, rated_current_a: 32}}
"""


def make_site(folder: Path, database_url: str) -> Path:
    """A site on a database that is migrated already; its books lie in the data folder, as the archive wants."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = folder / "dormpower.yaml"
    path.write_text(SITE.format(database=database_url, port=port), encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=settings.folder)
    now, today = campus_now(settings)
    sync_site(books=books, site=settings.site, now=now, today=today)
    books.close()
    return path


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Path:
    return make_site(tmp_path, database_url)


@pytest.fixture
def administrators_folder() -> Iterator[Path]:
    """A folder whose lock file may only be read, and by everybody; root is another user meanwhile."""
    user_id = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / LOCK_FILE).touch()
        (folder / LOCK_FILE).chmod(0o444)
        if user_id == 0:
            os.seteuid(NOBODY)
        yield folder
        os.seteuid(user_id)


@contextmanager
def running_api(path: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--config", str(path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{load(path).api.port}/healthz")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=DEADLINE_S)


@pytest.mark.needs("pg_dump", "pg_restore")
def test_an_api_that_runs_alone_refuses_the_restore_until_it_has_ended(site: Path, tmp_path: Path):
    archive = tmp_path / "elsewhere" / "b.tar.gz"
    archive.parent.mkdir()
    backup(archive, site)
    with running_api(site):
        with pytest.raises(UnableToRestoreError, match="in use: a gateway, an API or a command"):
            restore(archive, site, force=True)
        assert not list(tmp_path.glob("before-restore-*"))
    restore(archive, site, force=True)
    assert list(tmp_path.glob("before-restore-*")) != []
    with running_api(site):
        pass


@pytest.mark.needs("pg_dump", "pg_restore")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_api_on_another_machine_refuses_the_restore_of_the_books_that_they_share(
    site: Path, tmp_path: Path, database_url: str
):
    there = tmp_path / "there"
    there.mkdir()
    elsewhere = make_site(there, database_url)
    backup(tmp_path / "b.tar.gz", site)
    with running_api(elsewhere), pytest.raises(UnableToLoadDumpError, match="other sessions"):
        restore(tmp_path / "b.tar.gz", site, force=True)
    assert not list(tmp_path.glob("before-restore-*"))


def test_whoever_comes_while_a_restore_is_under_way_is_refused(tmp_path: Path):
    with alone(tmp_path), pytest.raises(UnableToOpenBooksError, match="a restore is under way"):
        open_books("sqlite:///books.db", base=tmp_path)
    open_books("sqlite:///books.db", base=tmp_path).close()


def test_a_folder_is_used_by_many_and_had_alone_when_the_last_has_left(tmp_path: Path):
    first, second = Share(tmp_path), Share(tmp_path)
    first.end()
    with pytest.raises(UnableToLockBooksError, match="in use"), alone(tmp_path):
        pass
    second.end()
    with alone(tmp_path):
        pass


def test_what_fails_while_it_has_a_folder_alone_leaves_no_lock_file_that_was_not_there(tmp_path: Path):
    for was_there in (False, True):
        with pytest.raises(ValueError, match="fails"), alone(tmp_path):
            raise ValueError("fails")
        assert (tmp_path / LOCK_FILE).exists() is was_there
        Share(tmp_path).end()


def test_a_lock_file_that_an_administrator_made_is_the_site_user_s_too(administrators_folder: Path):
    Share(administrators_folder).end()
    with alone(administrators_folder):
        pass
