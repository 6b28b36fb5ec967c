"""Policies (`books.policies`, `books.policy_proposals`, `books.permits`, `books.reviews`, `books.silences`)."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from dormpower.books.tables.schema import Json, SerialId, metadata
from dormpower.books.types import Instant

# Each rule as it was configured last, and since when: a rule that changed is on probation (invariant 24).
policy_versions = Table(
    "policy_versions",
    metadata,
    Column("rule", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("described", Json, nullable=False),
)

# Another content of one section of the site file's `policies`, from proposed to applied and superseded.
policy_proposals = Table(
    "policy_proposals",
    metadata,
    Column("proposal_id", String, primary_key=True),
    Column("section", String, nullable=False),
    Column("content", Json, nullable=False),
    Column("note", String, nullable=False),
    Column("proposed_by", String, nullable=False),
    Column("proposed_at", Instant, nullable=False),
    Column("state", String, nullable=False),  # proposed|approved|applied|withdrawn|superseded
    Column("dry_run_asked_at", Instant),
    Column("dry_run_at", Instant),
    Column("dry_run", Json),
    Column("dry_run_valid_until_at", Instant),  # real time: a person is waiting
    Column("refusal", Json),  # why the gateway can't work with it: faults as (key, message)
    Column("approved_by", String),
    Column("approved_at", Instant),
    Column("take_over_until_at", Instant),  # real time
    Column("file_fingerprint", String),  # of the site file's own section, when this was approved
    Column("applied_at", Instant),
    Column("ended_by", String),
    Column("ended_at", Instant),
    Index("ix_policy_proposals_state", "state"),
)

# What a rule has to know of a circuit across a restart of the gateway.
rule_memories = Table(
    "rule_memories",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("rule", String, primary_key=True),
    Column("memory", Json, nullable=False),
)

# An appliance that a room may use although it looks prohibited, for a span of time [from_at, to_at).
permits = Table(
    "permits",
    metadata,
    Column("permit_id", String, primary_key=True),
    Column("room_id", ForeignKey("rooms.room_id"), nullable=False, index=True),
    Column("appliance", String, nullable=False),
    Column("from_w", Integer, nullable=False),
    Column("to_w", Integer, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant, nullable=False),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("revoked_by", String),
)

# What a person found of a decision: right, or a false trip. One for each hold or alarm; the newest counts.
reviews = Table(
    "reviews",
    metadata,
    Column("subject_kind", String, primary_key=True),  # hold|alarm
    Column("subject_id", String, primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("verdict", String, nullable=False),  # right|false
    Column("note", String, nullable=False),
    Column("reviewed_by", String, nullable=False),
    Column("reviewed_at", Instant, nullable=False),
)

# "Was this right?", asked by a resident of a hold or an alarm, and what was answered.
disputes = Table(
    "disputes",
    metadata,
    Column("dispute_id", String, primary_key=True),
    Column("subject_kind", String, nullable=False),  # hold|alarm
    Column("subject_id", String, nullable=False),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False, index=True),
    Column("question", String, nullable=False),
    Column("asked_by", String, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("verdict", String),  # right|false, once answered
    Column("answer", String),
    Column("answered_by", String),
    Column("answered_at", Instant),
    UniqueConstraint("subject_kind", "subject_id", "asked_by"),
)

# When a module or a line was silent: what shows one that falls silent each night.
silences = Table(
    "silences",
    metadata,
    Column("silence_id", SerialId, primary_key=True, autoincrement=True),
    Column("subject_kind", String, nullable=False),  # module|line
    Column("subject_id", String, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant),
    Index("ix_silences_subject_id_from_at", "subject_kind", "subject_id", "from_at"),
)
