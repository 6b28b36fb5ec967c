"""How a SQLite file is written: what was committed survives kill -9 and a power cut."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from dormpower.books.database import open_books

FULL = 2


@pytest.mark.parametrize("write", [False, True])
def test_every_connection_writes_ahead_and_syncs_fully(tmp_path: Path, write: bool):
    books = open_books(f"sqlite:///{tmp_path}/books.db")
    with books.write() if write else books.read() as connection:
        found = {
            name: connection.execute(sa.text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": FULL, "foreign_keys": 1}
    books.close()
