"""Counters that a process leaves in the books, so that one `/metrics` tells of all processes of a site."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import process_counters


def write(connection: Connection, *, process: str, values: Mapping[str, float], real_now: datetime) -> None:
    """Replace what a process has written of itself."""
    connection.execute(sa.delete(process_counters).where(process_counters.c.process == process))
    if values:
        connection.execute(
            sa.insert(process_counters),
            [
                {"process": process, "name": name, "value": float(value), "written_at": real_now}
                for name, value in values.items()
            ],
        )


def read(connection: Connection, *, process: str | None = None) -> dict[tuple[str, str], float]:
    """Return the counters by (process, name); of one process where it is named."""
    query = sa.select(process_counters.c.process, process_counters.c.name, process_counters.c.value)
    if process is not None:
        query = query.where(process_counters.c.process == process)
    return {(row.process, row.name): row.value for row in connection.execute(query)}
