"""An answer keeps the dose it was steered with; None for answers from before, and for unsteered ones."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answer", sa.Column("dose", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("answer", "dose")
