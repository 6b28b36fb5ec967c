"""What a recorded change of a meter was checked by."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("meter_changes", sa.Column("limits", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
