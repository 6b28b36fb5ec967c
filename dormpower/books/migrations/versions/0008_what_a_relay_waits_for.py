"""What a relay that is not as wanted waits for, and the feeder that has no room for it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("control_points", sa.Column("waits_for", sa.String(), nullable=True))
    op.add_column("control_points", sa.Column("waits_for_feeder_id", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
