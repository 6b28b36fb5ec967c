"""Control (`books.holds`, `books.commands`, `books.alarms`, `books.intents`)."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table

from dormpower.books.tables.schema import Json, SerialId, metadata
from dormpower.books.types import Instant

holds = Table(
    "holds",
    metadata,
    Column("hold_id", String, primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("reason", String, nullable=False),
    Column("holder", String, nullable=False, server_default=""),  # who, where several may stand (lockout)
    Column("scoped_hold_id", String, nullable=False, server_default="", index=True),  # part of one over a scope
    Column("shadow", Boolean, nullable=False, server_default=sa.false()),
    Column("placed_at", Instant, nullable=False),
    Column("placed_by", String, nullable=False),
    Column("note", String),
    Column("evidence", Json, nullable=False),
    Column("expected_release_at", Instant),
    Column("confirmed_open_at", Instant),
    Column("released_at", Instant),
    Column("released_by", String),
    Column("release_evidence", Json),
    Column("counted", Boolean, nullable=False, server_default=sa.false()),  # by the breaker (invariant 24)
    Column("alarm_id", String),  # the building's alarm that tells of it; null: the circuit's own
    sa.Index(
        "uq_holds_standing",
        "circuit_id",
        "reason",
        "holder",
        "scoped_hold_id",
        "shadow",
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    ),
    Index("ix_holds_circuit_id_placed_at", "circuit_id", "placed_at"),
    Index("ix_holds_alarm_id_released_at", "alarm_id", "released_at"),
)

# A lock-out, emergency or vacancy over a part of the site, by one person: one hold on each circuit in it, those
# that are described later among them. A part that is not named is open.
scoped_holds = Table(
    "scoped_holds",
    metadata,
    Column("scoped_hold_id", String, primary_key=True),
    Column("reason", String, nullable=False),  # lockout|emergency|vacant
    Column("holder", String, nullable=False),
    Column("note", String, nullable=False),
    Column("campus", String),
    Column("building", String),
    Column("floor", String),
    Column("room_id", String),
    Column("kind", String),
    Column("shadow", Boolean, nullable=False, server_default=sa.false()),
    Column("placed_at", Instant, nullable=False),
    Column("placed_by", String, nullable=False),
    Column("released_at", Instant),
    Column("released_by", String),
    Column("release_note", String),
)

# What an emergency off would cut, shown to who asked for it; confirmed within a minute of real time or never.
emergency_proposals = Table(
    "emergency_proposals",
    metadata,
    Column("token_sha256", String, primary_key=True),
    Column("asked_by", String, nullable=False),
    Column("note", String, nullable=False),
    Column("campus", String, nullable=False),
    Column("building", String, nullable=False),
    Column("circuits", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),  # real time
    Column("used_at", Instant),
)

# Planned outages [from_at, to_at) of a part of the site, announced ahead.
outages = Table(
    "outages",
    metadata,
    Column("outage_id", String, primary_key=True),
    Column("campus", String),
    Column("building", String),
    Column("floor", String),
    Column("room_id", String),
    Column("kind", String),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant, nullable=False),
    Column("note", String, nullable=False),
    Column("announced_at", Instant, nullable=False),
    Column("announced_by", String, nullable=False),
    Column("called_off_at", Instant),
    Column("called_off_by", String),
    Column("call_off_note", String),
    Index("ix_outages_to_at", "to_at"),
)

# What the reconciler remembers of a circuit across restarts.
control_points = Table(
    "control_points",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("control", String, nullable=False, server_default="settled"),  # settled|pending|waiting|failed
    Column("expected_change_at", Instant),
    Column("waits_for", String),  # see domain.reconcile
    Column("waits_for_feeder_id", String),
    Column("commanded_relay", String),  # what our last command on record asked for
    Column("opened_at", Instant),  # start of the present minimum off time
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("next_try_at", Instant),
    Column("arrears_stage", String),  # see domain.arrears
    Column("arrears", Json),  # warnings given: what the second one is measured from
    Column("state", String, nullable=False, server_default="offline"),
    Column("state_since_at", Instant),
)

# Recorded before they are sent.
commands = Table(
    "commands",
    metadata,
    Column("command_id", String, primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("module_id", String, nullable=False),
    Column("channel", Integer, nullable=False),
    Column("relay", String, nullable=False),
    Column("cause", Json, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("recorded_at", Instant, nullable=False),  # campus time
    Column("expires_at", Instant, nullable=False),  # real time
    Column("finished_at", Instant),
    Column(
        "outcome", String
    ),  # confirmed|unconfirmed|not_followed|timed_out|refused|expired|line_down|interrupted
    Column("read_back_relay", String),
    Column("read_back_at", Instant),
    Index("ix_commands_circuit_id_recorded_at", "circuit_id", "recorded_at"),
)

# A commit that can change a wanted state leaves one in the same transaction; the gateway takes it.
intents = Table(
    "intents",
    metadata,
    Column("intent_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("cause", String, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("handled_at", Instant),
    sa.Index(
        "ix_intents_unhandled",
        "intent_id",
        sqlite_where=sa.text("handled_at IS NULL"),
        postgresql_where=sa.text("handled_at IS NULL"),
    ),
)

# Every change of a supply state with its cause, actor and evidence (invariant 26).
state_changes = Table(
    "state_changes",
    metadata,
    Column("state_change_id", SerialId, primary_key=True, autoincrement=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("from_state", String, nullable=False),
    Column("to_state", String, nullable=False),
    Column("relay", String),
    Column("cause", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("evidence", Json, nullable=False),
    Index("ix_state_changes_circuit_id_changed_at", "circuit_id", "changed_at"),
)

# Cuts that wait for the breaker's approval (invariant 24); no hold.
pending_cuts = Table(
    "pending_cuts",
    metadata,
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("reason", String, primary_key=True),
    Column("since_at", Instant, nullable=False),
    Column("approved_at", Instant),
    Column("approved_by", String),
    Column("evidence", Json, nullable=False),
    Column("refused_at", Instant),
    Column("refused_by", String),
    Column("refusal", String),  # why
)

alarms = Table(
    "alarms",
    metadata,
    Column("alarm_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("priority", String, nullable=False),  # critical|high|medium|low
    Column("subject_kind", String, nullable=False),  # circuit|module|line|feeder|building|site
    Column("subject_id", String, nullable=False),
    Column("circuit_id", String),
    Column("module_id", String),
    Column("line_id", String),
    Column("building", String),
    Column("raised_at", Instant, nullable=False),
    Column("cleared_at", Instant),
    Column("acknowledged_at", Instant),
    Column("acknowledged_by", String),
    Column("shelved_until_at", Instant),  # put aside until then; the condition is watched all the same
    Column("shelved_by", String),
    Column(
        "folded_into", String
    ),  # the alarm of a larger subject that tells of its condition since it was cleared
    Column("detail", Json, nullable=False),
    sa.Index(
        "uq_alarms_active",
        "kind",
        "subject_kind",
        "subject_id",
        unique=True,
        sqlite_where=sa.text("cleared_at IS NULL"),
        postgresql_where=sa.text("cleared_at IS NULL"),
    ),
    Index("ix_alarms_raised_at", "raised_at"),
)

# What rules in shadow would have told: no alarm, nobody was told.
shadow_alarms = Table(
    "shadow_alarms",
    metadata,
    Column("shadow_alarm_id", String, primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant),
    Column("evidence", Json, nullable=False),
    sa.Index(
        "uq_shadow_alarms_standing",
        "circuit_id",
        "kind",
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    ),
    Index("ix_shadow_alarms_from_at", "from_at"),
)

# Who did what with an alarm, and when.
alarm_steps = Table(
    "alarm_steps",
    metadata,
    Column("alarm_step_id", SerialId, primary_key=True, autoincrement=True),
    Column("alarm_id", ForeignKey("alarms.alarm_id"), nullable=False, index=True),
    Column("step", String, nullable=False),  # raised|cleared|acknowledged|shelved|unshelved
    Column("stepped_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("detail", Json, nullable=False),
)
