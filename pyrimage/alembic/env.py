"""Alembic's way to the database: a connection it was handed, or the ``[app:main]`` of ``alembic -c FILE.ini``."""

from alembic import context
from pyramid.paster import get_appsettings
from sqlalchemy import Connection

from pyrimage.models import Base, make_engine


def run(connection: Connection) -> None:
    """Run the migrations on one connection, in one transaction (MariaDB has none for them)."""
    if connection.dialect.name == "sqlite":  # the driver begins none; it also lets servers that start at once queue
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


handed = context.config.attributes.get("connection")
if handed is not None:
    run(handed)
else:
    engine = make_engine(get_appsettings(context.config.config_file_name, name="main"))
    with engine.begin() as connection:
        run(connection)
    engine.dispose()
