"""Fresh databases on real servers: SQLite, PostgreSQL and MariaDB.

Creating a database takes up to 0.3 s and migrating it longer, emptying one a few milliseconds. So most tests share
one database per run and kind::

    @pytest.fixture(scope="session", params=databases.KINDS)
    def migrated_url(request, tmp_path_factory):
        with databases.fresh_database(request.param, tmp_path_factory.mktemp("database")) as url:
            migrate(url)
            yield url

    @pytest.fixture
    def database_url(migrated_url):
        databases.empty_database(migrated_url)
        return migrated_url
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from sqlalchemy import URL, Connection, NullPool, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from servers.machine import unavailable

KINDS = ("sqlite", "postgresql", "mariadb")

VARIABLES = {"postgresql": "PYRIMAGE_TEST_POSTGRESQL", "mariadb": "PYRIMAGE_TEST_MARIADB"}

DEFAULTS = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "mariadb": "mysql+pymysql://root@127.0.0.1:3306/?charset=utf8mb4",
}

# Text compares byte by byte, on servers of whatever locale.
CREATE = {
    "postgresql": "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    "mariadb": "CREATE DATABASE {} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
}

DROP = {
    "postgresql": "DROP DATABASE {} WITH (FORCE)",  # open connections or not
    "mariadb": "DROP DATABASE {}",
}

# Rows then go in any order; and a transaction that a test left open is an error after some seconds, not a hang.
BEFORE_EMPTYING = {
    "sqlite": ["PRAGMA foreign_keys = OFF", "PRAGMA busy_timeout = 5000"],
    "postgresql": ["SET session_replication_role = replica", "SET lock_timeout = '5s'"],
    "mysql": ["SET foreign_key_checks = 0", "SET innodb_lock_wait_timeout = 5", "SET lock_wait_timeout = 5"],
}


@contextmanager
def fresh_database(kind: str, directory: Path) -> Iterator[str]:
    """Make an empty database, give its SQLAlchemy URL, and drop it afterwards.

    ``kind`` is one of KINDS; ``directory`` takes the file of an SQLite database. Skips the test if the server is not
    there, and fails it where the environment sets CI. An SQLite file is left to whoever removes ``directory``.
    """
    name = f"pyrimage_test_{os.getpid()}_{secrets.token_hex(4)}"
    if kind == "sqlite":
        yield str(URL.create("sqlite", database=str(directory / f"{name}.db")))
        return
    require(kind)
    _administer(kind, CREATE[kind].format(name))
    try:
        yield _server(kind).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(kind, DROP[kind].format(name))


def empty_database(url: str) -> None:
    """Delete all rows but the schema's version."""
    with _connect(make_url(url)) as connection:
        for statement in BEFORE_EMPTYING[connection.dialect.name]:
            connection.execute(text(statement))
        quote = connection.dialect.identifier_preparer.quote
        for table in inspect(connection).get_table_names():
            if table != "alembic_version":
                connection.execute(text(f"DELETE FROM {quote(table)}"))


def require(kind: str) -> None:
    """Skip the running test, or fail it in CI, unless the server is there."""
    if reason := _unavailable(kind):
        unavailable(f"no {kind} server, see {VARIABLES[kind]}: {reason}")


@cache
def _unavailable(kind: str) -> str:
    """Say why the server cannot be used; an empty text if it can."""
    try:
        _administer(kind, "SELECT 1")
    except (DBAPIError, ImportError) as error:
        return str(error).partition("\n")[0]
    return ""


def _administer(kind: str, statement: str) -> None:
    with _connect(_server(kind)) as connection:
        connection.execute(text(statement))


def _server(kind: str) -> URL:
    return make_url(os.environ.get(VARIABLES[kind]) or DEFAULTS[kind])


@contextmanager
def _connect(url: URL) -> Iterator[Connection]:
    timeout = {"timeout": 5} if url.get_backend_name() == "sqlite" else {"connect_timeout": 5}
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=timeout)
    with engine.connect() as connection:
        yield connection


def unreachable_url(kind: str, directory: Path) -> str:
    """Give the URL of a database that is away; needs no server."""
    if kind == "sqlite":
        return f"sqlite:///{directory}"  # a directory, which is not opened as a file
    backend = make_url(DEFAULTS[kind]).set(port=1, database="away")
    return backend.render_as_string(hide_password=False)


def cut_sessions(url: str) -> None:
    """End every session of a database on a server, as its restart would; return when they are over."""
    database, kind = make_url(url).database, "mariadb" if make_url(url).get_backend_name() == "mysql" else "postgresql"
    sessions = text("SELECT id FROM information_schema.processlist WHERE db = :name")
    terminate = text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name")
    with _connect(_server(kind)) as connection:
        if kind == "postgresql":
            connection.execute(terminate, {"name": database})
            return
        while ids := connection.scalars(sessions, {"name": database}).all():
            for session in ids:
                with suppress(DBAPIError):  # it was over already
                    connection.execute(text(f"KILL {session}"))
