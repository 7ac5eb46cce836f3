import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, QueuePool, event, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from conftest import ini_settings, install
from factories import error_of
from pyrimage.app import main
from pyrimage.errors import ConfigurationError
from pyrimage.models import Base, make_engine, migrations
from pyrimage.settings import STORE_NAME_LENGTH
from servers import databases

UPGRADE = """
import sys
from pyrimage.models import make_engine, migrations
engine = make_engine({"sqlalchemy.url": sys.argv[1]})
print("ready", flush=True)
sys.stdin.read()
migrations.upgrade(engine)
"""

NAMES = {
    "pk": r"pk_{table}",
    "fk": r"fk_{table}_\w+",
    "uq": r"uq_{table}_\w+",
    "ix": r"ix_{table}_\w+",
}


@pytest.fixture(scope="module", params=databases.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def database_url(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with databases.fresh_database(kind, tmp_path_factory.mktemp(kind)) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine of a database without a schema."""
    made = make_engine({"sqlalchemy.url": database_url})
    yield made
    drop_everything(made)
    made.dispose()


def drop_everything(engine: Engine) -> None:
    found = MetaData()
    found.reflect(engine)
    found.drop_all(engine)


def downgrade(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "pyrimage:alembic")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def stamp(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def columns(engine: Engine) -> list[tuple[Any, ...]]:
    """Describe every column, in the database's own words."""
    statement = {
        "sqlite": "SELECT m.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk, instr(m.sql, 'COLLATE') "
        "FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.name <> 'alembic_version'",
        "postgresql": "SELECT table_name, column_name, data_type, character_maximum_length, datetime_precision, "
        "numeric_precision, collation_name, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name <> 'alembic_version'",
        "mysql": "SELECT table_name, column_name, column_type, collation_name, is_nullable, column_default, extra "
        "FROM information_schema.columns WHERE table_schema = database() AND table_name <> 'alembic_version'",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return sorted(map(tuple, connection.execute(text(statement))))


def rows_of(engine: Engine, table: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]


def names(engine: Engine) -> dict[tuple[str, str], list[str]]:
    """Give the columns of every constraint and index: ``{("images", "pk_images"): ["id"]}``."""
    inspector = inspect(engine)
    found: dict[tuple[str, str], list[str]] = {}
    for table in set(inspector.get_table_names()) - {"alembic_version"}:
        key = inspector.get_pk_constraint(table)
        found[table, str(key["name"])] = key["constrained_columns"]
        for foreign in inspector.get_foreign_keys(table):
            target = [f"{foreign['referred_table']}.{name}" for name in foreign["referred_columns"]]
            found[table, str(foreign["name"])] = foreign["constrained_columns"] + target
        for index in inspector.get_indexes(table):
            found[table, str(index["name"])] = [*map(str, index["column_names"]), str(bool(index["unique"]))]
        for unique in inspector.get_unique_constraints(table):
            found[table, str(unique["name"])] = unique["column_names"]
    return found


Described = tuple[list[tuple[Any, ...]], dict[tuple[str, str], list[str]]]  # columns and names


@dataclass(frozen=True)
class Schema:
    """What the migrations made of an empty database, once, and once more; what was left to do; what the models make."""

    kind: str
    migrated: Described
    again: Described
    differences: list[Any]
    of_the_models: Described


@pytest.fixture(scope="module")
def schema(database_url: str) -> Schema:
    """The schema, described; the database is empty again."""
    engine = make_engine({"sqlalchemy.url": database_url})
    if engine.dialect.name == "mysql":  # whatever the database was made with
        with engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {engine.url.database} CHARACTER SET latin1"))
    migrations.upgrade(engine)
    migrated = columns(engine), names(engine)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    migrations.upgrade(engine)
    migrations.check(engine)
    again = columns(engine), names(engine)
    drop_everything(engine)
    Base.metadata.create_all(engine)
    of_the_models = columns(engine), names(engine)
    drop_everything(engine)
    engine.dispose()
    return Schema(engine.dialect.name, migrated, again, differences, of_the_models)


def test_the_migrations_make_what_the_models_say(schema: Schema) -> None:
    assert schema.differences == []
    assert schema.migrated == schema.of_the_models


def test_an_upgraded_database_can_be_upgraded_again(schema: Schema) -> None:
    assert schema.again == schema.migrated


def test_every_name_follows_the_convention(schema: Schema) -> None:
    for table, name in schema.migrated[1]:
        pattern = NAMES.get(name[:2], "no such prefix").format(table=table)
        if (schema.kind, name) != ("mysql", "None"):  # MariaDB's primary keys have no name
            assert re.fullmatch(pattern, name)


def test_text_and_times_are_exact_whatever_the_database_was_made_with(schema: Schema) -> None:
    words = {word for row in schema.migrated[0] for word in map(str, row)}
    assert words.isdisjoint({"timestamp with time zone", "datetime", "datetime(0)"})
    exact = {
        "sqlite": {"0"},
        "postgresql": {"C", "6"},
        "mysql": {"utf8mb4_nopad_bin", "datetime(6)"},
    }
    assert exact[schema.kind] <= words


def test_images_survive_the_way_down_to_the_first_schema_and_up_again(engine: Engine) -> None:
    migrations.upgrade(engine)
    whole = columns(engine), names(engine)
    moment = "2011-09-22 19:57:47.123456"
    facts: dict[str, Any] = {"id": "f17", "name": "", "created_at": moment, "updated_at": moment, "size": 2**40}
    facts |= dict.fromkeys(("status", "disk_format", "container_format", "owner"), "x")
    facts |= dict.fromkeys(("is_public", "protected", "deleted"), True) | {"min_disk": 0, "min_ram": 0}
    with engine.begin() as connection:
        places = ", ".join(f":{name}" for name in facts)
        connection.execute(text(f"INSERT INTO images ({', '.join(facts)}) VALUES ({places})"), facts)
    downgrade(engine, "0001")
    assert (columns(engine), names(engine)) != whole
    migrations.upgrade(engine)
    assert (columns(engine), names(engine)) == whole
    with engine.connect() as connection:
        found = connection.execute(text("SELECT id, size, updated_at, final_status FROM images")).one()
    assert (found.id, found.size, str(found.updated_at), found.final_status) == ("f17", 2**40, moment, None)
    downgrade(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_images_that_are_active_already_became_so_by_their_last_change(engine: Engine) -> None:
    migrations.upgrade(engine)
    downgrade(engine, "0002")
    columns_of = Base.metadata.tables["images"].c
    texts = dict.fromkeys(("name", "disk_format", "container_format", "owner"), "")
    moment = datetime.fromisoformat("2011-09-22 19:57:47.123456")
    facts = {**texts, "created_at": moment, "updated_at": moment, "size": 0, "min_disk": 0, "min_ram": 0}
    facts |= dict.fromkeys(("is_public", "protected", "deleted"), False)
    with engine.begin() as connection:
        for status in ("active", "queued"):
            values = {columns_of[name]: value for name, value in {**facts, "id": status, "status": status}.items()}
            connection.execute(insert(Base.metadata.tables["images"]).values(values))
    migrations.upgrade(engine)
    with engine.connect() as connection:
        found = {row.id: row.activated_at for row in connection.execute(select(*columns_of))}
    assert found == {"active": moment, "queued": None}


def test_names_of_stores_may_be_longer_and_what_has_one_stays(engine: Engine) -> None:
    migrations.upgrade(engine)
    whole = columns(engine), names(engine)
    downgrade(engine, "0005")
    moment = datetime.fromisoformat("2011-09-22 19:57:47.123456")
    image, place, claim, store = (
        Base.metadata.tables[name] for name in ("images", "image_locations", "claims", "stores")
    )
    texts = dict.fromkeys(("name", "disk_format", "container_format", "owner"), "")
    facts = {**texts, "status": "active", "created_at": moment, "updated_at": moment, "size": 5, "min_disk": 0}
    facts |= {"min_ram": 0, **dict.fromkeys(("is_public", "protected", "deleted"), False)}
    key = {"key": "f17.0123456789abcdef", "image_id": "f17"}
    lease = {"owner": "", "size": 5, "state": "live", "lease": moment, "server": "a"}
    with engine.begin() as connection:
        connection.execute(insert(image).values(id="f17", **facts))
        connection.execute(insert(place).values(id=7, store="file", owned=True, state="active", **key))
        connection.execute(insert(claim).values(store="file", **key, **lease))
        connection.execute(insert(store).values(name="file", identity="0" * 32))
    before = {table.name: rows_of(engine, table.name) for table in (image, place, claim, store)}
    migrations.upgrade(engine)
    assert (columns(engine), names(engine)) == whole
    for name, rows in before.items():
        assert [now.items() >= row.items() for now, row in zip(rows_of(engine, name), rows, strict=True)] == [True]
    with engine.begin() as connection:
        longest = "x" * STORE_NAME_LENGTH
        connection.execute(insert(place).values(image_id="f17", store=longest, key="k", owned=True, state="garbage"))
        connection.execute(insert(store).values(name=longest, identity="1" * 32))
        assert connection.scalar(select(place.c.id).where(place.c.store == longest)) is not None
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(place).values(image_id="none", store="file", key="k", owned=True, state="active"))


def test_a_migration_that_dies_leaves_nothing_behind(engine: Engine) -> None:
    if engine.dialect.name == "mysql":
        pytest.skip("MariaDB commits every CREATE TABLE by itself")

    def die(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "CREATE TABLE image_members" in statement:
            raise ZeroDivisionError

    event.listen(engine, "before_cursor_execute", die)
    with pytest.raises(ZeroDivisionError):
        migrations.upgrade(engine)
    event.remove(engine, "before_cursor_execute", die)
    assert inspect(engine).get_table_names() == []
    migrations.upgrade(engine)
    migrations.check(engine)


def test_processes_that_start_at_once_bring_an_empty_database_up_to_date_one_after_the_other(
    engine: Engine, database_url: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", UPGRADE, database_url]
    with contextlib.ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None  # or communicate() would flush it
        failures = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert failures == [""] * 3
    migrations.check(engine)


def test_the_lock_of_the_schema_is_held_until_the_new_revision_can_be_read(engine: Engine) -> None:
    """Else the next of them would run the same migration again."""
    if engine.dialect.name != "mysql":
        pytest.skip("only MariaDB has a lock that does not end with the transaction")
    read: list[str | None] = []

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "RELEASE_LOCK" in statement:
            read.append(migrations.current_revision(engine))  # over another connection

    event.listen(engine, "before_cursor_execute", look)
    migrations.upgrade(engine)
    event.remove(engine, "before_cursor_execute", look)
    assert read == [migrations.wanted_revision()]


def test_a_server_may_migrate_at_its_start_from_which_it_keeps_no_connection(engine: Engine, tmp_path: Path) -> None:
    for auto_migrate in ("true", "false"):
        started = install(tmp_path, auto_migrate=auto_migrate, **{"sqlalchemy.url": url_of(engine)})
        pool = started.engine.pool
        assert isinstance(pool, QueuePool)
        assert (pool.checkedin(), pool.checkedout()) == (0, 0)
        assert started.client().get("/v1/images").json == {"images": []}
        started.engine.dispose()


def test_a_server_whose_schema_is_behind_refuses_to_start_and_names_the_command(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pyrimage-manage .*db upgrade"):
        install(tmp_path, auto_migrate="false", **{"sqlalchemy.url": url_of(engine)})


def test_a_server_older_than_its_schema_refuses_to_start(engine: Engine, tmp_path: Path) -> None:
    migrations.upgrade(engine)
    stamp(engine, "9999")
    for auto_migrate in ("true", "false"):
        with pytest.raises(ConfigurationError, match=r"9999.*newer"):
            install(tmp_path, auto_migrate=auto_migrate, **{"sqlalchemy.url": url_of(engine)})


def test_pshell_is_only_warned_of_a_schema_that_is_behind(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ini_settings(tmp_path, auto_migrate="false", **{"sqlalchemy.url": url_of(engine)})
    main({"__script__": "pshell"}, **settings)
    assert [record.levelname for record in caplog.records if "db upgrade" in record.message] == ["WARNING"]


@pytest.mark.parametrize("auto_migrate", ["true", "false"])
def test_a_database_that_is_away_is_a_warning_at_the_start_and_503_later(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, auto_migrate: str
) -> None:
    url = databases.unreachable_url(kind, tmp_path)
    started = install(tmp_path, auto_migrate=auto_migrate, **{"sqlalchemy.url": url})
    assert [record.levelname for record in caplog.records if "schema is not checked" in record.message] == ["WARNING"]
    response = started.client().get("/v1/images", status=503)
    assert response.headers["Retry-After"].isdigit()
    assert "database" in error_of(response)
    started.client().get("/healthcheck", status=200)


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)
