"""A job keeps the recipe that it began with; those from before have none, and go on by the one in use."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("recipe", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "recipe")
