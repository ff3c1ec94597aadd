"""What alembic runs: with the connection that ``attune.database.prepare`` hands over, or on its own.

On its own: ``alembic -c attune/migrations/alembic.ini upgrade head`` (also ``current``, ``history``, ``--sql``)
against ``ATTUNE_DATABASE_URL``, or the database of the default settings.
"""

from alembic import context
from sqlalchemy import Connection

from attune.database import Database, checked_url
from attune.settings import Settings
from attune.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = Settings().log_url
    if context.is_offline_mode():
        context.configure(url=checked_url(url), target_metadata=metadata, literal_binds=True, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    database = Database(url, create=True)
    try:
        with database.migration() as connection:
            _migrate(connection)
    finally:
        database.close()


_run()
