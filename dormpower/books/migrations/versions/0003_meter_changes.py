"""Replacements and commissionings of modules on record."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meter_changes",
        sa.Column(
            "meter_change_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("module_id", sa.String(), nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("final_register_wh", sa.BigInteger(), nullable=True),
        sa.Column("first_register_wh", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("refusal", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_meter_changes_circuit_id")
        ),
        sa.PrimaryKeyConstraint("meter_change_id", name=op.f("pk_meter_changes")),
    )
    op.create_index(op.f("ix_meter_changes_circuit_id"), "meter_changes", ["circuit_id"], unique=False)
    op.create_index(
        "uq_meter_changes_waiting",
        "meter_changes",
        ["circuit_id"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
