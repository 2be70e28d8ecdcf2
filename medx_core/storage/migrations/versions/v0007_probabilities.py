"""An answer keeps the probability of TRUE where its recipe's calibration gives one; no answer from before has one."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answer", sa.Column("probability", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("answer", "probability")
