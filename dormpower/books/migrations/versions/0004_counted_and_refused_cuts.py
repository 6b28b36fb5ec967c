"""Which holds the breaker counted, and cuts that a person refused."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("holds", sa.Column("counted", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("pending_cuts", sa.Column("refused_at", sa.BigInteger(), nullable=True))
    op.add_column("pending_cuts", sa.Column("refused_by", sa.String(), nullable=True))
    op.add_column("pending_cuts", sa.Column("refusal", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
