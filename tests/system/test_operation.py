"""The operator's chapter: its commands as they are printed, but for places, users and ports."""

import configparser
import os
import re
import secrets
import shlex
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_appsettings
from sqlalchemy import URL, create_engine, insert, inspect, make_url, select

from factories import data_headers, id_of, image_headers, md5, meta, wire
from pyrimage.models import Base, ImageRow, make_engine
from servers import databases
from servers.processes import OWNED, PROGRAMS, RUN_SECONDS, clean_environment, run, wait_until
from servers.pyrimage import READY_SECONDS, ROOT, Answer, Server

pytestmark = pytest.mark.system

PAGE = ROOT / "docs/operation.md"
ALL = "/v1/images/detail?is_public=None"
MANY = 2500  # rows that are copied in more than one part


def section(heading: str) -> str:
    """Return what stands below one of the page's headings."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{PAGE} has no heading {heading!r}"
    return found[1]


def printed(heading: str, word: str, language: str = "sh") -> str:
    """Return the one fenced block below a heading that has ``word`` in it."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", section(heading), re.MULTILINE | re.DOTALL)
    found = [textwrap.dedent(block) for _, block in blocks if word in block]
    assert len(found) == 1, f"{len(found)} blocks of {language} with {word!r} below {heading!r}"
    return found[0]


class Place:
    """Where a test has what the page puts into ``/opt``, ``/etc`` and ``/var``; whoever runs the test is the user."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.etc, self.lib = directory, directory / "etc", directory / "lib"
        self.ini = self.etc / "pyrimage.ini"

    def translate(self, commands: str, instead: Mapping[str, str]) -> str:
        """Put the test's places, and others ``instead`` of what is printed, into commands."""
        user = f"{os.getuid()}", f"{os.getgid()}"
        for old, new in {
            **instead,
            "runuser -u pyrimage -- ": "",
            "-o pyrimage -g pyrimage": "-o {} -g {}".format(*user),
            "root:pyrimage": ":".join(user),
            "pyrimage:pyrimage": ":".join(user),
            "/opt/pyrimage/bin": str(PROGRAMS),
            "/etc/pyrimage": str(self.etc),
            "/var/lib/pyrimage": str(self.lib),
            "/var/log/pyrimage": str(self.directory / "log"),
            "/run/pyrimage": str(self.directory / "run"),
        }.items():
            commands = commands.replace(old, new)
        return commands

    def try_shell(
        self, commands: str, cwd: Path | None = None, instead: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the page's commands, up to the first that fails."""
        return subprocess.run(
            [*OWNED, "bash", "-euo", "pipefail", "-c", self.translate(commands, instead or {})],
            cwd=cwd or self.directory,
            env=clean_environment(self.directory, {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * RUN_SECONDS,
            check=False,
        )

    def shell(self, commands: str, cwd: Path | None = None, instead: Mapping[str, str] | None = None) -> str:
        """Run the page's commands and return what they print; none may fail."""
        done = self.try_shell(commands, cwd, instead)
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def configure(self) -> None:
        """Make the ini and the data's directory, as below "First start"."""
        self.shell(printed("First start", "sample-config production"))
        self.shell(printed("First start", "chmod"))

    def server(self) -> Server:
        """Return the server of ``pyrimage.ini``, which is there already."""
        ini = self.ini.read_text(encoding="utf-8")
        server = Server(self.etc, sample="production")
        self.ini.write_text(ini, encoding="utf-8")
        server.configure("server:main", {"listen": f"127.0.0.1:{server.port}"})
        return server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def upload(server: Server, data: bytes, **fields: Any) -> str:
    """Make an active image and return its path."""
    made = server.request("POST", "/v1/images", data, data_headers(**fields))
    assert made.status == 201, made.body
    return f"/v1/images/{made.image['id']}"


def reserve(server: Server, **fields: Any) -> str:
    made = server.request("POST", "/v1/images", headers=meta(**fields))
    assert made.status == 201, made.body
    return f"/v1/images/{made.image['id']}"


def fill(server: Server) -> list[str]:
    """Make one image of every sort; return the paths of those that are there."""
    named = upload(
        server,
        os.urandom(3 * 2**20 + 1),
        name=wire("Ærøskøbing ☃ 𝄞"),
        is_public=True,
        disk_format="qcow2",
        container_format="bare",
        min_disk=20,
        min_ram=512,
        properties={"os": wire("Ünix"), "empty": "", "quote": "it's 100%\\"},
    )
    shared = upload(server, b"shared", name="shared", owner="tenant-a", protected=True)
    for member, can_share in (("tenant-b", "true"), ("tenant-c", "false")):
        body = f'{{"member": {{"can_share": {can_share}}}}}'
        put = server.request("PUT", f"{shared}/members/{member}", body.encode(), {"Content-Type": "application/json"})
        assert put.status == 204, put.body
    mine = upload(server, b"\0", name="", id="an.id-of_mine")
    queued = reserve(server, name="queued", size=5, properties={"kept": "yes"})
    failed = reserve(server, name="failed")
    assert server.request("PUT", failed, b"bytes", data_headers(checksum=md5(b"others"))).status == 400
    deleted = upload(server, b"deleted", name="deleted", owner="tenant-a", properties={"gone": "yes"})
    assert server.request("DELETE", deleted).status == 200
    return [named, shared, mine, queued, failed]


def seen(server: Server, images: list[str]) -> dict[str, Any]:
    """Return what a client sees of the catalogue; addresses apart, which move with the service."""
    orders = ("created_at", "name", "size", "id")
    lists = {order: server.request("GET", f"{ALL}&sort_key={order}").json["images"] for order in orders}
    for image in (image for found in lists.values() for image in found):
        for address in ("uri", "location"):
            image.pop(address, None)
    heads = [without_addresses(server.request("HEAD", image)) for image in images]
    members = [server.request("GET", f"{image}/members").json for image in images]
    bodies = [server.request("GET", image).body for image in images[:3]]
    shared = [server.request("GET", f"/v1/shared-images/{member}").json for member in ("tenant-b", "tenant-c")]
    return {"lists": lists, "heads": heads, "members": members, "bodies": bodies, "shared": shared}


def without_addresses(answer: Answer) -> tuple[int, dict[str, str]]:
    headers = image_headers(answer)
    return answer.status, {name: text for name, text in headers.items() if name not in ("uri", "location")}


# First start.


def test_the_sample_in_its_place_names_no_directory_of_its_own_and_serves_a_first_image(place: Place) -> None:
    place.configure()
    settings = get_appsettings(str(place.ini), name="main")
    assert "%(here)s" not in place.ini.read_text(encoding="utf-8")
    assert settings["pyrimage.filesystem_store_datadir"] == f"{place.lib}/images"
    assert settings["sqlalchemy.url"] == f"sqlite:///{place.lib}/pyrimage.sqlite"
    modes = [path.stat().st_mode & 0o777 for path in (place.ini, place.etc, place.lib, place.directory / "log")]
    assert modes == [0o640, 0o750, 0o750, 0o750]

    place.shell(printed("First start", "db upgrade"))
    assert (place.lib / "pyrimage.sqlite").is_file()
    with place.server() as server:
        session = printed("First start", "curl").replace("127.0.0.1:9292", f"127.0.0.1:{server.port}")
        assert "the same bytes\n" in place.shell(session)
        (image,) = server.request("GET", ALL).json["images"]
        find = f"id={shlex.quote(image['id'])}\n{printed('Where the bytes lie', 'find')}"
        found = Path(place.shell(find).removesuffix("\n"))
        assert image["location"] == found.as_uri()
        assert found.read_bytes() == (place.directory / "disk.raw").read_bytes()
        assert sorted(path.name for path in place.lib.iterdir() if path.is_dir()) == ["images"]
    assert not (place.etc / "var").exists()


def test_the_daemon_that_is_started_without_systemd_serves_and_logs_to_the_directory(place: Place) -> None:
    place.configure()
    place.shell(printed("First start", "db upgrade"))
    server = place.server()
    pid_file = shlex.quote(str(place.directory / "run/api.pid"))
    start = printed("First start", "pyrimage-control").rstrip()
    stop = f"/opt/pyrimage/bin/pyrimage-control api stop /etc/pyrimage/pyrimage.ini --pid-file {pid_file}"
    try:
        said = place.shell(f"{start} --pid-file {pid_file}")
        assert f"Starting pyrimage-api with {place.ini}\n" in said
        assert server.request("GET", "/healthcheck").status == 200
        log = place.directory / "log/api.log"
        wait_until(lambda: "GET /healthcheck" in log.read_text(encoding="utf-8"), READY_SECONDS)
    finally:
        place.shell(stop)
    assert not (place.directory / "run/api.pid").exists()


# From development.ini to production.ini.


def settings_of(sample: str) -> set[tuple[str, str, str]]:
    """Return every setting of a sample that is not a comment."""
    ini = configparser.RawConfigParser()
    ini.read(ROOT / f"{sample}.ini", encoding="utf-8")
    return {(name, key, text) for name in ini.sections() for key, text in ini[name].items()}


def test_the_table_names_every_setting_in_which_the_two_samples_differ() -> None:
    differ = {key for _, key, _ in settings_of("development") ^ settings_of("production")}
    named = re.findall(r"^\| `(\S+)` \|", section("From development.ini to production.ini"), re.MULTILINE)
    assert sorted(named) == sorted(differ)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_development_ini_made_is_whole_under_production_ini(end: str, place: Place) -> None:
    (checkout := place.directory / "checkout").mkdir()
    with Server(checkout) as tried:
        images = fill(tried)
        before = seen(tried, images)
        (tried.stop if end == "stop" else tried.kill)()
    assert (checkout / "var/pyrimage.sqlite-wal").exists() == (end == "kill")
    place.configure()
    said = place.shell(printed("From development.ini to production.ini", "cp -a"), cwd=checkout)
    assert said.endswith("\n3 images are whole, 0 are not.\n")
    with place.server() as server:
        assert seen(server, images) == before
        assert server.request("GET", upload(server, b"and more")).body == b"and more"
        assert server.request("DELETE", images[0]).status == 200


# PostgreSQL instead of SQLite.


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


@pytest.fixture
def on_sqlite(place: Place) -> Server:
    """An installation of the page's, which nothing serves."""
    place.configure()
    place.shell(printed("First start", "db upgrade"))
    (place.etc / "move_catalogue.py").write_text(printed("Moving a catalogue", "import", "python"), encoding="utf-8")
    return place.server()


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


def test_a_catalogue_does_not_move_into_a_database_that_has_rows(place: Place, on_sqlite: Server, new_url: str) -> None:
    with on_sqlite as server:
        upload(server, b"bytes")
    assert move(place, new_url).returncode == 0
    before = rows(new_url)
    again = place.try_shell("".join(moving_lines("move_catalogue.py")))
    assert again.returncode == 1
    assert "is not empty in" in again.stderr
    assert "secret" not in again.stderr
    assert rows(new_url) == before


def test_nothing_is_kept_of_a_catalogue_with_a_row_that_the_new_database_refuses(
    place: Place, on_sqlite: Server, new_url: str
) -> None:
    with on_sqlite as server:
        upload(server, b"bytes", properties={"os": "linux"})
        url = f"sqlite:///{place.lib}/pyrimage.sqlite"
    administer(make_url(url), f"UPDATE image_properties SET key = '{'x' * 300}'")  # SQLite knows no lengths
    assert move(place, new_url).returncode == 1
    assert number_of_rows(new_url) == 0


def test_the_program_that_moves_a_catalogue_finds_a_row_that_came_out_different(
    place: Place, on_sqlite: Server, new_url: str
) -> None:
    with on_sqlite as server:
        upload(server, b"bytes", name="a name")
    trigger = {
        "postgresql": [
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.name = 'another'; RETURN NEW; END $$",
            "CREATE TRIGGER spoil BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION spoil()",
        ],
        "mysql": ["CREATE TRIGGER spoil BEFORE INSERT ON images FOR EACH ROW SET NEW.name = 'another'"],
    }
    backend = make_url(new_url).get_backend_name()
    before, after = moving_lines(upto="db upgrade"), moving_lines("move_catalogue.py")
    place.shell("".join(before), instead={printed_url(): new_url.replace("%", "%%")})
    administer(make_url(new_url), *trigger[backend])
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


# Upgrades.


@pytest.mark.parametrize("auto_migrate", ["true", "false"])
def test_a_running_server_outlives_a_newer_schema_but_not_its_restart(auto_migrate: str, tmp_path: Path) -> None:
    main = {"pyrimage.auto_migrate": auto_migrate}
    server = Server(tmp_path, sample="production", main=main, server={"workers": "2"})
    assert run("pyrimage-manage", "-c", server.ini, "db", "upgrade", cwd=tmp_path).returncode == 0
    with server:
        first = min(server.wait_for_workers(2))
        server.sql("UPDATE alembic_version SET version_num = '9999'")
        image = upload(server, b"bytes")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: "ended unasked: status 1" in server.log(), READY_SECONDS, server.log)
        assert server.request("GET", image).body == b"bytes"
        server.hang_up()
        wait_until(lambda: "the old one stays in force" in server.log(), READY_SECONDS, server.log)
        assert server.request("GET", image).body == b"bytes"
        assert first not in server.workers()
        assert len(server.workers()) == 1
        server.stop()
        with pytest.raises(AssertionError, match="which this pyrimage does not know: it is newer"):
            server.start()


def test_current_prints_the_two_revisions_that_the_page_compares(place: Place, on_sqlite: Server) -> None:
    lines = place.shell(printed("Upgrades", "db current")).splitlines()
    (has, wants) = (re.fullmatch(r"(current|wanted): +(\S+)", line) for line in lines)
    assert has is not None
    assert wants is not None
    assert has[2] == wants[2]
    assert printed("Upgrades", "db upgrade") == printed("First start", "db upgrade")
