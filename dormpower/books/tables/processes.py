"""What processes tell each other and the world: leases, counters, events, notices."""

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, String, Table

from dormpower.books.tables.schema import Json, SerialId, metadata
from dormpower.books.types import Instant

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until_at", Instant, nullable=False),  # real time
)

jobs = Table(
    "jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("done_at", Instant, nullable=False),
)

# What a process has counted since it started; the API's /metrics shows them beside its own.
process_counters = Table(
    "process_counters",
    metadata,
    Column("process", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", sa.Float, nullable=False),
    Column("written_at", Instant, nullable=False),  # real time
)

# Warnings and other messages to residents, queued in the transaction that causes them; one row a channel.
notices = Table(
    "notices",
    metadata,
    Column("notice_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("code", String, nullable=False),
    Column("params", Json, nullable=False),
    Column("queued_at", Instant, nullable=False),
    Column("sent_at", Instant),
)

# What changed, for server-sent events: the subject is read again when it is sent.
events = Table(
    "events",
    metadata,
    Column("event_id", SerialId, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),  # circuit|alarm
    Column("subject_id", String, nullable=False),
    Column("happened_at", Instant, nullable=False),
    sqlite_autoincrement=True,  # ids stay monotone when old events are dropped
)
