"""``pyrimage-manage scrub --deep``: it finds what no row knows, and removes nothing else, nothing unasked."""

import os
from pathlib import Path

import pytest

from factories import data_headers
from managed import Manage

DAY = 86_400  # seconds
LONG_AGO = "2001-01-01 00:00:00.000000"
NAME = "0123456789abcdef"


def leave(manage: Manage, image_id: str, *, age: float = 3 * DAY, place: str = "blobs/ef") -> Path:
    """Leave a blob that no row knows."""
    path = manage.datadir / place / f"{image_id}.{NAME}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"bytes")
    make_older(path, age)
    return path


def make_older(path: Path, age: float) -> None:
    os.utime(path, (path.stat().st_mtime - age,) * 2)


@pytest.fixture
def used(manage: Manage) -> Manage:
    """An installation whose database knows four blobs of some age: two images, a dead upload, and garbage."""
    manage("db", "upgrade")
    with manage.serving() as served:
        for name in ("kept", "other", "gone"):
            served.client().post("/images", name.encode(), data_headers(id=name, name=name), status=201)
    manage.sql("UPDATE images SET status = 'deleted', deleted = 1 WHERE id = 'gone'")
    manage.sql("UPDATE image_locations SET state = 'garbage' WHERE image_id = 'gone'")
    leave(manage, "dead", place="staging")
    manage.sql(
        "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(f"dead.{NAME}", "dead", "file", "", 5, "live", LONG_AGO, "host:1"),
    )
    for path in (manage.datadir / "blobs").glob("*/*"):
        make_older(path, 3 * DAY)
    return manage


KNOWN = {"kept", "other", "gone", "dead"}


def test_what_no_row_knows_is_told_and_stays_unless_it_is_to_be_removed(used: Manage) -> None:
    path = leave(used, "orphan")
    leave(used, "staged", place="staging")
    line, *lines = used("scrub", "--deep").output.splitlines()
    assert line == f"unknown: file orphan.{NAME}, 72 hours old, {path.as_uri()}"
    assert lines[0].startswith(f"unknown: file staged.{NAME}, 72 hours old, file:///")
    assert lines[1:] == ["file: 2 unknown blobs found; 0 too young, 4 known."]
    assert used("scrub", "--deep", "--dry-run").output.splitlines() == [line, *lines]
    assert used.stored() == {*KNOWN, "orphan", "staged"}

    assert used("scrub", "--deep", "--remove").output.splitlines() == [
        *(line, lines[0]),
        "file: 2 unknown blobs removed, 0 failed; 0 too young, 4 known.",
    ]
    assert used.stored() == KNOWN
    assert used("scrub", "--deep").output == "file: 0 unknown blobs found; 0 too young, 4 known.\n"


def test_what_rows_know_is_left_to_the_usual_scrub(used: Manage) -> None:
    used("scrub", "--deep", "--remove")
    assert used.stored() == KNOWN
    used("scrub")
    assert used.stored() == {"kept", "other"}
    assert used("scrub", "--deep").output == "file: 0 unknown blobs found; 0 too young, 2 known.\n"


def test_what_is_younger_than_a_day_or_what_is_said_stays(used: Manage) -> None:
    leave(used, "new", age=DAY - 60)
    leave(used, "old", age=DAY + 60)
    assert used("scrub", "--deep", "--remove").output.endswith(
        "file: 1 unknown blobs removed, 0 failed; 1 too young, 4 known.\n"
    )
    assert used.stored() == {*KNOWN, "new"}
    used("scrub", "--deep", "--remove", "--age", str(DAY))
    assert used.stored() == {*KNOWN, "new"}
    used("scrub", "--deep", "--remove", "--age", str(DAY - 120))
    assert used.stored() == KNOWN
    for age in ("-1", "nan", "1e300"):
        assert "--age" in used.refused("scrub", "--deep", f"--age={age}")


def test_one_key_in_two_places_is_one_blob_as_young_as_the_younger(used: Manage) -> None:
    leave(used, "twice")
    leave(used, "twice", place="staging", age=60)
    assert used("scrub", "--deep").output == "file: 0 unknown blobs found; 1 too young, 4 known.\n"


@pytest.mark.parametrize("age", [3 * DAY, 60])
def test_nothing_is_removed_where_most_is_unknown_unless_that_is_forced(used: Manage, age: float) -> None:
    """Another installation's bytes, or ours with an old database: a young blob is as foreign as an old one."""
    leave(used, "old")
    for number in range(4):
        leave(used, f"strange{number}", age=age)
    before = used.stored()
    warned = used("scrub", "--deep")
    assert "It may belong to another installation" in warned.errors
    refused = used("scrub", "--deep", "--remove", status=1)
    assert refused.output == warned.output
    assert refused.errors in warned.errors
    assert used.stored() == before
    used("scrub", "--deep", "--remove", "--force")
    assert used.stored() == {name for name in before if age < DAY or name in KNOWN} - {"old"}


def test_a_key_that_rows_name_for_another_store_is_known(used: Manage) -> None:
    """The store was given another name in the settings, say."""
    used.sql("UPDATE image_locations SET store = 'disk'")
    assert used("scrub", "--deep").output == "file: 0 unknown blobs found; 0 too young, 4 known.\n"


def test_blob_that_cannot_be_removed_is_said_and_the_others_go(used: Manage) -> None:
    for name in ("first", "stuck", "third"):
        leave(used, name)
    (used.datadir / "staging" / f"stuck.{NAME}").mkdir()  # no file, so not even root can unlink it
    told = used("scrub", "--deep", "--remove", status=1)
    assert f"unknown: file stuck.{NAME}" in told.errors
    assert "not removed. The file store cannot be written." in told.errors
    assert told.output.endswith("file: 2 unknown blobs removed, 1 failed; 0 too young, 4 known.\n")
    assert used.stored() == {*KNOWN, "stuck"}


@pytest.mark.parametrize(
    "words", ["--remove", "--force", "--deep --remove --dry-run", "--deep --force --remove --dry-run"]
)
def test_options_that_say_nothing_or_the_contrary_are_refused(used: Manage, words: str) -> None:
    assert "scrub --deep" in used.refused("scrub", *words.split())
    assert used.stored() == KNOWN


def test_a_store_that_is_away_fails_and_the_others_are_looked_into(used: Manage) -> None:
    used.configure("pyrimage.stores", "file, fast:file")
    used.configure("pyrimage.file.filesystem_store_datadir", str(used.datadir))
    used.configure("pyrimage.fast.filesystem_store_datadir", str(used.directory / "fast"))
    used.configure("pyrimage.filesystem_store_datadir", None)
    with used.serving():
        pass
    leave(used, "orphan")
    used.datadir.rename(used.directory / "away")
    told = used("scrub", "--deep", status=1)
    assert told.output == "fast: 0 unknown blobs found; 0 too young, 0 known.\n"
    *_, last = told.errors.splitlines()
    assert last.startswith("file: The file store is not there.")
    assert last.endswith("store adopt file")
    (used.directory / "away").rename(used.datadir)
    assert used("scrub", "--deep").output.endswith(
        "file: 1 unknown blobs found; 0 too young, 4 known.\nfast: 0 unknown blobs found; 0 too young, 0 known.\n"
    )
