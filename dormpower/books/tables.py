"""The books' tables. One place for the schema; the migrations under `migrations/` bring a database to it.

Conventions: instants are `Instant` (UTC milliseconds) and end in `_at`; campus days are `Date` and end in
`_on`; energy is `_wh`, money `_fen`, both BIGINT. `transactions`, `postings`, `lot_moves` and `audit_log` are
append-only: the database refuses changes by trigger (invariant 3, 38; see `immutability.py`).
"""

import sqlalchemy as sa
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from dormpower.books.types import Instant

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# BIGINT keys that SQLite can still auto-increment.
SerialId = sa.BigInteger().with_variant(Integer, "sqlite")
Amount = sa.BigInteger
Json = sa.JSON


# --- the site as the books know it (written by books.sites) ------------------------------------------------

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

# --- metering (books.meters) -------------------------------------------------------------------------------

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

# --- accounts and journal (books.accounts, books.journal) --------------------------------------------------

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", String, primary_key=True),
    Column("unit", String, nullable=False, server_default="wh"),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant),
)

# Whole campus days [from_on, to_on).
account_links = Table(
    "account_links",
    metadata,
    Column("account_id", ForeignKey("accounts.account_id"), primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("from_on", Date, primary_key=True),
    Column("to_on", Date),
    Index("ix_account_links_circuit_id", "circuit_id"),
)

# "wh:account:{account_id}", "wh:issued", "wh:consumed", "fen:channel:{channel}", "fen:prepaid", "fen:sales" …
ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("ledger_account_id", String, primary_key=True),
    Column("unit", String, nullable=False),
    Column("balance", Amount, nullable=False, server_default="0"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("transaction_id", String, primary_key=True),
    Column("sequence", SerialId, nullable=False, unique=True),  # order of commit; taken under the write lock
    Column("source", String, nullable=False),
    Column("idempotency_key", String, nullable=False),
    Column("content_sha256", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("posted_at", Instant, nullable=False),
    Column("account_id", ForeignKey("accounts.account_id")),
    Column("circuit_id", ForeignKey("circuits.circuit_id")),
    Column("used_on", Date),
    Column("amount_fen", Amount, nullable=False, server_default="0"),
    Column("energy_wh", Amount, nullable=False, server_default="0"),
    Column("balance_after_wh", Amount),
    Column("price_millifen_per_kwh", Amount),
    Column("channel", String),
    Column("note", String),
    Column("actor", String, nullable=False),
    Column("reverses_id", ForeignKey("transactions.transaction_id"), unique=True),
    Column("answer", LargeBinary),  # the first answer, repeated byte for byte
    UniqueConstraint("source", "idempotency_key"),
    Index("ix_transactions_circuit_id_sequence", "circuit_id", "sequence"),
    Index("ix_transactions_account_id_sequence", "account_id", "sequence"),
)

postings = Table(
    "postings",
    metadata,
    Column("posting_id", SerialId, primary_key=True, autoincrement=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("ledger_account_id", ForeignKey("ledger_accounts.ledger_account_id"), nullable=False, index=True),
    Column("unit", String, nullable=False),
    Column("amount", Amount, nullable=False),
)

lots = Table(
    "lots",
    metadata,
    Column("lot_id", SerialId, primary_key=True, autoincrement=True),
    Column("account_id", ForeignKey("accounts.account_id"), nullable=False, index=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("origin", String, nullable=False),  # paid|granted
    # The recharge whose money this is, also after a transfer: its refunds never exceed it (invariant 9).
    Column("payment_id", ForeignKey("transactions.transaction_id"), index=True),
    Column("issued_at", Instant, nullable=False),
    Column("energy_wh", Amount, nullable=False),
    Column("cost_fen", Amount, nullable=False),
    Column("price_millifen_per_kwh", Amount),
    Column("expires_at", Instant),
    Column("remaining_wh", Amount, nullable=False),
    Column("remaining_fen", Amount, nullable=False),
    sa.CheckConstraint("remaining_wh BETWEEN 0 AND energy_wh", name="remaining_wh"),
    sa.CheckConstraint("remaining_fen BETWEEN 0 AND cost_fen", name="remaining_fen"),
)

# Every change of a lot after its issue: issued = used + remaining + refunded + expired + transferred
# (invariant 12; what was transferred is issued once more, in the other account).
lot_moves = Table(
    "lot_moves",
    metadata,
    Column("lot_move_id", SerialId, primary_key=True, autoincrement=True),
    Column("lot_id", ForeignKey("lots.lot_id"), nullable=False, index=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("cause", String, nullable=False),  # used|refunded|expired|transferred; negative when given back
    Column("energy_wh", Amount, nullable=False),
    Column("cost_fen", Amount, nullable=False),
)

# --- control (books.holds, books.commands, books.alarms, books.intents) -------------------------------------

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
    Column("subject_kind", String, nullable=False),  # circuit|module|line|feeder|site
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

# --- policies (books.policies, books.permits, books.reviews, books.silences) ----------------------------------

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

# --- feeders (books.feeders) ----------------------------------------------------------------------------------

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

# --- people (books.users) and the audit log (books.audit_log) -----------------------------------------------

users = Table(
    "users",
    metadata,
    Column("user_id", SerialId, primary_key=True, autoincrement=True),
    Column("username", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("password_hash", String),
    Column("demo", Boolean, nullable=False, server_default=sa.false()),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

residencies = Table(
    "residencies",
    metadata,
    Column("residency_id", SerialId, primary_key=True, autoincrement=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("room_id", ForeignKey("rooms.room_id"), nullable=False, index=True),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant),
)

# Sign-in sessions and bearer tokens: only the SHA-256 of the secret is kept. Real time.
sessions = Table(
    "sessions",
    metadata,
    Column("secret_sha256", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("csrf_token", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("secret_sha256", String, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
)

# From where a user has signed in before (addresses and devices, as digests): others' failed attempts must not
# lock a person out (invariant 37). Real time.
sign_in_origins = Table(
    "sign_in_origins",
    metadata,
    Column("origin_sha256", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("used_at", Instant, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", SerialId, primary_key=True, autoincrement=True),
    Column("written_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject_kind", String, nullable=False),
    Column("subject_id", String, nullable=False),
    Column("detail", Json, nullable=False),
)

# The sealer's chain over audit_log: each row's hash covers the one before.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("position", SerialId, primary_key=True, autoincrement=False),
    Column("audit_id", ForeignKey("audit_log.audit_id"), nullable=False, unique=True),
    Column("hash", String, nullable=False),
)

# --- processes ---------------------------------------------------------------------------------------------

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
