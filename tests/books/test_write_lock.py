"""SQLite's one write lock: who waits for it gets it, sees what the other left, or fails as SQLAlchemy does."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from dormpower.books import database
from dormpower.books.database import Books
from dormpower.books.tables import meta


def test_a_writer_that_waited_sees_what_the_one_before_left(sqlite_books: Books):
    asked = threading.Event()
    seen: list[str | None] = []

    def second() -> None:
        asked.set()
        with sqlite_books.write() as connection:
            seen.append(connection.scalar(sa.select(meta.c.value).where(meta.c.key == "first")))

    waiting = threading.Thread(target=second)
    with sqlite_books.write() as connection:
        waiting.start()
        assert asked.wait(10)
        connection.execute(sa.insert(meta).values(key="first", value="done"))
        assert seen == []
    waiting.join(10)
    assert seen == ["done"]


# The bytes of the wal-index that SQLite locks to write and to mend it (walformat.html, 2.3.4).
MENDING = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 3, 120)
    file.write(bytes(136))
    file.flush()
    print("mending", flush=True)
    sys.stdin.read()
"""


def test_a_writer_waits_too_while_another_process_mends_the_log_after_a_crash(
    sqlite_books: Books, tmp_path: Path
):
    with sqlite_books.write() as connection:
        connection.execute(sa.insert(meta).values(key="first", value="done"))
    command = [sys.executable, "-c", MENDING, str(tmp_path / "books.db-shm")]
    seen: list[object] = []

    def write() -> None:
        try:
            with sqlite_books.write() as connection:
                seen.append(connection.scalar(sa.select(meta.c.value).where(meta.c.key == "first")))
        except sa.exc.OperationalError as fault:
            seen.append(fault)

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mending:
        assert mending.stdout is not None
        assert mending.stdout.readline() == "mending\n"
        waiting = threading.Thread(target=write)
        waiting.start()
        waiting.join(0.3)
        mending.communicate("")
    waiting.join(20)
    assert seen == ["done"]


def test_a_writer_whose_turn_never_comes_is_told_and_may_try_again(
    sqlite_books: Books, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with sqlite_books.write() as connection:
        connection.execute(sa.insert(meta).values(key="first", value="done"))
        with pytest.raises(sa.exc.OperationalError, match="locked"), sqlite_books.write():
            pass
    with sqlite_books.write() as connection:
        assert connection.scalar(sa.select(meta.c.value).where(meta.c.key == "first")) == "done"
