"""SQLite's one write lock: who waits for it gets it, sees what the other left, or fails as SQLAlchemy does."""

import threading

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
