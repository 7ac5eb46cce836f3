from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_image, wire
from pyrimage.records import Image, Location
from pyrimage.schemas.dialect import GUIDE, WIRE, Dialect

URI = "http://localhost/images/a"
LOCATION = "file:///images/a"
MOMENT = datetime.fromisoformat("2010-02-03 09:34:01.999999")
WHOLE = make_image(
    id="a",
    name="f17",
    status="deleted",
    size=5120,
    checksum="c" * 32,
    sha256="d" * 64,
    disk_format="qcow2",
    container_format="bare",
    is_public=True,
    owner="tenant-a",
    min_disk=2,
    min_ram=256,
    created_at=MOMENT,
    updated_at=MOMENT,
    deleted_at=MOMENT,
    last_error="the disk was full",
    properties={"os_type": "linux", "empty": ""},
    location=Location("file", "a.0123456789abcdef"),
)
BARE = make_image(id="a")
BRIEF = {
    "id": "a",
    "uri": URI,
    "name": "f17",
    "disk_format": "qcow2",
    "container_format": "bare",
    "size": 5120,
    "checksum": "c" * 32,
}


def headers(dialect: Dialect, image: Image, location: str | None = None) -> dict[str, str]:
    pairs = list(dialect.headers(image, URI, location))
    assert len(dict(pairs)) == len(pairs)
    return {name.removeprefix("x-image-meta-"): value for name, value in pairs}


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
def test_brief_json(dialect: Dialect) -> None:
    assert dialect.brief(WHOLE, URI) == BRIEF


OURS = {"sha256": "d" * 64, "last_error": "the disk was full", "location": LOCATION}


@pytest.mark.parametrize(
    ("dialect", "moment", "more"),
    [(GUIDE, "2010-02-03 09:34:01", OURS), (WIRE, "2010-02-03T09:34:01", {"virtual_size": None})],
)
def test_detailed_json(dialect: Dialect, moment: str, more: dict[str, Any]) -> None:
    assert dialect.detail(WHOLE, URI, LOCATION) == {
        **BRIEF,
        **more,
        "status": "deleted",
        "is_public": True,
        "protected": False,
        "deleted": True,
        "owner": "tenant-a",
        "min_disk": 2,
        "min_ram": 256,
        "created_at": moment,
        "updated_at": moment,
        "deleted_at": moment,
        "properties": {"os_type": "linux", "empty": ""},
    }


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
def test_a_location_that_is_not_to_be_seen_is_no_key(dialect: Dialect) -> None:
    assert "location" not in dialect.detail(WHOLE, URI, None)
    assert "location" not in headers(dialect, WHOLE)


@pytest.mark.parametrize(("dialect", "no_time"), [(GUIDE, ""), (WIRE, None)])
def test_an_absent_time(dialect: Dialect, no_time: str | None) -> None:
    assert dialect.time(None) == no_time
    assert dialect.detail(BARE, URI, None)["deleted_at"] == no_time


EVERY_HEADER = {
    "id": "a",
    "uri": URI,
    "name": "f17",
    "size": "5120",
    "checksum": "c" * 32,
    "sha256": "d" * 64,
    "status": "deleted",
    "protected": "False",
    "deleted": "True",
    "owner": "tenant-a",
    "location": LOCATION,
    "property-os_type": "linux",
    "property-empty": "",
}


def test_headers_of_the_guide() -> None:
    assert headers(GUIDE, WHOLE, LOCATION) == {
        **EVERY_HEADER,
        "disk-format": "qcow2",
        "container-format": "bare",
        "is-public": "True",
        "min-disk": "2",
        "min-ram": "256",
        **dict.fromkeys(("created_at", "updated_at", "deleted_at"), "2010-02-03 09:34:01"),
    }


def test_headers_of_the_wire() -> None:
    assert headers(WIRE, WHOLE, LOCATION) == {
        **EVERY_HEADER,
        "disk_format": "qcow2",
        "container_format": "bare",
        "is_public": "True",
        "min_disk": "2",
        "min_ram": "256",
        **dict.fromkeys(("created_at", "updated_at", "deleted_at"), "2010-02-03T09:34:01"),
    }


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
def test_nulls_are_no_headers(dialect: Dialect) -> None:
    names = {name.replace("-", "_") for name in headers(dialect, BARE)}
    assert names.isdisjoint({"name", "checksum", "sha256", "disk_format", "container_format", "owner", "location"})
    assert ("deleted_at" in names) == (dialect is GUIDE)


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a\r\nb"},
        {"owner": "a\0"},
        {"properties": {"key": "a\x85b"}},
        {"properties": {"key\r\n": "a"}},
        {"properties": {"key: x": "a"}},
        {"properties": {"ключ": "a"}},
        {"properties": {"key ": "a"}},
    ],
)
def test_what_could_break_the_headers_is_left_out(fields: dict[str, Any], dialect: Dialect) -> None:
    """S52."""
    assert headers(dialect, make_image(id="a", created_at=MOMENT, updated_at=MOMENT, **fields)) == headers(
        dialect, make_image(id="a", created_at=MOMENT, updated_at=MOMENT)
    )


@given(st.text(), st.text())
def test_no_stored_text_breaks_the_headers(key: str, value: str) -> None:
    """S52."""
    image = make_image(name=value, owner=value, properties={key: value})
    for name, sent in WIRE.headers(image, URI, None):
        assert not set(name + sent) & set("\r\n\0")
        assert name.isascii()
        sent.encode("latin-1")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_values_go_out_as_utf_8(text: str) -> None:
    assert headers(WIRE, make_image(properties={"k": text}))["property-k"] == wire(text)
