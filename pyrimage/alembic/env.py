"""Alembic's way to the database: a connection it was handed, or the ``[app:main]`` of ``alembic -c FILE.ini``."""

import contextlib
from collections.abc import Iterator

from alembic import context
from pyramid.paster import get_appsettings
from sqlalchemy import Connection

from pyrimage.errors import DatabaseBusy
from pyrimage.models import Base, make_engine

LOCK = {
    "sqlite": "BEGIN IMMEDIATE",  # the driver begins no transaction
    "postgresql": "SELECT pg_advisory_xact_lock(hashtext('pyrimage schema'))",
    "mysql": "SELECT GET_LOCK(CONCAT('pyrimage schema ', MD5(DATABASE())), 3600)",  # seconds to wait
}
UNLOCK = "SELECT RELEASE_LOCK(CONCAT('pyrimage schema ', MD5(DATABASE())))"


def run(connection: Connection) -> None:
    """Run the migrations on one connection, in one transaction (MariaDB has none for them)."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with _alone(connection), context.begin_transaction():
        context.run_migrations()


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Let processes that start at once bring the schema up to date one after the other."""
    kind = connection.dialect.name.replace("mariadb", "mysql")
    if kind in LOCK:
        got = connection.exec_driver_sql(LOCK[kind])
        if kind == "mysql" and got.scalar() != 1:
            raise DatabaseBusy("Another process has been bringing the schema up to date for an hour.")
    try:
        yield
        if kind == "mysql":  # before the lock is let go, or the next would read the revision of before
            connection.exec_driver_sql("COMMIT")
    finally:
        if kind == "mysql":  # the others' locks end with the transaction
            connection.exec_driver_sql(UNLOCK)


handed = context.config.attributes.get("connection")
if handed is not None:
    run(handed)
else:
    engine = make_engine(get_appsettings(context.config.config_file_name, name="main"))
    with engine.begin() as connection:
        run(connection)
    engine.dispose()
