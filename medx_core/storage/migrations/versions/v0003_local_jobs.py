"""A job may be local: answered by the command that submitted it, and by no worker. Two columns nothing filled go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without batch mode: SQLite would make `answer` anew, and dropping the old one would delete the ratings with it.
    op.add_column("job", sa.Column("local", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_column("answer", "calibrated")
    op.drop_column("answer", "detail")


def downgrade() -> None:
    op.add_column("answer", sa.Column("detail", sa.JSON(), nullable=True))
    op.add_column("answer", sa.Column("calibrated", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_column("job", "local")
