"""``pyrimage-manage``: what it prints, and the statuses it ends with."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from factories import data_headers, files_below
from servers.processes import PROGRAMS, run
from servers.pyrimage import ROOT, Server

pytestmark = pytest.mark.system

LONG_AGO = "2001-01-01 00:00:00.000000"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """An installation of production.ini, without a database yet."""
    return Server(tmp_path, sample="production")


def manage(
    server: Server, *arguments: str | Path, status: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command in the installation's directory."""
    done = run("pyrimage-manage", *arguments, cwd=server.directory, environment=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def add_claim(server: Server, key: str, lease: str) -> None:
    """Leave what a killed server leaves: a claim, and its staged bytes."""
    row = (key, key.partition(".")[0], "file", "", 5, "live", lease, "host:1")
    server.sql("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
    (server.datadir / "staging").mkdir(parents=True, exist_ok=True)
    (server.datadir / "staging" / key).write_bytes(b"bytes")


# Asking for help


@pytest.mark.parametrize(
    "arguments",
    [(), ("db",), ("scrub",), ("store",), ("store", "adopt"), ("sample-config",), ("sample-config", "service")],
)
def test_help_is_there_for_every_command(server: Server, arguments: tuple[str, ...]) -> None:
    shown = manage(server, *arguments, "--help").stdout
    assert shown.startswith(f"usage: pyrimage-manage{''.join(' ' + word for word in arguments)}")


def test_help_names_the_commands_and_the_places_of_the_ini(server: Server) -> None:
    shown = " ".join(manage(server, "--help").stdout.split())
    for word in ("sample-config", "db", "scrub", "pyrimage.ini", "., ~/.pyrimage, ~, /etc/pyrimage, /etc"):
        assert word in shown


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("db",),
        ("no-such",),
        ("db", "downgrade"),
        ("scrub", "--grace", "soon"),
        ("sample-config", "no-such"),
        ("sample-config", "production", "/etc"),
        ("sample-config", "service"),
    ],
)
def test_what_is_no_command_is_refused_with_the_usage(server: Server, arguments: tuple[str, ...]) -> None:
    assert manage(server, *arguments, status=2).stderr.startswith("usage: pyrimage-manage")


# The ini


@pytest.mark.parametrize("kind", ["development", "production"])
def test_sample_config_prints_a_working_ini(server: Server, kind: str) -> None:
    shown = manage(server, "sample-config", kind).stdout
    assert shown == (ROOT / f"{kind}.ini").read_text(encoding="utf-8")
    (server.directory / "mine.ini").write_text(shown)
    manage(server, "-c", "mine.ini", "db", "upgrade")
    manage(server, "-c", "mine.ini", "db", "check")
    assert server.database.exists()  # below the ini's own directory


def test_sample_config_is_the_one_for_production_unless_asked(server: Server) -> None:
    assert manage(server, "sample-config").stdout == manage(server, "sample-config", "production").stdout


# The files of the service


def service_files(programs: Path) -> dict[str, str]:
    """Return what is to be written, by its place below the directory, for programs that lie there."""
    tree = ROOT / "pyrimage/scripts/service"
    return {
        name: (tree / name).read_text(encoding="utf-8").replace("/opt/pyrimage/bin", str(programs))
        for name in files_below(tree)
    }


def written(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text(encoding="utf-8") for name in files_below(directory)}


def test_sample_config_writes_the_files_of_the_service_and_names_them(server: Server) -> None:
    target = server.directory / "made/on/demand"
    shown = manage(server, "sample-config", "service", target).stdout
    assert written(target) == service_files(PROGRAMS.resolve())
    assert sorted(shown.splitlines()) == sorted(str(target / name) for name in written(target))
    page = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    assert f"```\n{shown.replace(str(target), '')}```" in page  # what it prints for /


def test_units_start_the_programs_beside_the_command_not_beside_a_link_to_it(server: Server) -> None:
    (link := server.directory / "pyrimage-manage").symlink_to(PROGRAMS / "pyrimage-manage")
    manage_by_link = run(str(link), "sample-config", "service", "units", cwd=server.directory)
    assert manage_by_link.returncode == 0, manage_by_link.stderr
    assert written(server.directory / "units") == service_files(PROGRAMS.resolve())


def test_files_of_the_service_that_are_there_already_are_not_written_again(server: Server) -> None:
    manage(server, "sample-config", "service", "units")
    again = manage(server, "sample-config", "service", "units")
    assert (again.stdout, again.stderr) == ("", "")


def test_edited_file_of_the_service_is_left_alone_and_named(server: Server) -> None:
    units = Path("units/etc/systemd/system")
    edited, masked, lost = (units / f"pyrimage-{name}" for name in ("api.service", "registry.service", "scrub.service"))
    manage(server, "sample-config", "service", "units")
    (server.directory / edited).write_bytes(b"\xff mine\n")
    (server.directory / masked).unlink()
    (server.directory / masked).symlink_to("/dev/null")
    (server.directory / lost).unlink()
    refused = manage(server, "sample-config", "service", "units", status=1)
    assert refused.stdout == f"{lost}\n"
    assert refused.stderr.splitlines() == [
        f"pyrimage-manage: {path} is there and differs; it is left as it is." for path in (edited, masked)
    ]
    assert (server.directory / edited).read_bytes() == b"\xff mine\n"
    assert (server.directory / masked).readlink() == Path("/dev/null")


@pytest.mark.parametrize("place", ["units", "units/etc/logrotate.d"])
def test_place_where_the_service_cannot_be_written_is_named(server: Server, place: str) -> None:
    (server.directory / place).parent.mkdir(parents=True, exist_ok=True)
    (server.directory / place).touch()  # no directory, so not even root can write there
    refused = manage(server, "sample-config", "service", "units", status=1)
    assert refused.stdout == ""
    assert re.fullmatch(
        r"pyrimage-manage: units/etc/logrotate.d/pyrimage cannot be written: (Not a directory|File exists)\.\n",
        refused.stderr,
    )


# The ini that a command is given


def test_missing_ini_is_named(server: Server) -> None:
    refused = manage(server, "-c", "nowhere.ini", "db", "check", status=1)
    missing = server.directory / "nowhere.ini"
    assert refused.stderr == f"pyrimage-manage: {missing} cannot be read: No such file or directory.\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sqlalchemy.url = sqlite:///%s3cret", "sqlalchemy.url: a literal % is written %%"),
        ("s3cret", "line 3 is neither a setting nor a section"),
        ("[loggers]\nkeys = s3cret", "does not configure logging"),
    ],
)
def test_broken_ini_is_told_in_one_line_that_quotes_nothing(server: Server, text: str, reason: str) -> None:
    broken = server.directory / "broken.ini"
    broken.write_text(f"[app:main]\nuse = egg:pyrimage\n{text}\n", encoding="utf-8")
    refused = manage(server, "-c", "broken.ini", "db", "check", status=1)
    assert refused.stderr.startswith(f"pyrimage-manage: {broken}")
    assert reason in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_no_ini_anywhere_is_said_with_the_places(server: Server) -> None:
    server.ini.unlink()
    refused = manage(server, "db", "check", status=1, HOME=str(server.directory))
    assert refused.stderr == "pyrimage-manage: No pyrimage.ini in ., ~/.pyrimage, ~, /etc/pyrimage, /etc.\n"


def test_first_ini_found_wins(server: Server) -> None:
    home = server.directory / "home"
    places = [server.directory, home / ".pyrimage", home]
    text = server.ini.read_text()
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / "pyrimage.ini").write_text(text)
    for place in places:
        manage(server, "db", "upgrade", HOME=str(home))
        assert (place / "var/pyrimage.sqlite").exists()
        (place / "pyrimage.ini").unlink()


@pytest.mark.parametrize(
    ("key", "value"), [("pyrimage.auth", "everything"), ("pyrimage.no_such", "1"), ("sqlalchemy.url", "nonsense")]
)
def test_bad_setting_is_named(server: Server, key: str, value: str) -> None:
    ini = configparser.RawConfigParser()
    ini.read(server.ini)
    ini["app:main"][key] = value
    with server.ini.open("w") as file:
        ini.write(file)
    refused = manage(server, "scrub", status=1)
    assert refused.stderr.startswith("pyrimage-manage: ")
    assert key in refused.stderr


# The database


def test_check_fails_until_the_upgrade(server: Server) -> None:
    refused = manage(server, "db", "check", status=1)
    assert "pyrimage-manage --config" in refused.stderr
    assert manage(server, "db", "current").stdout.startswith("current: None\nwanted:  0")
    upgraded = manage(server, "db", "upgrade").stdout
    assert manage(server, "db", "check").stdout == "The schema is up to date.\n"
    current, wanted = (line.split()[1] for line in manage(server, "db", "current").stdout.splitlines())
    assert current == wanted
    assert f"The schema is of revision {current}." in upgraded


def test_upgrade_twice_changes_nothing(server: Server) -> None:
    manage(server, "db", "upgrade")
    before = server.sql("SELECT sql FROM sqlite_master ORDER BY name")
    manage(server, "db", "upgrade")
    assert server.sql("SELECT sql FROM sqlite_master ORDER BY name") == before


def test_database_that_is_away_is_said_without_a_traceback(server: Server) -> None:
    ini = server.ini.read_text()
    url = f"sqlite:///{server.directory}/server.log/x.sqlite"
    server.log_file.touch()
    server.ini.write_text(ini.replace("sqlite:///%(here)s/var/pyrimage.sqlite", url))
    assert manage(server, "scrub", status=1).stderr.splitlines()[-1].startswith("pyrimage-manage: ")


# Cleaning up


@pytest.fixture
def messy(server: Server) -> Server:
    """An installation with an expired claim, a live one, an image, and garbage of another."""
    manage(server, "db", "upgrade")
    with server:
        for name in ("kept", "gone"):
            made = server.request("POST", "/images", name.encode(), data_headers(id=name, name=name))
            assert made.status == 201
    server.sql("UPDATE images SET status = 'deleted', deleted = 1 WHERE id = 'gone'")
    server.sql("UPDATE image_locations SET state = 'garbage' WHERE image_id = 'gone'")
    add_claim(server, "dead.0123456789abcdef", LONG_AGO)
    add_claim(server, "alive.0123456789abcdef", "2999-01-01 00:00:00.000000")
    return server


def stems(server: Server) -> set[str]:
    return {Path(name).name.partition(".")[0] for name in server.files()}


def test_scrub_removes_what_is_dead_and_says_what(messy: Server) -> None:
    shown = manage(messy, "scrub").stdout.splitlines()
    assert shown[0] == "claim of image dead: file dead.0123456789abcdef"
    assert shown[1].startswith("garbage: file gone.")
    assert shown[2].startswith("2 cleaned up")
    assert stems(messy) == {"kept", "alive"}
    assert messy.sql("SELECT image_id FROM claims") == [("alive",)]
    assert messy.sql("SELECT image_id FROM image_locations") == [("kept",)]
    assert manage(messy, "scrub").stdout.startswith("0 cleaned up")


def test_dry_run_says_the_same_and_does_nothing(messy: Server) -> None:
    would = manage(messy, "scrub", "--dry-run").stdout.splitlines()
    assert stems(messy) == {"kept", "gone", "alive", "dead"}
    assert len(messy.sql("SELECT * FROM claims")) == 2
    assert "2 would be cleaned up" in would[-1]
    assert manage(messy, "scrub").stdout.splitlines()[:-1] == would[:-1]


def test_grace_is_how_long_ago_a_lease_must_have_ended(messy: Server) -> None:
    assert "dead" not in manage(messy, "scrub", "--dry-run", "--grace", "1e9").stdout
    assert "dead" in manage(messy, "scrub", "--dry-run", "--grace", "0").stdout


def test_grace_that_means_nothing_is_refused(messy: Server) -> None:
    for grace in ("-1", "nan", "inf", "1e300"):
        refused = manage(messy, "scrub", f"--grace={grace}", status=1)
        assert "--grace" in refused.stderr
    assert stems(messy) == {"kept", "gone", "alive", "dead"}


def test_scrub_of_a_database_without_a_schema_names_the_command(server: Server) -> None:
    assert "db upgrade" in manage(server, "scrub", status=1).stderr


@pytest.mark.parametrize("command", [("scrub",), ("scrub", "--dry-run"), ("verify",)])
def test_scrub_or_verify_before_the_first_start_marks_nothing(server: Server, command: tuple[str, ...]) -> None:
    manage(server, "db", "upgrade")
    (server.datadir / "blobs").mkdir(parents=True)
    assert "the first start of a server" in manage(server, *command, status=1).stderr
    assert server.files() == []
    assert list((server.datadir / "blobs").iterdir()) == []
    assert server.sql("SELECT * FROM stores") == []


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_scrub_looks_for_the_disk_also_when_nothing_is_to_be_removed(server: Server, options: tuple[str, ...]) -> None:
    manage(server, "db", "upgrade")
    with server:
        pass
    server.datadir.rename(server.directory / "disk")
    assert "store adopt" in manage(server, "scrub", *options, status=1).stderr
    assert not server.datadir.exists()


def test_scrub_beside_a_running_server_leaves_its_uploads_alone(messy: Server) -> None:
    with messy:
        manage(messy, "scrub")
        assert messy.request("GET", "/images/kept").body == b"kept"
        assert messy.request("POST", "/images", b"more", data_headers(name="more")).status == 201


def test_blob_that_cannot_be_removed_is_said_and_the_rest_is_cleaned(messy: Server) -> None:
    staged = messy.datadir / "staging/dead.0123456789abcdef"
    staged.unlink()
    staged.mkdir()  # no file, so not even root can unlink it
    failed = manage(messy, "scrub", status=1)
    assert "1 cleaned up, 1 failed." in failed.stdout
    assert stems(messy) == {"kept", "alive"}
    staged.rmdir()
    assert manage(messy, "scrub").stdout.splitlines()[-1].startswith("1 cleaned up")
    assert messy.sql("SELECT image_id FROM claims") == [("alive",)]
