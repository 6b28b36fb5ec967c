"""Metering (`books.meters`, `books.settlement`)."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Date, ForeignKey, Index, Integer, String, Table

from dormpower.books.tables.schema import Amount, Json, SerialId, metadata
from dormpower.books.types import Instant

# One row a circuit: where its register and its metered energy stand, and what was last seen. The hot row.
meter_points = Table(
    "meter_points",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("span_id", ForeignKey("channel_spans.span_id")),
    Column(
        "standing", String, nullable=False, server_default="commissioning"
    ),  # commissioning|accepted|quarantined
    Column("register_wh", Amount),
    Column("register_at", Instant),
    # Monotone sum of the circuit's segments including the open one [segment_from, register).
    Column("metered_wh", Amount, nullable=False, server_default="0"),
    Column("settled_wh", Amount, nullable=False, server_default="0"),
    # The open segment's start, and the campus day that it belongs to (the day of the position).
    Column("segment_from_wh", Amount),
    Column("segment_from_at", Instant),
    Column("open_on", Date),
    # A new span goes on from the old one's position: the cause of the step is "replacement" or "break".
    Column("joins", String),
    Column("candidates", Json),  # samples of a span in commissioning: [[at_ms, register_wh], ...]
    # While quarantined: since when, and the newest register that was not believed.
    Column("quarantined_at", Instant),
    Column("suspect_register_wh", Amount),
    Column("suspect_at", Instant),
    Column("suspect_run", Integer, nullable=False, server_default="0"),
    Column("relay", String),
    Column("relay_at", Instant),
    Column("power_w", sa.Float),
    Column("voltage_v", sa.Float),
    Column("current_a", sa.Float),
    Column("power_factor", sa.Float),
    Column("flags", String, nullable=False, server_default=""),  # comma-separated
    Column("last_seen_at", Instant),
)

segments = Table(
    "segments",
    metadata,
    Column("segment_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("span_id", ForeignKey("channel_spans.span_id"), nullable=False),
    Column("used_on", Date, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant, nullable=False),
    Column("from_register_wh", Amount, nullable=False),
    Column("to_register_wh", Amount, nullable=False),
    Column("energy_wh", Amount, nullable=False),
    Column("cause", String, nullable=False),  # measured|rollover|replacement|estimate|break
    Column("estimated", Boolean, nullable=False, server_default=sa.false()),
    Index("ix_segments_circuit_id_used_on", "circuit_id", "used_on"),
)

# The samples on either side of a campus midnight: what a day's boundary was taken from, so that a late sample
# can refine it and nothing depends on the order of arrival (invariant 27).
day_boundaries = Table(
    "day_boundaries",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("begins_on", Date, primary_key=True),  # the boundary at the start of this campus day
    Column("span_id", ForeignKey("channel_spans.span_id"), nullable=False),
    Column("boundary_at", Instant, nullable=False),
    Column(
        "cause", String, nullable=False
    ),  # of the step that crossed it; only measured ones and rollovers narrow
    Column("before_at", Instant, nullable=False),
    Column("before_register_wh", Amount, nullable=False),
    Column("before_metered_wh", Amount, nullable=False),
    Column("after_at", Instant, nullable=False),
    Column("after_register_wh", Amount, nullable=False),
    Column("after_metered_wh", Amount, nullable=False),
    Column("register_wh", Amount, nullable=False),
    Column("metered_wh", Amount, nullable=False),
    Column("estimated", Boolean, nullable=False),
)

# Days whose energy changed since they were last settled, one row a change. Settlement deletes the rows that it
# saw, by their ids: a change that commits meanwhile has a row of its own and is found by the next run.
day_changes = Table(
    "day_changes",
    metadata,
    Column("change_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("used_on", Date, nullable=False),
    sqlite_autoincrement=True,
)

quarantines = Table(
    "quarantines",
    metadata,
    Column("quarantine_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("span_id", ForeignKey("channel_spans.span_id"), nullable=False),
    Column("reason", String, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("accepted_register_wh", Amount, nullable=False),
    Column("accepted_at", Instant, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("closed_at", Instant),  # when the meter point left the quarantine
    Column("decision", String),  # accepted|dismissed|estimated|returned|replaced
    Column("estimate_wh", Amount),
    Column("decided_at", Instant),  # a person's decision waits for the gateway, which owns the meter point
    Column("decided_by", String),
    # The suspect register that the person saw: metering goes on from it.
    Column("decided_register_wh", Amount),
    Column("decided_register_at", Instant),
    Column("note", String),
    sa.Index(
        "uq_quarantines_open",
        "circuit_id",
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    ),
)

# Replacements and commissionings of modules as people recorded them; each waits until the site is described
# with its channel and the gateway, which owns the meter point, carries it out.
meter_changes = Table(
    "meter_changes",
    metadata,
    Column("meter_change_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("kind", String, nullable=False),  # replacement|commissioning
    Column("module_id", String, nullable=False),  # the channel that serves the circuit from changed_at on
    Column("channel", Integer, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("final_register_wh", Amount),
    Column("first_register_wh", Amount),
    Column("note", String, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("recorded_by", String, nullable=False),
    Column("closed_at", Instant),
    Column("outcome", String),  # carried_out|superseded|refused
    Column("refusal", String),
    Column("limits", Json),  # what it was checked by; null: recorded before they were kept
    sa.Index(
        "uq_meter_changes_waiting",
        "circuit_id",
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    ),
)

# What has been posted for a circuit and day; daily usage is these rows plus the open part.
settled_days = Table(
    "settled_days",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("used_on", Date, primary_key=True),
    Column("account_id", ForeignKey("accounts.account_id"), nullable=False),
    Column("energy_wh", Amount, nullable=False),
    Column("postings", Integer, nullable=False, server_default="1"),
    Column("estimated", Boolean, nullable=False),
    Column("settled_at", Instant, nullable=False),
)
