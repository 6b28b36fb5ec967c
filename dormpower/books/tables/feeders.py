"""Feeders and shedding (`books.feeders`)."""

from sqlalchemy import Boolean, Column, Date, ForeignKey, Index, Integer, String, Table

from dormpower.books.tables.schema import Amount, Json, metadata
from dormpower.books.types import Instant

# One row a feeder: its demand at the last decision, and what the next decision has to know of it.
feeder_states = Table(
    "feeder_states",
    metadata,
    Column("feeder_id", String, primary_key=True),
    Column("parent", String),
    Column("limit_w", Amount, nullable=False),
    Column("mode", String, nullable=False),  # enforce|shadow|off
    Column("source", String, nullable=False),  # metered|summed|unknown
    Column("measured_w", Amount),
    Column("expected_w", Amount, nullable=False),
    Column("projected_w", Amount, nullable=False),
    Column("reserved_w", Amount, nullable=False),
    Column("circuits_off", Integer, nullable=False),
    Column("sampled_at", Instant),
    Column("decided_at", Instant, nullable=False),
    Column("memory", Json, nullable=False),
)

# Each circuit's turns, timers and learned pickup; see domain.feeder_facts.Turn.
shed_turns = Table(
    "shed_turns",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("memory", Json, nullable=False),
)

# How long each circuit was shed on a campus day: its finished turns, split at midnight. A turn counts on the
# day on which it began.
shed_minutes = Table(
    "shed_minutes",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("used_on", Date, primary_key=True),
    Column("shadow", Boolean, primary_key=True),
    Column("room_id", ForeignKey("rooms.room_id"), nullable=False),
    Column("off_ms", Amount, nullable=False),
    Column("turns", Integer, nullable=False),
    Index("ix_shed_minutes_room_id_used_on", "room_id", "used_on"),
)
