"""What is asked of the books, counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from dormpower.books.database import Books


@contextmanager
def statements(books: Books) -> Iterator[list[str]]:
    """Give the statements that go to the database within the block."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(statement)

    sa.event.listen(books.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(books.engine, "before_cursor_execute", note)
