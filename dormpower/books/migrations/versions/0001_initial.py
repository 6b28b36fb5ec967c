"""The first schema of the books."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:  # noqa: PLR0915 - one statement for each table and index
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), server_default="wh", nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "alarms",
        sa.Column("alarm_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("priority", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=True),
        sa.Column("module_id", sa.String(), nullable=True),
        sa.Column("line_id", sa.String(), nullable=True),
        sa.Column("building", sa.String(), nullable=True),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.Column("shelved_until_at", sa.BigInteger(), nullable=True),
        sa.Column("shelved_by", sa.String(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("alarm_id", name=op.f("pk_alarms")),
    )
    op.create_index("ix_alarms_raised_at", "alarms", ["raised_at"], unique=False)
    op.create_index(
        "uq_alarms_active",
        "alarms",
        ["kind", "subject_kind", "subject_id"],
        unique=True,
        sqlite_where=sa.text("cleared_at IS NULL"),
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "audit_log",
        sa.Column(
            "audit_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "emergency_proposals",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("campus", sa.String(), nullable=False),
        sa.Column("building", sa.String(), nullable=False),
        sa.Column("circuits", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_emergency_proposals")),
    )
    op.create_table(
        "events",
        sa.Column(
            "event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("happened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "feeder_states",
        sa.Column("feeder_id", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("limit_w", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("measured_w", sa.BigInteger(), nullable=True),
        sa.Column("expected_w", sa.BigInteger(), nullable=False),
        sa.Column("projected_w", sa.BigInteger(), nullable=False),
        sa.Column("reserved_w", sa.BigInteger(), nullable=False),
        sa.Column("circuits_off", sa.Integer(), nullable=False),
        sa.Column("sampled_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("feeder_id", name=op.f("pk_feeder_states")),
    )
    op.create_table(
        "jobs",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", "period", name=op.f("pk_jobs")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "ledger_accounts",
        sa.Column("ledger_account_id", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("ledger_account_id", name=op.f("pk_ledger_accounts")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "modules",
        sa.Column("module_id", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("line_id", sa.String(), nullable=True),
        sa.Column("unit", sa.Integer(), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("online_changed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("module_id", name=op.f("pk_modules")),
    )
    op.create_table(
        "outages",
        sa.Column("outage_id", sa.String(), nullable=False),
        sa.Column("campus", sa.String(), nullable=True),
        sa.Column("building", sa.String(), nullable=True),
        sa.Column("floor", sa.String(), nullable=True),
        sa.Column("room_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("announced_at", sa.BigInteger(), nullable=False),
        sa.Column("announced_by", sa.String(), nullable=False),
        sa.Column("called_off_at", sa.BigInteger(), nullable=True),
        sa.Column("called_off_by", sa.String(), nullable=True),
        sa.Column("call_off_note", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("outage_id", name=op.f("pk_outages")),
    )
    op.create_index("ix_outages_to_at", "outages", ["to_at"], unique=False)
    op.create_table(
        "policy_versions",
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("described", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("rule", name=op.f("pk_policy_versions")),
    )
    op.create_table(
        "process_counters",
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("process", "name", name=op.f("pk_process_counters")),
    )
    op.create_table(
        "rooms",
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("campus", sa.String(), nullable=False),
        sa.Column("building", sa.String(), nullable=False),
        sa.Column("floor", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("rated_current_a", sa.Integer(), nullable=False),
        sa.Column("feeder", sa.String(), nullable=True),
        sa.Column("keep_supply", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("room_id", name=op.f("pk_rooms")),
    )
    op.create_index("ix_rooms_campus_building_floor", "rooms", ["campus", "building", "floor"], unique=False)
    op.create_table(
        "scoped_holds",
        sa.Column("scoped_hold_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("campus", sa.String(), nullable=True),
        sa.Column("building", sa.String(), nullable=True),
        sa.Column("floor", sa.String(), nullable=True),
        sa.Column("room_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("shadow", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("released_by", sa.String(), nullable=True),
        sa.Column("release_note", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("scoped_hold_id", name=op.f("pk_scoped_holds")),
    )
    op.create_table(
        "silences",
        sa.Column(
            "silence_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silences")),
    )
    op.create_index(
        "ix_silences_subject_id_from_at", "silences", ["subject_kind", "subject_id", "from_at"], unique=False
    )
    op.create_table(
        "users",
        sa.Column(
            "user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("demo", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
    )
    op.create_table(
        "alarm_steps",
        sa.Column(
            "alarm_step_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("alarm_id", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("stepped_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarms.alarm_id"], name=op.f("fk_alarm_steps_alarm_id")),
        sa.PrimaryKeyConstraint("alarm_step_id", name=op.f("pk_alarm_steps")),
    )
    op.create_index(op.f("ix_alarm_steps_alarm_id"), "alarm_steps", ["alarm_id"], unique=False)
    op.create_table(
        "audit_seals",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("audit_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audit_log.audit_id"], name=op.f("fk_audit_seals_audit_id")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("audit_id", name=op.f("uq_audit_seals_audit_id")),
    )
    op.create_table(
        "circuits",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.room_id"], name=op.f("fk_circuits_room_id")),
        sa.PrimaryKeyConstraint("circuit_id", name=op.f("pk_circuits")),
        sa.UniqueConstraint("room_id", "kind", name=op.f("uq_circuits_room_id_kind")),
    )
    op.create_index(op.f("ix_circuits_room_id"), "circuits", ["room_id"], unique=False)
    op.create_table(
        "permits",
        sa.Column("permit_id", sa.String(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("appliance", sa.String(), nullable=False),
        sa.Column("from_w", sa.Integer(), nullable=False),
        sa.Column("to_w", sa.Integer(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.room_id"], name=op.f("fk_permits_room_id")),
        sa.PrimaryKeyConstraint("permit_id", name=op.f("pk_permits")),
    )
    op.create_index(op.f("ix_permits_room_id"), "permits", ["room_id"], unique=False)
    op.create_table(
        "residencies",
        sa.Column(
            "residency_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.room_id"], name=op.f("fk_residencies_room_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_residencies_user_id")),
        sa.PrimaryKeyConstraint("residency_id", name=op.f("pk_residencies")),
    )
    op.create_index(op.f("ix_residencies_room_id"), "residencies", ["room_id"], unique=False)
    op.create_index(op.f("ix_residencies_user_id"), "residencies", ["user_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("csrf_token", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_sessions_user_id")),
        sa.PrimaryKeyConstraint("secret_sha256", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "sign_in_origins",
        sa.Column("origin_sha256", sa.String(), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_sign_in_origins_user_id")),
        sa.PrimaryKeyConstraint("origin_sha256", name=op.f("pk_sign_in_origins")),
    )
    op.create_index(op.f("ix_sign_in_origins_user_id"), "sign_in_origins", ["user_id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_tokens_user_id")),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)
    op.create_table(
        "account_links",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("to_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_account_links_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_account_links_circuit_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "circuit_id", "from_on", name=op.f("pk_account_links")),
    )
    op.create_index("ix_account_links_circuit_id", "account_links", ["circuit_id"], unique=False)
    op.create_table(
        "channel_spans",
        sa.Column(
            "span_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("module_id", sa.String(), nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.Column("first_register_wh", sa.BigInteger(), nullable=True),
        sa.Column("final_register_wh", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_channel_spans_circuit_id")
        ),
        sa.ForeignKeyConstraint(["module_id"], ["modules.module_id"], name=op.f("fk_channel_spans_module_id")),
        sa.PrimaryKeyConstraint("span_id", name=op.f("pk_channel_spans")),
    )
    op.create_index(op.f("ix_channel_spans_circuit_id"), "channel_spans", ["circuit_id"], unique=False)
    op.create_index(op.f("ix_channel_spans_module_id"), "channel_spans", ["module_id"], unique=False)
    op.create_index(
        "uq_channel_spans_current_channel",
        "channel_spans",
        ["module_id", "channel"],
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    )
    op.create_index(
        "uq_channel_spans_current_circuit",
        "channel_spans",
        ["circuit_id"],
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    )
    op.create_table(
        "commands",
        sa.Column("command_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("module_id", sa.String(), nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False),
        sa.Column("relay", sa.String(), nullable=False),
        sa.Column("cause", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("read_back_relay", sa.String(), nullable=True),
        sa.Column("read_back_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_commands_circuit_id")),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_commands")),
    )
    op.create_index(
        "ix_commands_circuit_id_recorded_at", "commands", ["circuit_id", "recorded_at"], unique=False
    )
    op.create_table(
        "control_points",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("control", sa.String(), server_default="settled", nullable=False),
        sa.Column("expected_change_at", sa.BigInteger(), nullable=True),
        sa.Column("commanded_relay", sa.String(), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("arrears_stage", sa.String(), nullable=True),
        sa.Column("arrears", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(), server_default="offline", nullable=False),
        sa.Column("state_since_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_control_points_circuit_id")
        ),
        sa.PrimaryKeyConstraint("circuit_id", name=op.f("pk_control_points")),
    )
    op.create_table(
        "day_changes",
        sa.Column(
            "change_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("used_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_day_changes_circuit_id")
        ),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_day_changes")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "disputes",
        sa.Column("dispute_id", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_disputes_circuit_id")),
        sa.PrimaryKeyConstraint("dispute_id", name=op.f("pk_disputes")),
        sa.UniqueConstraint(
            "subject_kind", "subject_id", "asked_by", name=op.f("uq_disputes_subject_kind_subject_id_asked_by")
        ),
    )
    op.create_index(op.f("ix_disputes_circuit_id"), "disputes", ["circuit_id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("hold_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), server_default="", nullable=False),
        sa.Column("scoped_hold_id", sa.String(), server_default="", nullable=False),
        sa.Column("shadow", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("expected_release_at", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_open_at", sa.BigInteger(), nullable=True),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("released_by", sa.String(), nullable=True),
        sa.Column("release_evidence", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_holds_circuit_id")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_circuit_id_placed_at", "holds", ["circuit_id", "placed_at"], unique=False)
    op.create_index(op.f("ix_holds_scoped_hold_id"), "holds", ["scoped_hold_id"], unique=False)
    op.create_index(
        "uq_holds_standing",
        "holds",
        ["circuit_id", "reason", "holder", "scoped_hold_id", "shadow"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "intents",
        sa.Column(
            "intent_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("handled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_intents_circuit_id")),
        sa.PrimaryKeyConstraint("intent_id", name=op.f("pk_intents")),
    )
    op.create_index(
        "ix_intents_unhandled",
        "intents",
        ["intent_id"],
        unique=False,
        sqlite_where=sa.text("handled_at IS NULL"),
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.create_table(
        "notices",
        sa.Column(
            "notice_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_notices_circuit_id")),
        sa.PrimaryKeyConstraint("notice_id", name=op.f("pk_notices")),
    )
    op.create_index(op.f("ix_notices_circuit_id"), "notices", ["circuit_id"], unique=False)
    op.create_table(
        "pending_cuts",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_pending_cuts_circuit_id")
        ),
        sa.PrimaryKeyConstraint("circuit_id", "reason", name=op.f("pk_pending_cuts")),
    )
    op.create_table(
        "reviews",
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("reviewed_by", sa.String(), nullable=False),
        sa.Column("reviewed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_reviews_circuit_id")),
        sa.PrimaryKeyConstraint("subject_kind", "subject_id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_circuit_id"), "reviews", ["circuit_id"], unique=False)
    op.create_table(
        "rule_memories",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_rule_memories_circuit_id")
        ),
        sa.PrimaryKeyConstraint("circuit_id", "rule", name=op.f("pk_rule_memories")),
    )
    op.create_table(
        "settled_days",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("used_on", sa.Date(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("postings", sa.Integer(), server_default="1", nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_settled_days_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_settled_days_circuit_id")
        ),
        sa.PrimaryKeyConstraint("circuit_id", "used_on", name=op.f("pk_settled_days")),
    )
    op.create_table(
        "shed_minutes",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("used_on", sa.Date(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("room_id", sa.String(), nullable=False),
        sa.Column("off_ms", sa.BigInteger(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_shed_minutes_circuit_id")
        ),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.room_id"], name=op.f("fk_shed_minutes_room_id")),
        sa.PrimaryKeyConstraint("circuit_id", "used_on", "shadow", name=op.f("pk_shed_minutes")),
    )
    op.create_index("ix_shed_minutes_room_id_used_on", "shed_minutes", ["room_id", "used_on"], unique=False)
    op.create_table(
        "shed_turns",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_shed_turns_circuit_id")),
        sa.PrimaryKeyConstraint("circuit_id", name=op.f("pk_shed_turns")),
    )
    op.create_table(
        "state_changes",
        sa.Column(
            "state_change_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.Column("relay", sa.String(), nullable=True),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_state_changes_circuit_id")
        ),
        sa.PrimaryKeyConstraint("state_change_id", name=op.f("pk_state_changes")),
    )
    op.create_index(
        "ix_state_changes_circuit_id_changed_at", "state_changes", ["circuit_id", "changed_at"], unique=False
    )
    op.create_table(
        "transactions",
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("posted_at", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=True),
        sa.Column("circuit_id", sa.String(), nullable=True),
        sa.Column("used_on", sa.Date(), nullable=True),
        sa.Column("amount_fen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("balance_after_wh", sa.BigInteger(), nullable=True),
        sa.Column("price_millifen_per_kwh", sa.BigInteger(), nullable=True),
        sa.Column("channel", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reverses_id", sa.String(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_transactions_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_transactions_circuit_id")
        ),
        sa.ForeignKeyConstraint(
            ["reverses_id"], ["transactions.transaction_id"], name=op.f("fk_transactions_reverses_id")
        ),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("reverses_id", name=op.f("uq_transactions_reverses_id")),
        sa.UniqueConstraint("sequence", name=op.f("uq_transactions_sequence")),
        sa.UniqueConstraint("source", "idempotency_key", name=op.f("uq_transactions_source_idempotency_key")),
    )
    op.create_index(
        "ix_transactions_account_id_sequence", "transactions", ["account_id", "sequence"], unique=False
    )
    op.create_index(
        "ix_transactions_circuit_id_sequence", "transactions", ["circuit_id", "sequence"], unique=False
    )
    op.create_table(
        "day_boundaries",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("span_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("boundary_at", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("before_at", sa.BigInteger(), nullable=False),
        sa.Column("before_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("before_metered_wh", sa.BigInteger(), nullable=False),
        sa.Column("after_at", sa.BigInteger(), nullable=False),
        sa.Column("after_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("after_metered_wh", sa.BigInteger(), nullable=False),
        sa.Column("register_wh", sa.BigInteger(), nullable=False),
        sa.Column("metered_wh", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_day_boundaries_circuit_id")
        ),
        sa.ForeignKeyConstraint(["span_id"], ["channel_spans.span_id"], name=op.f("fk_day_boundaries_span_id")),
        sa.PrimaryKeyConstraint("circuit_id", "begins_on", name=op.f("pk_day_boundaries")),
    )
    op.create_table(
        "lots",
        sa.Column(
            "lot_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("payment_id", sa.String(), nullable=True),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("cost_fen", sa.BigInteger(), nullable=False),
        sa.Column("price_millifen_per_kwh", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("remaining_wh", sa.BigInteger(), nullable=False),
        sa.Column("remaining_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("remaining_fen BETWEEN 0 AND cost_fen", name=op.f("ck_lots_remaining_fen")),
        sa.CheckConstraint("remaining_wh BETWEEN 0 AND energy_wh", name=op.f("ck_lots_remaining_wh")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_lots_account_id")),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["transactions.transaction_id"], name=op.f("fk_lots_payment_id")
        ),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_lots_transaction_id")
        ),
        sa.PrimaryKeyConstraint("lot_id", name=op.f("pk_lots")),
    )
    op.create_index(op.f("ix_lots_account_id"), "lots", ["account_id"], unique=False)
    op.create_index(op.f("ix_lots_payment_id"), "lots", ["payment_id"], unique=False)
    op.create_index(op.f("ix_lots_transaction_id"), "lots", ["transaction_id"], unique=False)
    op.create_table(
        "meter_points",
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("span_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("standing", sa.String(), server_default="commissioning", nullable=False),
        sa.Column("register_wh", sa.BigInteger(), nullable=True),
        sa.Column("register_at", sa.BigInteger(), nullable=True),
        sa.Column("metered_wh", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("settled_wh", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("segment_from_wh", sa.BigInteger(), nullable=True),
        sa.Column("segment_from_at", sa.BigInteger(), nullable=True),
        sa.Column("open_on", sa.Date(), nullable=True),
        sa.Column("joins", sa.String(), nullable=True),
        sa.Column("candidates", sa.JSON(), nullable=True),
        sa.Column("quarantined_at", sa.BigInteger(), nullable=True),
        sa.Column("suspect_register_wh", sa.BigInteger(), nullable=True),
        sa.Column("suspect_at", sa.BigInteger(), nullable=True),
        sa.Column("suspect_run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("relay", sa.String(), nullable=True),
        sa.Column("relay_at", sa.BigInteger(), nullable=True),
        sa.Column("power_w", sa.Float(), nullable=True),
        sa.Column("voltage_v", sa.Float(), nullable=True),
        sa.Column("current_a", sa.Float(), nullable=True),
        sa.Column("power_factor", sa.Float(), nullable=True),
        sa.Column("flags", sa.String(), server_default="", nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_meter_points_circuit_id")
        ),
        sa.ForeignKeyConstraint(["span_id"], ["channel_spans.span_id"], name=op.f("fk_meter_points_span_id")),
        sa.PrimaryKeyConstraint("circuit_id", name=op.f("pk_meter_points")),
    )
    op.create_table(
        "postings",
        sa.Column(
            "posting_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("ledger_account_id", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_accounts.ledger_account_id"],
            name=op.f("fk_postings_ledger_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_postings_transaction_id")
        ),
        sa.PrimaryKeyConstraint("posting_id", name=op.f("pk_postings")),
    )
    op.create_index(op.f("ix_postings_ledger_account_id"), "postings", ["ledger_account_id"], unique=False)
    op.create_index(op.f("ix_postings_transaction_id"), "postings", ["transaction_id"], unique=False)
    op.create_table(
        "quarantines",
        sa.Column(
            "quarantine_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("span_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.String(), nullable=True),
        sa.Column("estimate_wh", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_register_wh", sa.BigInteger(), nullable=True),
        sa.Column("decided_register_at", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_quarantines_circuit_id")
        ),
        sa.ForeignKeyConstraint(["span_id"], ["channel_spans.span_id"], name=op.f("fk_quarantines_span_id")),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantines")),
    )
    op.create_index(op.f("ix_quarantines_circuit_id"), "quarantines", ["circuit_id"], unique=False)
    op.create_index(
        "uq_quarantines_open",
        "quarantines",
        ["circuit_id"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "segments",
        sa.Column(
            "segment_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("span_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("used_on", sa.Date(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("from_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("to_register_wh", sa.BigInteger(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("estimated", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_segments_circuit_id")),
        sa.ForeignKeyConstraint(["span_id"], ["channel_spans.span_id"], name=op.f("fk_segments_span_id")),
        sa.PrimaryKeyConstraint("segment_id", name=op.f("pk_segments")),
    )
    op.create_index("ix_segments_circuit_id_used_on", "segments", ["circuit_id", "used_on"], unique=False)
    op.create_table(
        "lot_moves",
        sa.Column(
            "lot_move_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("lot_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("transaction_id", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("cost_fen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["lot_id"], ["lots.lot_id"], name=op.f("fk_lot_moves_lot_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.transaction_id"], name=op.f("fk_lot_moves_transaction_id")
        ),
        sa.PrimaryKeyConstraint("lot_move_id", name=op.f("pk_lot_moves")),
    )
    op.create_index(op.f("ix_lot_moves_lot_id"), "lot_moves", ["lot_id"], unique=False)
    op.create_index(op.f("ix_lot_moves_transaction_id"), "lot_moves", ["transaction_id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
