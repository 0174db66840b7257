"""Alembic's entry: runs on the connection of `doppel.archive.database`, or on `sqlalchemy.url` for development."""

from alembic import context
from sqlalchemy import Connection, create_engine

from doppel.archive.tables import metadata


def run(connection: Connection) -> None:
    """Migrate within the transaction of `connection`."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(str(context.config.get_main_option("sqlalchemy.url"))).begin() as opened:
        run(opened)
