"""``pyrimage-manage``: what it prints, and the statuses it ends with. As a program: tests/system/test_packaging.py."""

import re
import sys
from pathlib import Path

import pytest

from factories import data_headers, files_below, meta
from managed import Manage
from pyrimage.uploads.scrub import uploads_elsewhere
from servers.processes import PROGRAMS
from servers.pyrimage import ROOT

LONG_AGO = "2001-01-01 00:00:00.000000"


@pytest.mark.parametrize(
    "words",
    ["", "db", "scrub", "verify", "export", "import", "store", "store adopt", "sample-config", "sample-config service"],
)
def test_help_is_there_for_every_command(manage: Manage, words: str) -> None:
    shown = manage(*words.split(), "--help").output
    assert shown.startswith(f"usage: pyrimage-manage {words}".rstrip())


def test_help_names_the_commands_and_the_places_of_the_ini(manage: Manage) -> None:
    shown = " ".join(manage("--help").output.split())
    for word in ("sample-config", "db", "scrub", "pyrimage.ini", "., ~/.pyrimage, ~, /etc/pyrimage, /etc"):
        assert word in shown


@pytest.mark.parametrize(
    "words",
    [
        *("", "db", "no-such", "db downgrade", "scrub --grace soon", "scrub --age old"),
        *("sample-config no-such", "sample-config production /etc", "sample-config service"),
    ],
)
def test_what_is_no_command_is_refused_with_the_usage(manage: Manage, words: str) -> None:
    assert manage(*words.split(), status=2).errors.startswith("usage: pyrimage-manage")


# Sample configurations


@pytest.mark.parametrize("kind", ["development", "production"])
def test_sample_config_prints_a_working_ini(manage: Manage, kind: str) -> None:
    shown = manage("sample-config", kind).output
    assert shown == (ROOT / f"{kind}.ini").read_text(encoding="utf-8")
    (manage.directory / "mine.ini").write_text(shown)
    manage("-c", "mine.ini", "db", "upgrade")
    manage("-c", "mine.ini", "db", "check")
    assert manage.database.exists()  # below the ini's own directory
    assert manage("sample-config").output == (ROOT / "production.ini").read_text(encoding="utf-8")


def service_files() -> dict[str, str]:
    """Return what is to be written, by its place below the directory."""
    tree = ROOT / "pyrimage/scripts/service"
    programs = str(PROGRAMS.resolve())
    return {name: (tree / name).read_text().replace("/opt/pyrimage/bin", programs) for name in files_below(tree)}


def test_sample_config_writes_the_files_of_the_service_once_and_names_them(manage: Manage) -> None:
    target = manage.directory / "made/on/demand"
    shown = manage("sample-config", "service", target).output
    assert {name: (target / name).read_text() for name in files_below(target)} == service_files()
    assert sorted(shown.splitlines()) == sorted(str(target / name) for name in service_files())
    page = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    assert f"```\n{shown.replace(str(target), '')}```" in page  # what it prints for /
    assert manage("sample-config", "service", target) == (0, "", "")


def test_units_start_the_programs_beside_the_command_not_beside_a_link_to_it(
    manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (link := manage.directory / "pyrimage-manage").symlink_to(PROGRAMS / "pyrimage-manage")
    monkeypatch.setattr(sys, "argv", [str(link)])
    manage("sample-config", "service", "units")
    assert {name: Path("units", name).read_text() for name in files_below(Path("units"))} == service_files()


def test_edited_file_of_the_service_is_left_alone_and_named(manage: Manage) -> None:
    units = Path("units/etc/systemd/system")
    edited, masked, lost = (units / f"pyrimage-{name}" for name in ("api.service", "registry.service", "scrub.service"))
    manage("sample-config", "service", "units")
    edited.write_bytes(b"\xff mine\n")
    masked.unlink()
    masked.symlink_to("/dev/null")
    lost.unlink()
    refused = manage("sample-config", "service", "units", status=1)
    assert refused.output == f"{lost}\n"
    assert refused.errors.splitlines() == [
        f"pyrimage-manage: {path} is there and differs; it is left as it is." for path in (edited, masked)
    ]
    assert (edited.read_bytes(), masked.readlink()) == (b"\xff mine\n", Path("/dev/null"))


@pytest.mark.parametrize("place", ["units", "units/etc/logrotate.d"])
def test_place_where_the_service_cannot_be_written_is_named(manage: Manage, place: str) -> None:
    (manage.directory / place).parent.mkdir(parents=True, exist_ok=True)
    (manage.directory / place).touch()  # no directory, so not even root can write there
    told = "units/etc/logrotate.d/pyrimage cannot be written: (Not a directory|File exists)\\."
    assert re.fullmatch(told, manage.refused("sample-config", "service", "units"))


# The ini


def test_missing_ini_is_named(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = f"{manage.directory}/nowhere.ini cannot be read: No such file or directory."
    assert manage.refused("-c", "nowhere.ini", "db", "check") == missing
    monkeypatch.setenv("HOME", str(manage.directory))
    manage.ini.unlink()
    assert manage.refused("db", "check") == "No pyrimage.ini in ., ~/.pyrimage, ~, /etc/pyrimage, /etc."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sqlalchemy.url = sqlite:///%s3cret", "sqlalchemy.url: a literal % is written %%"),
        ("s3cret", "line 3 is neither a setting nor a section"),
        ("[loggers]\nkeys = s3cret", "does not configure logging"),
    ],
)
def test_broken_ini_is_told_in_one_line_that_quotes_nothing(manage: Manage, text: str, reason: str) -> None:
    manage.ini.write_text(f"[app:main]\nuse = egg:pyrimage\n{text}\n", encoding="utf-8")
    refused = manage("db", "check", status=1).errors
    assert refused.startswith(f"pyrimage-manage: {manage.ini}")
    assert (reason in refused, refused.count("\n"), "s3cret" in refused) == (True, 1, False)


@pytest.mark.parametrize(("key", "value"), [("pyrimage.no_such", "1"), ("sqlalchemy.url", "nonsense")])
def test_bad_setting_is_named(manage: Manage, key: str, value: str) -> None:
    manage.configure(key, value)
    assert key in manage.refused("scrub")


# The database


def test_check_fails_until_the_upgrade(manage: Manage) -> None:
    for command in (("db", "check"), ("scrub",), ("verify",)):
        assert "pyrimage-manage --config" in manage.refused(*command)
    assert manage("db", "current").output.startswith("current: None\nwanted:  0")
    upgraded = manage("db", "upgrade").output
    assert manage("db", "check").output == "The schema is up to date.\n"
    current, wanted = (line.split()[1] for line in manage("db", "current").output.splitlines())
    assert current == wanted
    assert f"The schema is of revision {current}." in upgraded


def test_upgrade_twice_changes_nothing(manage: Manage) -> None:
    manage("db", "upgrade")
    before = manage.sql("SELECT sql FROM sqlite_master ORDER BY name")
    manage("db", "upgrade")
    assert manage.sql("SELECT sql FROM sqlite_master ORDER BY name") == before


def test_database_that_is_away_is_said_without_a_traceback(manage: Manage) -> None:
    (manage.directory / "file").touch()
    manage.configure("sqlalchemy.url", f"sqlite:///{manage.directory}/file/x.sqlite")
    assert "Traceback" not in manage("scrub", status=1).errors
    assert manage.refused("scrub")


# Cleaning up


@pytest.fixture
def messy(manage: Manage) -> Manage:
    """An installation with an expired claim, a live one, an image, and garbage of another."""
    manage("db", "upgrade")
    with manage.serving() as served:
        for name in ("kept", "gone"):
            served.client().post("/images", name.encode(), data_headers(id=name, name=name), status=201)
    manage.sql("UPDATE images SET status = 'deleted', deleted = 1 WHERE id = 'gone'")
    manage.sql("UPDATE image_locations SET state = 'garbage' WHERE image_id = 'gone'")
    (manage.datadir / "staging").mkdir(exist_ok=True)
    for name, lease in (("dead", LONG_AGO), ("alive", "2999-01-01 00:00:00.000000")):
        row = (f"{name}.0123456789abcdef", name, "file", "", 5, "live", lease, "host:1")
        manage.sql("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
        (manage.datadir / "staging" / row[0]).write_bytes(b"bytes")
    return manage


def test_scrub_says_what_is_dead_and_removes_it(messy: Manage) -> None:
    would = messy("scrub", "--dry-run").output.splitlines()
    assert messy.stored() == {"kept", "gone", "alive", "dead"}
    assert len(messy.sql("SELECT * FROM claims")) == 2
    shown = messy("scrub").output.splitlines()
    assert shown[0] == "claim of image dead: file dead.0123456789abcdef"
    assert shown[1].startswith("garbage: file gone.")
    assert would == [*shown[:2], "2 would be cleaned up, 0 failed."]
    assert shown[2:] == ["2 cleaned up, 0 failed."]
    assert messy.stored() == {"kept", "alive"}
    assert messy.sql("SELECT image_id FROM claims") == [("alive",)]
    assert messy.sql("SELECT image_id FROM image_locations") == [("kept",)]
    assert messy("scrub").output == "0 cleaned up, 0 failed.\n"


def test_scrub_leaves_uploads_of_other_servers_alone_and_says_so(manage: Manage) -> None:
    manage("db", "upgrade")
    with manage.serving() as served:
        for name in ("first", "second"):
            served.client().post("/images", headers=meta(id=name, name=name), status=201)
        manage.sql("UPDATE images SET status = 'saving', updated_at = '2026-01-31 09:00:00.000000'")
        assert [image.id for image in uploads_elsewhere(served.catalogue, page=1)] == ["second", "first"]
    said = [
        f"image {name}: saving since 2026-01-31 09:00:00 by a server of Glance; left alone"
        for name in ("second", "first")
    ]
    assert manage("scrub").output.splitlines() == [*said, "0 cleaned up, 0 failed."]
    assert manage.sql("SELECT DISTINCT status FROM images") == [("saving",)]


def test_grace_is_how_long_ago_a_lease_must_have_ended(messy: Manage) -> None:
    assert "dead" not in messy("scrub", "--dry-run", "--grace", "1e9").output
    assert "dead" in messy("scrub", "--dry-run", "--grace", "0").output
    for grace in ("-1", "nan", "inf", "1e300"):
        assert "--grace" in messy.refused("scrub", f"--grace={grace}")
    assert messy.stored() == {"kept", "gone", "alive", "dead"}


@pytest.mark.parametrize("command", ["scrub", "scrub --dry-run", "verify"])
def test_scrub_or_verify_before_the_first_start_marks_nothing(manage: Manage, command: str) -> None:
    manage("db", "upgrade")
    (manage.datadir / "blobs").mkdir(parents=True)
    assert "the first start of a server" in manage.refused(*command.split())
    assert list((manage.datadir / "blobs").iterdir()) == []
    assert manage.sql("SELECT * FROM stores") == []


@pytest.mark.parametrize("command", ["scrub", "scrub --dry-run"])
def test_scrub_looks_for_the_disk_also_when_nothing_is_to_be_removed(manage: Manage, command: str) -> None:
    manage("db", "upgrade")
    with manage.serving():
        pass
    manage.datadir.rename(manage.directory / "disk")
    assert "store adopt" in manage.refused(*command.split())
    assert not manage.datadir.exists()


def test_blob_that_cannot_be_removed_is_said_and_the_rest_is_cleaned(messy: Manage) -> None:
    staged = messy.datadir / "staging/dead.0123456789abcdef"
    staged.unlink()
    staged.mkdir()  # no file, so not even root can unlink it
    assert "1 cleaned up, 1 failed." in messy("scrub", status=1).output
    assert messy.stored() == {"kept", "alive"}
    staged.rmdir()
    assert messy("scrub").output.splitlines()[-1].startswith("1 cleaned up")
    assert messy.sql("SELECT image_id FROM claims") == [("alive",)]


def test_a_server_without_a_database_says_where_it_is(manage: Manage) -> None:
    manage.configure("pyrimage.registry_host", "192.0.2.21")
    manage.configure("sqlalchemy.url", None)
    for action in ("upgrade", "current", "check"):
        assert "run it where a registry is" in manage.refused("db", action)
