"""Evaluations travel through the outbox like questions, and are held by leases with a fence.

A run that waited when this was applied counts as sent and lost, so the publisher sends it; one that was running counts
as left by its worker.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # The run table first: SQLite makes a changed table anew, and emptying one would empty what refers to it.
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
        run.add_column(sa.Column("lease_until", MOMENT, nullable=True))
        run.add_column(sa.Column("sent_at", MOMENT, nullable=True))
        run.add_column(sa.Column("items", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE run SET lease_until = heartbeat_at WHERE status = 'running'")
    op.execute("UPDATE run SET sent_at = created_at WHERE status = 'queued'")
    with op.batch_alter_table("run") as run:
        run.drop_column("heartbeat_at")
    with op.batch_alter_table("outbox") as outbox:
        outbox.alter_column("job_id", existing_type=sa.Integer(), nullable=True)
        outbox.add_column(sa.Column("run_id", sa.Integer(), nullable=True))
        outbox.create_foreign_key("fk_outbox_run_id", "run", ["run_id"], ["id"], ondelete="CASCADE")
        outbox.create_index("ix_outbox_run_id", ["run_id"], unique=False)


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE job_id IS NULL")
    with op.batch_alter_table("outbox") as outbox:
        outbox.drop_index("ix_outbox_run_id")
        outbox.drop_constraint("fk_outbox_run_id", type_="foreignkey")
        outbox.drop_column("run_id")
        outbox.alter_column("job_id", existing_type=sa.Integer(), nullable=False)
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("heartbeat_at", MOMENT, nullable=True))
    op.execute("UPDATE run SET heartbeat_at = lease_until")
    with op.batch_alter_table("run") as run:
        for name in ("items", "sent_at", "lease_until", "fence"):
            run.drop_column(name)
