"""Alembic's entry point. Runs on the connection that `dormpower.books.migration` hands over, never on a URL."""

from alembic import context

from dormpower.books.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
