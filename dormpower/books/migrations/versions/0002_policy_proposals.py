"""Changes of policies while the site runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policy_proposals",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("section", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("dry_run_asked_at", sa.BigInteger(), nullable=True),
        sa.Column("dry_run_at", sa.BigInteger(), nullable=True),
        sa.Column("dry_run", sa.JSON(), nullable=True),
        sa.Column("dry_run_valid_until_at", sa.BigInteger(), nullable=True),
        sa.Column("refusal", sa.JSON(), nullable=True),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("take_over_until_at", sa.BigInteger(), nullable=True),
        sa.Column("file_fingerprint", sa.String(), nullable=True),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_policy_proposals")),
    )
    op.create_index("ix_policy_proposals_state", "policy_proposals", ["state"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
