"""One alarm for a building whose relays were found open together."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("holds", sa.Column("alarm_id", sa.String(), nullable=True))
    op.create_index("ix_holds_alarm_id_released_at", "holds", ["alarm_id", "released_at"], unique=False)
    op.add_column("alarms", sa.Column("folded_into", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
