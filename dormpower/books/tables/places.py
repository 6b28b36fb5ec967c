"""The site as the books know it (written by `books.sites`)."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from dormpower.books.tables.schema import Amount, SerialId, metadata
from dormpower.books.types import Instant

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

rooms = Table(
    "rooms",
    metadata,
    Column("room_id", String, primary_key=True),
    Column("campus", String, nullable=False),
    Column("building", String, nullable=False),
    Column("floor", String, nullable=False),
    Column("name", String, nullable=False),
    Column("rated_current_a", Integer, nullable=False),
    Column("feeder", String),
    Column("keep_supply", Boolean, nullable=False, server_default=sa.false()),
    Column("closed_at", Instant),
    Index("ix_rooms_campus_building_floor", "campus", "building", "floor"),
)

circuits = Table(
    "circuits",
    metadata,
    Column("circuit_id", String, primary_key=True),
    Column("room_id", ForeignKey("rooms.room_id"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    UniqueConstraint("room_id", "kind"),
)

modules = Table(
    "modules",
    metadata,
    Column("module_id", String, primary_key=True),
    Column("profile", String, nullable=False),
    Column("line_id", String),
    Column("unit", Integer),
    Column("online", Boolean),
    Column("online_changed_at", Instant),
    Column("closed_at", Instant),
)

# A channel meters and switches one circuit for a dated span [from_at, to_at).
channel_spans = Table(
    "channel_spans",
    metadata,
    Column("span_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("module_id", ForeignKey("modules.module_id"), nullable=False, index=True),
    Column("channel", Integer, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant),
    Column("first_register_wh", Amount),
    Column("final_register_wh", Amount),
    sa.Index(
        "uq_channel_spans_current_channel",
        "module_id",
        "channel",
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    ),
    sa.Index(
        "uq_channel_spans_current_circuit",
        "circuit_id",
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    ),
)
