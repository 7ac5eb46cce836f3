"""The tables, the engine, and sessions that live and die with their request's transaction."""

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, engine_from_config, event
from sqlalchemy.engine import Dialect, ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, sessionmaker
from zope.sqlalchemy import ZopeTransactionEvents

from ..errors import (
    ConfigurationError,
    DatabaseAway,
    DatabaseBusy,
    DatabaseConflict,
    DatabaseError,
    DatabaseFull,
    DatabaseRefused,
)
from ..settings import read_setting
from .answered import AnsweredRow
from .claim import ClaimRow
from .image import ImageRow, PropertyRow
from .location import LocationRow
from .member import MemberRow
from .meta import Base
from .owner import OwnerRow
from .store import StoreRow
from .token import TokenRow

__all__ = [
    "AnsweredRow",
    "Base",
    "ClaimRow",
    "ImageRow",
    "LocationRow",
    "MemberRow",
    "OwnerRow",
    "PropertyRow",
    "StoreRow",
    "TokenRow",
    "make_engine",
    "make_session_factory",
]

log = logging.getLogger(__name__)

SQLITE_BUSY_SECONDS = 15

# Error codes of MariaDB: https://mariadb.com/kb/en/mariadb-error-codes/
_MARIADB_BUSY = (1040, 1205)  # too many connections, lock wait timeout
_MARIADB_CONFLICT = (1213,)  # deadlock, also with what another node of a Galera cluster has committed
_MARIADB_FULL = (1021, 1114)
# Outside its Galera cluster; shutdown; trouble in COMMIT; read-only; killed; and what the client library says.
_MARIADB_AWAY = (0, 1047, 1053, 1180, 1290, 1927, *range(2000, 3000))
# SQLSTATE of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL_BUSY = ("53300", "55P03")
_POSTGRESQL_CONFLICT = ("40001", "40P01")  # PyMySQL gives the first to a deadlock, too
_POSTGRESQL_FULL = ("53100",)
# Read-only, as a standby is; shutdown, crash, starting up; and by their class those of connections, PgBouncer's too.
_POSTGRESQL_AWAY = ("25006", "57P01", "57P02", "57P03")
_POSTGRESQL_CONNECTION = "08"

# Of libpq, in seconds and milliseconds. Its own defaults wait a quarter of an hour for a machine that went away without
# a word, and that long no request would be answered.
_PATIENCE = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

# MariaDB's own default would let an UPDATE's WHERE see another snapshot than the SELECT before it.
_SERVER_DEFAULTS = {"sqlalchemy.pool_pre_ping": "true", "sqlalchemy.isolation_level": "READ COMMITTED"}


def make_engine(ini: Mapping[str, str]) -> Engine:
    """Make the engine of the ini's ``sqlalchemy.*`` keys; opens no connection.

    Raises ConfigurationError if the URL is missing or wrong.
    """
    if "sqlalchemy.url" not in ini:
        raise ConfigurationError("sqlalchemy.url is not set.")
    try:
        url = make_url(ini["sqlalchemy.url"])
    except (ArgumentError, ValueError):
        reason = "sqlalchemy.url is no URL of a database; in a password, special characters are percent-encoded"
        raise ConfigurationError(f"{reason} (@ is %40, and %%40 in an ini).") from None  # it quotes a part of it
    backend = url.get_backend_name()
    try:
        arguments = _arguments(ini, url)
        if backend == "sqlite":
            # SQLite itself makes but the file.
            Path(url.database or "").parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        defaults = {} if backend == "sqlite" else _SERVER_DEFAULTS
        engine = engine_from_config({**defaults, **ini}, connect_args=arguments)
    except ConfigurationError:
        raise
    except Exception as error:  # SQLAlchemy raises its own, ImportError and ValueError here
        raise ConfigurationError(f"sqlalchemy.url, or another sqlalchemy.* setting: {error}") from error
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "handle_error", _translate, retval=True)
    if backend in ("mysql", "mariadb"):
        event.listen(engine, "connect", _await_cluster)
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "checkin", _roll_back)
    return engine


def _arguments(ini: Mapping[str, str], url: URL) -> dict[str, object]:
    """Return what the driver is told beside the URL."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": SQLITE_BUSY_SECONDS}
    if url.get_driver_name() != "psycopg":
        return {}
    arguments: dict[str, object] = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    if not read_setting(ini, "database_prepared_statements"):
        arguments["prepare_threshold"] = None  # calls, after which it prepares
    return arguments


def _connect(dialect: Dialect, record: object, arguments: list[Any], parameters: dict[str, Any]) -> DBAPIConnection:
    if dialect.name == "sqlite" and Path(arguments[0]).is_absolute():  # else it lies in memory
        _make_private(Path(arguments[0]).resolve())
    try:
        return dialect.connect(*arguments, **parameters)
    # Drivers read what follows "?" in the URL only now: psycopg raises its own error, PyMySQL whatever comes.
    except (AttributeError, OSError, TypeError, dialect.loaded_dbapi.ProgrammingError) as error:
        raise ConfigurationError(f"sqlalchemy.url: the database's driver refuses it: {str(error).strip()}.") from error


def _make_private(path: Path) -> None:
    """Let nobody else read an SQLite database, or stop its writes by a lock on its index.

    SQLite makes the two other files with the mode of the first, whatever the umask. One that is there is not opened:
    to close it would let go of all the locks on it that this process holds.
    """
    with contextlib.suppress(OSError):  # which is SQLite's to tell; most often, the file is there
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):
            mode = each.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                _tighten(each)


def _tighten(path: Path) -> None:
    try:
        path.chmod(0o600)
    except OSError as error:
        log.warning("Others can read %s: %s", path, error.strerror)


def _await_cluster(connection: DBAPIConnection, record: object) -> None:
    """Let each transaction on a node of a Galera cluster see what was committed on any other one before it began.

    Otherwise a client would miss, for a moment, the image that it has just added through another node.
    """
    cursor = connection.cursor()
    cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")  # which other servers do not have
    if [value for _, value in cursor.fetchall()] == ["ON"]:
        cursor.execute("SET SESSION wsrep_sync_wait = 7")  # before SELECT, UPDATE and DELETE, INSERT
    cursor.close()


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # FULL: under WAL, NORMAL could lose an acknowledged upload in a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _roll_back(connection: sqlite3.Connection | None, record: object) -> None:
    # After a COMMIT that failed, SQLAlchemy takes the transaction for ended while SQLite still holds it open:
    # the next user of the connection would commit the failed rows.
    if connection is not None:
        connection.rollback()


def _translate(context: ExceptionContext) -> BaseException | None:
    """Turn a driver's error into one of ours; the driver's words stay out of answers, and in the log as its cause.

    IntegrityError stays: whoever inserted knows what it means. What SQLAlchemy itself looks at stays too: the pool at a
    lost connection that it replaces, the dialect at the ProgrammingError of a table that MariaDB does not have.
    """
    error, kind = context.original_exception, context.sqlalchemy_exception
    if context.is_pre_ping or not isinstance(kind, DBAPIError) or isinstance(kind, IntegrityError | ProgrammingError):
        return None
    if isinstance(error, sqlite3.Error):
        return _meaning_of_sqlite(error)
    state, code = getattr(error, "sqlstate", None), error.args[0] if error.args else None
    if state in _POSTGRESQL_CONFLICT or code in _MARIADB_CONFLICT:
        return DatabaseConflict("The database is busy.")
    if state in _POSTGRESQL_BUSY or code in _MARIADB_BUSY:
        return DatabaseBusy("The database is busy.")
    if state in _POSTGRESQL_FULL or code in _MARIADB_FULL:
        return DatabaseFull("The database is full.")
    no_answer = isinstance(kind, OperationalError | InterfaceError) and state is None and not isinstance(code, int)
    if context.is_disconnect or _is_away(state, code) or no_answer:
        # What else is in the pool is given up: the next connection may find the right server.
        context.is_disconnect = True
        return DatabaseAway("The database cannot be reached.")
    return DatabaseError("The database refused a statement.")  # at a COMMIT, nobody knows what became of it


def _is_away(state: str | None, code: object) -> bool:
    """Say whether the server answered that it does not work, or is not the one that takes changes."""
    if isinstance(code, int):
        return code in _MARIADB_AWAY
    return state is not None and (state in _POSTGRESQL_AWAY or state.startswith(_POSTGRESQL_CONNECTION))


def _meaning_of_sqlite(error: sqlite3.Error) -> DatabaseError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusy("The database is busy.")
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):  # the second: no room for the WAL's index
        return DatabaseFull("The database is full.")
    if name.startswith("SQLITE_CANTOPEN"):
        return DatabaseAway("The database cannot be opened.")
    return DatabaseRefused("The database refused a statement.")


def make_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Make the factory of sessions that join the transaction manager in their ``info["tm"]``.

    ``zope.sqlalchemy.register`` takes one fixed manager, and registering each session anew costs a seventh of a
    small request; the same listeners on the factory find the manager through the session.
    """
    factory = sessionmaker(engine, expire_on_commit=False, autoflush=False)
    event.listen(factory, "after_begin", lambda session, *rest: _events(session).after_begin(session, *rest))
    event.listen(factory, "after_flush", lambda session, *rest: _events(session).after_flush(session, *rest))
    event.listen(factory, "before_commit", lambda session: _events(session).before_commit(session))
    event.listen(factory, "do_orm_execute", lambda state: _events(state.session).do_orm_execute(state))
    return factory


def _events(session: Session) -> ZopeTransactionEvents:
    return ZopeTransactionEvents(transaction_manager=session.info["tm"])
