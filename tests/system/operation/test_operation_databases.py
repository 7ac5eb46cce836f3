"""The operator's chapter: PostgreSQL or MariaDB instead of SQLite, and a catalogue that moves there."""

import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_appsettings
from sqlalchemy import URL, create_engine, insert, inspect, make_url, select

from factories import data_headers, id_of, meta
from pyrimage.models import Base, ImageRow, make_engine
from servers import databases
from servers.operated import Place, fill, printed, section, seen, upload
from servers.pyrimage import Server

pytestmark = pytest.mark.system

MANY = 2500  # rows that are copied in more than one part


@pytest.fixture(params=["postgresql", "mariadb"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; on PostgreSQL that of a role made as the page makes it."""
    if request.param == "mariadb":
        with databases.fresh_database("mariadb", tmp_path) as url:
            yield url
        return
    databases.require("postgresql")
    name = f"pyrimage_test_{os.getpid()}_{secrets.token_hex(4)}"
    administrator = make_url(os.environ.get(databases.VARIABLES["postgresql"]) or databases.DEFAULTS["postgresql"])
    made = printed("Database and URL", "CREATE", "sql").replace("pyrimage", name)
    role = administrator.set(username=name, password="secret", database=name)
    try:
        administer(administrator, *filter(None, map(str.strip, made.split(";"))))
        yield role.render_as_string(hide_password=False)
    finally:
        administer(administrator, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"DROP ROLE IF EXISTS {name}")


def administer(url: URL, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, each in the order of its key."""
    engine = make_engine({"sqlalchemy.url": url})
    with engine.connect() as connection:
        assert {*inspect(connection).get_table_names()} == {*Base.metadata.tables, "alembic_version"}
        tables = Base.metadata.sorted_tables
        found = {table.name: connection.execute(select(table).order_by(*table.primary_key)).all() for table in tables}
    engine.dispose()
    return {name: [tuple(row) for row in kept] for name, kept in found.items()}


def number_of_rows(url: str) -> int:
    return sum(map(len, rows(url).values()))


def move(place: Place, new_url: str) -> "subprocess.CompletedProcess[str]":
    """Run the page's commands that move the catalogue."""
    commands = "".join(moving_lines())
    assert commands.count(printed_url()) == 1
    return place.try_shell(commands, instead={printed_url(): new_url.replace("%", "%%")})


def moving_lines(first: str = "", upto: str = "") -> list[str]:
    """Return the lines that move a catalogue, from one with a word on, and up to one with another."""
    lines = printed("Moving a catalogue", "move_catalogue").splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if first in line)
    stop = next(number for number, line in enumerate(lines) if upto in line) + 1 if upto else None
    return lines[start:stop]


def printed_url() -> str:
    """Return the URL that the page puts into the ini."""
    (url,) = re.findall(r"^sqlalchemy\.url = (\S+)$", printed("Database and URL", "url", "ini"), re.MULTILINE)
    return str(url)


def test_a_catalogue_moves_from_sqlite_to_another_database_whole(place: Place, on_sqlite: Server, new_url: str) -> None:
    old_url = f"sqlite:///{place.lib}/pyrimage.sqlite"
    with on_sqlite as server:
        images = fill(server)
        before = seen(server, images)
    add_deleted_images(old_url)

    done = move(place, new_url)
    assert done.returncode == 0, done.stderr
    assert "\nAll rows are copied and were compared.\n" in done.stdout
    assert done.stdout.endswith("\n3 images are whole, 0 are not.\n")
    assert rows(new_url) == rows(old_url)
    assert number_of_rows(old_url) > MANY
    assert f"\nimages: {MANY + 6}\n" in done.stdout
    again = place.try_shell("".join(moving_lines("move_catalogue.py")))  # into a database that has rows
    assert (again.returncode, "is not empty in" in again.stderr, "secret" in again.stderr) == (1, True, False)
    assert rows(new_url) == rows(old_url)

    (place.lib / "pyrimage.sqlite").unlink()
    with on_sqlite as server:  # its ini is another one by now
        assert seen(server, images) == before
        more = [upload(server, text.encode(), properties={"n": text}) for text in ("one", "two", "three")]
        assert [server.request("GET", image).body for image in more] == [b"one", b"two", b"three"]
        assert server.request("PUT", images[3], b"bytes", data_headers()).status == 200
        assert server.request("DELETE", images[0]).status == 200
        taken = server.request("POST", "/v1/images", headers=meta(id=id_of(images[2])))
        assert taken.status == 409
    assert not (place.lib / "pyrimage.sqlite").exists()


def add_deleted_images(url: str) -> None:
    """Add MANY rows to the database of an SQLite installation, past the API."""
    engine = make_engine({"sqlalchemy.url": url})
    with engine.begin() as connection:
        one = dict(connection.execute(select(ImageRow.__table__).where(ImageRow.deleted)).mappings().one())
        connection.execute(insert(ImageRow), [{**one, "id": f"deleted-{n}"} for n in range(MANY)])
    engine.dispose()


@pytest.mark.parametrize("new_url", ["mariadb"], indirect=True)
def test_nothing_is_kept_of_a_catalogue_with_a_row_that_the_new_database_refuses(
    place: Place, on_sqlite: Server, new_url: str
) -> None:
    with on_sqlite as server:
        upload(server, b"bytes", properties={"os": "linux"})
        url = f"sqlite:///{place.lib}/pyrimage.sqlite"
    administer(make_url(url), f"UPDATE image_properties SET key = '{'x' * 300}'")  # SQLite knows no lengths
    assert move(place, new_url).returncode == 1
    assert number_of_rows(new_url) == 0


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_the_program_that_moves_a_catalogue_finds_a_row_that_came_out_different(
    place: Place, on_sqlite: Server, new_url: str
) -> None:
    with on_sqlite as server:
        upload(server, b"bytes", name="a name")
    before, after = moving_lines(upto="db upgrade"), moving_lines("move_catalogue.py")
    place.shell("".join(before), instead={printed_url(): new_url.replace("%", "%%")})
    administer(
        make_url(new_url),
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = 'another'; RETURN NEW; END $$",
        "CREATE TRIGGER spoil BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    done = place.try_shell("".join(after))
    assert done.returncode == 1
    assert "Nothing was copied." in done.stderr
    assert number_of_rows(new_url) == 0


@pytest.mark.parametrize("password", ["p@ss/w%rd", "a:b?c#d&e=f", "with space+plus", "ünï", "%%(here)s", "plain"])
def test_a_password_is_spelt_as_the_ini_and_the_url_need_it(password: str, place: Place) -> None:
    program = printed("Database and URL", "python3")
    (spelt,) = place.shell(f"printf '%s\\n' {shlex.quote(password)} | {program}").splitlines()
    place.etc.mkdir()
    url = printed_url().replace("secret", spelt)
    place.ini.write_text(f"[app:main]\nuse = egg:pyrimage\nsqlalchemy.url = {url}\n")
    read = make_url(get_appsettings(str(place.ini), name="main")["sqlalchemy.url"])
    assert (read.username, read.password, read.host, read.database) == ("pyrimage", password, "127.0.0.1", "pyrimage")
    if password == "p@ss/w%rd":
        assert f"`{password}` becomes `{spelt}`" in section("Database and URL")
