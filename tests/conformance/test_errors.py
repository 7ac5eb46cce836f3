"""What the errors of each database mean to us."""

import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, insert, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError, StatementError

from conftest import Installation
from pyrimage.catalogue.testing.catalogue import at_once, kinds_of
from pyrimage.errors import (
    ConfigurationError,
    DatabaseAway,
    DatabaseBusy,
    DatabaseConflict,
    DatabaseError,
    DatabaseFull,
    DatabaseRefused,
)
from pyrimage.models import OwnerRow, make_engine
from servers import databases

ON_SQLITE = pytest.mark.parametrize("shared_installation", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("shared_installation", ["postgresql"], indirect=True)
ON_MARIADB = pytest.mark.parametrize("shared_installation", ["mariadb"], indirect=True)
ON_SERVERS = pytest.mark.parametrize("shared_installation", ["postgresql", "mariadb"], indirect=True)


@pytest.fixture
def engine(installation: Installation) -> Engine:
    return installation.engine


def raised_by(engine: Engine, statement: str) -> type[BaseException]:
    with engine.connect() as connection:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the question
            connection.execute(text(statement))
        # If this server does not work, the next connection may find another one.
        assert connection.invalidated == issubclass(caught.type, DatabaseAway)
    return caught.type


@ON_POSTGRESQL
@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("40001", DatabaseConflict),  # serialization failure
        ("40P01", DatabaseConflict),  # deadlock
        ("53300", DatabaseBusy),  # too many connections
        ("55P03", DatabaseBusy),  # lock timeout
        ("53100", DatabaseFull),  # disk full
        ("25006", DatabaseAway),  # read-only
        ("57P03", DatabaseAway),  # starting up
        ("08P01", DatabaseAway),  # a pooler's word for a server that is away
        ("22001", DatabaseError),  # too long for its column
        ("40003", DatabaseError),  # statement completion unknown
    ],
)
def test_a_state_of_postgresql_has_its_meaning(engine: Engine, state: str, meaning: type[DatabaseError]) -> None:
    assert raised_by(engine, f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$") is meaning


@ON_MARIADB
@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (1040, DatabaseBusy),  # too many connections
        (1205, DatabaseBusy),  # lock wait timeout
        (1213, DatabaseConflict),  # deadlock
        (1021, DatabaseFull),  # disk full
        (1114, DatabaseFull),  # table full
        (1047, DatabaseAway),  # no part of its cluster
        (1053, DatabaseAway),  # shutdown
        (1180, DatabaseAway),  # left its cluster in COMMIT
        (1290, DatabaseAway),  # read-only
        (1927, DatabaseAway),  # killed
        (1406, DatabaseError),  # too long for its column
    ],
)
def test_a_code_of_mariadb_has_its_meaning(engine: Engine, code: int, meaning: type[DatabaseError]) -> None:
    assert raised_by(engine, f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}") is meaning


@ON_SQLITE
def test_a_full_sqlite_is_full(engine: Engine) -> None:
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DatabaseFull):
            connection.execute(insert(OwnerRow).values(id="x" * 1_000_000))
        connection.invalidate()  # the limit ends with the connection


@ON_SQLITE
def test_a_statement_that_sqlite_does_not_understand_is_refused(engine: Engine) -> None:
    assert raised_by(engine, "SELECT * FROM nothing") is DatabaseRefused


@ON_SERVERS
def test_a_statement_about_a_table_that_is_not_there_is_left_to_sqlalchemy(engine: Engine) -> None:
    assert raised_by(engine, "SELECT * FROM nothing") is ProgrammingError


def test_a_double_key_is_left_to_whoever_inserted_it(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(OwnerRow).values(id="a"))
        with pytest.raises(IntegrityError):
            connection.execute(insert(OwnerRow).values(id="a"))


def test_a_fault_of_ours_is_none_of_the_database(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(StatementError, match="value is required"):
        connection.execute(text("SELECT :value"), {"other": 1})


@ON_POSTGRESQL
def test_connections_to_a_server_that_became_read_only_are_replaced(engine: Engine) -> None:
    own = make_engine({"sqlalchemy.url": engine.url.render_as_string(hide_password=False)})  # of one connection
    with own.begin() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with own.connect() as connection, pytest.raises(DatabaseAway):
        connection.execute(insert(OwnerRow).values(id="a"))
    with own.begin() as connection:
        connection.execute(insert(OwnerRow).values(id="a"))
    own.dispose()


@ON_POSTGRESQL
def test_a_text_that_postgresql_cannot_hold_is_refused(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(DatabaseError):
        connection.execute(insert(OwnerRow).values(id="\0"))


@pytest.mark.parametrize("kind", databases.KINDS)
def test_a_database_that_is_away_is_away(kind: str, tmp_path: Path) -> None:
    engine = make_engine({"sqlalchemy.url": databases.unreachable_url(kind, tmp_path)})
    with pytest.raises(DatabaseAway):
        engine.connect()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg://u:s3cret@127.0.0.1:1/d?timeuot=7", 'invalid connection option "timeuot"'),
        ("mysql+pymysql://u:s3cret@127.0.0.1:1/d?timeuot=7", "unexpected keyword argument 'timeuot'"),
        ("mysql+pymysql://u:s3cret@127.0.0.1:1/d?charset=nonesuch", "refuses it"),
        ("mysql+pymysql://u:s3cret@127.0.0.1:1/d?ssl_ca=/nonesuch", "No such file"),
    ],
)
def test_an_option_that_the_driver_does_not_know_is_a_fault_of_the_url(url: str, reason: str) -> None:
    engine = make_engine({"sqlalchemy.url": url})
    with pytest.raises(ConfigurationError, match=reason) as raised:
        engine.connect()
    assert "s3cret" not in str(raised.value)


def test_what_the_driver_is_told_by_a_setting_of_ours_is_checked() -> None:
    ini = {"sqlalchemy.url": "postgresql+psycopg://127.0.0.1/d", "pyrimage.database_prepared_statements": "maybe"}
    with pytest.raises(ConfigurationError, match="database_prepared_statements = maybe: use true"):
        make_engine(ini)


@ON_POSTGRESQL
@pytest.mark.parametrize(("option", "milliseconds"), [({}, 15_000), ({"tcp_user_timeout": "7000"}, 7000)], ids=repr)
def test_a_server_that_went_away_without_a_word_is_not_waited_for(
    engine: Engine, option: dict[str, str], milliseconds: int
) -> None:
    url = engine.url.update_query_dict(option).render_as_string(hide_password=False)
    own = make_engine({"sqlalchemy.url": url})
    with own.connect() as connection:
        number = connection.connection.driver_connection.pgconn.socket  # type: ignore[union-attr]
        with socket.socket(fileno=os.dup(number)) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    own.dispose()


@ON_MARIADB
def test_no_answer_within_the_time_that_the_url_says_is_none(engine: Engine) -> None:
    own = make_engine({"sqlalchemy.url": f"{engine.url.render_as_string(hide_password=False)}&read_timeout=1"})
    with own.connect() as connection, pytest.raises(DatabaseAway):
        connection.execute(text("SELECT SLEEP(60)"))
    own.dispose()


@ON_SERVERS
def test_a_session_that_was_cut_is_away_and_its_engine_goes_on(engine: Engine) -> None:
    with engine.connect() as connection:
        databases.cut_sessions(engine.url.render_as_string(hide_password=False))
        with pytest.raises(DatabaseAway):
            connection.execute(text("SELECT 1"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def rename(connection: Connection, owner: str) -> None:
    connection.execute(update(OwnerRow).where(OwnerRow.id == owner).values(id=f"{owner}'"))


@ON_SERVERS
def test_of_two_that_wait_for_each_other_one_is_told_that_the_other_came_first(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(OwnerRow), [{"id": "a"}, {"id": "b"}])
    with engine.connect() as first, engine.connect() as second:
        if engine.dialect.name == "postgresql":
            for connection in (first, second):
                connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        rename(first, "a")
        rename(second, "b")

        def go_on(connection: Connection, owner: str) -> None:
            rename(connection, owner)
            connection.commit()

        assert kinds_of(at_once(lambda: go_on(first, "b"), lambda: go_on(second, "a"))) == [
            "DatabaseConflict",
            "NoneType",
        ]


@ON_POSTGRESQL
def test_a_snapshot_is_too_old_to_write_in_if_another_one_did(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(OwnerRow).values(id="a"))
    with engine.connect() as late, engine.begin() as early:
        late.execution_options(isolation_level="REPEATABLE READ").execute(text("SELECT 1"))
        rename(early, "a")
        early.commit()
        with pytest.raises(DatabaseConflict):
            rename(late, "a")


@ON_SERVERS
def test_a_statement_sees_what_was_committed_before_it(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"
