"""What rules in shadow would have told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shadow_alarms",
        sa.Column("shadow_alarm_id", sa.String(), nullable=False),
        sa.Column("circuit_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["circuit_id"], ["circuits.circuit_id"], name=op.f("fk_shadow_alarms_circuit_id")
        ),
        sa.PrimaryKeyConstraint("shadow_alarm_id", name=op.f("pk_shadow_alarms")),
    )
    op.create_index("ix_shadow_alarms_from_at", "shadow_alarms", ["from_at"], unique=False)
    op.create_index(
        "uq_shadow_alarms_standing",
        "shadow_alarms",
        ["circuit_id", "kind"],
        unique=True,
        sqlite_where=sa.text("to_at IS NULL"),
        postgresql_where=sa.text("to_at IS NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
