"""What Alembic runs: the migrations, on the connection that `medx_core.storage.engine` hands over."""

from alembic import context

from medx_core.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
