"""``pyrimage-manage export`` and ``import``: what they print, and what they take of a directory that anybody wrote."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports import blob_of
from factories import data_headers, files_below, meta, wire
from managed import Manage
from pyrimage.errors import ExportUnusable
from pyrimage.export.directory import Export
from pyrimage.export.lines import MAX_LINE

NONE = "0 images are added, with 0 bytes that were copied; "


@pytest.fixture
def full(manage: Manage) -> Manage:
    """An installation with an image of each sort."""
    manage("db", "upgrade")
    with manage.serving() as served:
        client = served.client()
        client.post("/images", b"bytes", data_headers(id="f17", name="f17", properties={"os": "linux"}), status=201)
        client.put_json("/images/f17/members/tenant-b", {"member": {"can_share": True}}, status=204)
        client.post("/images", b"empty", data_headers(id="gone", name="gone"), status=201)
        client.delete("/images/gone", status=200)
        client.post("/images", headers=meta(id="queued", name=wire("Ærøskøbing ☃")), status=201)
    return manage


@pytest.fixture
def other(manage: Manage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command with the ini of another installation, which has not been started yet."""
    directory = tmp_path / "other"
    directory.mkdir()
    other = Manage(directory, capsys)
    other("-c", other.ini, "db", "upgrade")

    def run(*arguments: str | Path, status: int = 0) -> Any:
        return other("-c", other.ini, *arguments, status=status)

    return run


def test_a_catalogue_goes_out_and_into_another_installation(full: Manage, other: Callable[..., Any]) -> None:
    assert full("export", "out") == (
        0,
        "3 images are exported, 0 of them failed; 0 blobs of 0 bytes were copied.\n",
        "",
    )
    assert files_below(Path("out")) == ["images.jsonl"]
    done = other("import", "out", status=1)
    assert done.output.splitlines() == [
        "f17: Its bytes are not in the export; make it with --data, or see --adopt.",
        "2 images are added, with 0 bytes that were copied; 0 were there already, 0 are there and differ, 1 failed.",
    ]
    assert full("export", "--data", "out").output.endswith("0 of them failed; 1 blobs of 5 bytes were copied.\n")
    assert blob_of(Path("out"), b"bytes").read_bytes() == b"bytes"
    assert full("export", "--data", "out").output.endswith("0 of them failed; 0 blobs of 0 bytes were copied.\n")
    done = other("import", "out")
    added = (
        "1 images are added, with 5 bytes that were copied; 2 were there already, 0 are there and differ, 0 failed.\n"
    )
    assert (done.output, done.errors) == (added, "")
    assert other("verify").output == "1 images are whole, 0 are not.\n"
    full.sql("UPDATE images SET name = 'f18' WHERE id = 'f17'")
    full("export", "--data", "out")
    assert other("import", "out", status=1).output.splitlines() == [
        "f17: It is there, and differs: name.",
        f"{NONE}2 were there already, 1 are there and differ, 0 failed.",
    ]


def test_limits_do_not_hold_up_an_import(full: Manage, other: Callable[..., Any], tmp_path: Path) -> None:
    full("export", "--data", "out")
    ini = tmp_path / "other/pyrimage.ini"
    limits = ("image_property_quota = 0", "image_member_quota = 0", "user_image_quota = 0", "user_storage_quota = 1")
    added = "\n".join(f"pyrimage.{limit}" for limit in limits)
    text = ini.read_text(encoding="utf-8").replace("pyrimage.image_property_quota = 64", "")
    ini.write_text(text.replace("[app:main]", f"[app:main]\n{added}", 1), encoding="utf-8")
    assert other("import", "out").output.startswith("3 images are added, ")


def test_adopting_says_that_the_old_database_must_not_be_used(full: Manage) -> None:
    full("export", "out")
    done = full("import", "--adopt", "out")
    assert done.output == f"{NONE}3 were there already, 0 are there and differ, 0 failed.\n"
    assert done.errors.startswith("The bytes belong to this database from now on. No server, and no scrub, may run")


def test_import_is_not_for_who_asks_a_registry(full: Manage) -> None:
    full.configure("pyrimage.registry_host", "127.0.0.1")
    full.configure("pyrimage.registry_secret", "k1:0123456789abcdef0123456789abcdef")
    assert full.refused("import", "out").startswith("import writes into the database itself")


def test_a_terminal_is_told_how_far_it_is(full: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert full("export", "--data", "out").errors.endswith("\r\x1b[K0 images, 0 MB copied\r\x1b[K")
    assert full("import", "out").errors.endswith("\r\x1b[K1 of 3 images, 0 MB copied\r\x1b[K")


def test_export_says_what_scrub_would_remove(full: Manage) -> None:
    full.sql("UPDATE image_locations SET state = 'garbage'")
    full.sql("UPDATE images SET status = 'deleted', deleted = 1, deleted_at = updated_at")
    assert full("export", "out").errors.endswith("run: pyrimage-manage scrub\n")
    full("scrub")
    assert full("export", "out").errors == ""


def test_damaged_bytes_are_named_with_their_place(full: Manage) -> None:
    (path,) = (full.datadir / "blobs").glob("*/f17.*")
    path.unlink()
    first, last = full("export", "--data", "out", status=1).output.splitlines()
    assert first == f"f17 'f17': The image's bytes are missing from the store. {path.as_uri()}"
    assert last.startswith("3 images are exported, 1 of them failed; ")


def test_directory_that_cannot_be_written_is_named(full: Manage) -> None:
    Path("out").touch()
    assert full.refused("export", "out") == "out cannot be written: File exists."
    assert full.refused("export", "out/below").startswith("out/below cannot be written: Not a directory.")


# -- what anybody may have written


def write(*lines: dict[str, Any] | bytes, end: int | None = None) -> None:
    """Write an export whose lines are these."""
    Path("out").mkdir(exist_ok=True)
    header = {"format": "pyrimage-export", "version": 1}
    all_lines = [header, *lines, {"images": len(lines) if end is None else end}]
    spelled = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in all_lines]
    Path("out/images.jsonl").write_bytes(b"".join(line + b"\n" for line in spelled))


TIMES = {"created_at": "2026-01-31T09:00:00.123456", "updated_at": "2026-01-31T09:00:00.000001"}
GOOD = {"id": "good", **TIMES}


def test_lines_that_cannot_be_images_are_named_or_numbered_and_the_rest_goes_on(
    manage: Manage, other: Callable[..., Any]
) -> None:
    huge = b"{" + b" " * MAX_LINE + b"}"
    write({"id": "bad", **TIMES, "colour": "red"}, b"no JSON", huge, {"id": "../x"}, b'{"images": 1}', GOOD)
    assert other("import", "out", status=1).output.splitlines() == [
        "bad: 'colour' is not known to this release.",
        "line 3: The line is not JSON.",
        "line 4: The line is too long.",
        "line 5: id: '../x' is not an image id.",
        "line 6: 'images' is not known to this release.",
        "1 images are added, with 0 bytes that were copied; 0 were there already, 0 are there and differ, 5 failed.",
    ]


def test_image_that_is_listed_twice_is_added_once(manage: Manage, other: Callable[..., Any]) -> None:
    write(GOOD, {**GOOD, "name": "another"}, GOOD)
    assert other("import", "out", status=1).output.splitlines() == [
        "good: It is there, and differs: name.",
        "1 images are added, with 0 bytes that were copied; 1 were there already, 1 are there and differ, 0 failed.",
    ]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 20)


def link(path: Path) -> None:
    path.rename("elsewhere")
    path.symlink_to(Path("elsewhere").absolute())


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "out/images.jsonl cannot be read: No such file or directory."),
        (link, "out/images.jsonl is not a file."),
        (pipe, "out/images.jsonl is not a file."),
        (cut, "out/images.jsonl is cut short: its last line should tell how many images it lists."),
        (lambda path: path.write_bytes(b""), "out/images.jsonl is cut short: its last line should tell how many"),
        (lambda path: write(GOOD, end=2), "out/images.jsonl should list 2 images, but lists 1."),
        (lambda path: path.write_text('{"images": 5}\n'), "out/images.jsonl: It is no export of pyrimage."),
        (lambda path: path.write_text("\n"), "out/images.jsonl: The line is not JSON."),
        (
            lambda path: path.write_text('{"format": "pyrimage-export", "version": 2}\n'),
            "out/images.jsonl: It is of version 2; this release reads version 1.",
        ),
    ],
    ids=["missing", "link", "pipe", "cut", "empty", "count", "other", "blank", "version"],
)
def test_export_that_is_not_whole_is_refused_before_anything_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(GOOD)
    damage(Path("out/images.jsonl"))
    with pytest.raises(ExportUnusable) as refused:
        Export(Path("out"))
    assert str(refused.value).startswith(problem)
