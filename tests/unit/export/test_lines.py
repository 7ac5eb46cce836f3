"""Lines of an export that anybody may have written: what cannot be an image is refused, in words that say why."""

import json
import re
from typing import Any

import pytest

from factories import sha256
from pyrimage.errors import Invalid
from pyrimage.export.lines import parse_end, parse_entry, parse_header, render_entry
from servers.pyrimage import ROOT

TIMES = {"created_at": "2026-01-31T09:00:00.123456", "updated_at": "2026-01-31T09:00:00.000001"}
FILE = {"store": "file", "key": "bad.0123456789abcdef"}
DIGEST = sha256(b"bytes")

BAD: list[tuple[dict[str, Any], str]] = [
    ({"id": "../etc"}, "id: '../etc' is not an image id."),
    ({"id": None}, "id: None is not an image id."),
    ({"name": 5}, "name: cannot be 5."),
    ({"name": "a\nb"}, r"name: cannot be 'a\nb'."),
    ({"name": "x" * 256}, f"name: cannot be '{'x' * 99}...."),
    ({"name": "\ud800"}, r"name: cannot be '\ud800'."),
    ({"last_error": "\0"}, r"last_error: cannot be '\x00'."),
    ({"status": "sleeping"}, "status: 'sleeping' is none; there are active, deleted, killed, "),
    ({"size": True}, "size: cannot be True."),
    ({"size": -1}, "size: cannot be -1."),
    ({"size": 2**63}, f"size: cannot be {2**63}."),
    ({"size": None}, "size: cannot be None."),
    ({"min_ram": 1.5}, "min_ram: cannot be 1.5."),
    ({"is_public": "true"}, "is_public: cannot be 'true'."),
    ({"checksum": "0" * 31}, "checksum: cannot be"),
    ({"sha256": "G" * 64}, "sha256: cannot be"),
    ({"disk_format": "floppy"}, "disk_format: cannot be 'floppy'."),
    ({"disk_format": ["raw"]}, "disk_format: cannot be ['raw']."),
    ({"created_at": None}, "created_at: cannot be None."),
    ({"created_at": "yesterday"}, "created_at: cannot be 'yesterday'."),
    ({"created_at": "1899-12-31T00:00:00"}, "created_at: cannot be"),
    ({"updated_at": "2026-01-31T09:00:00+01:00"}, "updated_at: cannot be"),
    ({"properties": []}, "properties: must be an object of texts."),
    ({"properties": {"OS": "x"}}, "properties: 'OS': a key is 1 to 255 of a-z, 0-9 and _."),
    ({"properties": {"os": "x\r\ny"}}, r"properties: os: cannot be 'x\r\ny'."),
    ({"properties": {"os": 1}}, "properties: os: cannot be 1."),
    ({"members": ["b"]}, "members: must be an object of projects"),
    ({"members": {"a/b": True}}, "members: 'a/b': cannot be True."),
    ({"members": {"b": 1}}, "members: 'b': cannot be 1."),
    ({"location": "file:///etc/passwd"}, "location: must be null,"),
    ({"location": {"store": "file", "key": "a b"}}, "location: must be null,"),
    ({"location": {"store": "../x", "key": "a"}}, "location: must be null,"),
    ({"location": {"url": "rbd://a", "elsewhere": False}}, "location: must be null,"),
    ({"location": {**FILE, "owned": True}}, "location: must be null,"),
    ({"status": "active", "size": 5}, "location: an active image has one unless its size is 0."),
    ({"status": "active", "location": FILE}, "location: an active image has one unless its size is 0."),
    (
        {"status": "queued", "size": 5, "location": FILE},
        "location: an image that is queued, of 5 bytes, has none.",
    ),
    ({"status": "deleted"}, "deleted: must be true; the image's status says so."),
    ({"status": "deleted", "deleted": True}, "deleted_at: is missing; the image is deleted."),
    ({"blob": DIGEST}, "blob: must be the sha256 of an image whose bytes are the service's own."),
    ({"blob": f"../../{DIGEST}"}, "blob: must be 64 hexadecimal digits"),
    (
        {"status": "active", "size": 5, "location": FILE, "sha256": "0" * 64, "blob": DIGEST},
        "blob: must be the sha256",
    ),
    ({"colour": "red"}, "'colour' is not known to this release."),
]


def line(**fields: Any) -> bytes:
    return json.dumps({"id": "bad", **TIMES, **fields}).encode()


@pytest.mark.parametrize(("fields", "problem"), BAD)
def test_what_cannot_be_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_entry(line(**fields))
    assert str(refused.value).startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"no JSON", "The line is not JSON."),
        (b"[" * 200_000, "The line is not JSON."),
        (b'{"id": ' + b"9" * 5000 + b"}", "The line is not JSON."),
        (b"\xff", "The line is not JSON."),
        (b"", "The line is not JSON."),
        (b"[1]", "The line is no JSON object."),
    ],
    ids=["word", "brackets", "digits", "bytes", "empty", "list"],
)
def test_what_is_no_object_is_refused(text: bytes, problem: str) -> None:
    for parse in (parse_entry, parse_header):
        with pytest.raises(Invalid) as refused:
            parse(text)
        assert str(refused.value) == problem
    assert parse_end(text) is None


def test_fields_that_a_line_does_not_have_are_those_of_an_image_that_nobody_set_them_for() -> None:
    """So a later release, which knows more fields, reads the lines of this one."""
    entry = parse_entry(line())
    assert (entry.image.status, entry.image.size, entry.image.name) == ("queued", 0, None)
    assert (entry.members, entry.image.properties, entry.url, entry.blob) == ({}, {}, None, None)


def test_the_lines_that_the_page_shows_are_read() -> None:
    (shown,) = re.findall("```json\n(.*?)```", (ROOT / "docs/export.md").read_text(encoding="utf-8"), re.DOTALL)
    header, image, end = shown.encode().splitlines(keepends=True)
    parse_header(header)
    assert render_entry(parse_entry(image)) == image
    assert parse_end(end) == 1


def test_empty_text_is_none() -> None:
    image = parse_entry(line(name="", owner="", disk_format="", last_error="")).image
    assert (image.name, image.owner, image.disk_format, image.last_error) == (None, None, None, "")
