"""A job may be an exploration: vectors tried on one question; its texts have signs of damage. No job from before is one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("exploration", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("answer", sa.Column("perplexity", sa.Float(), nullable=True))
    op.add_column("answer", sa.Column("repetition", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("answer", "repetition")
    op.drop_column("answer", "perplexity")
    op.drop_column("job", "exploration")
