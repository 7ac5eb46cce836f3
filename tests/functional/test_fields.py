"""What each field of an image accepts and refuses: a refusal names the field, and everything stored stays as it was."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import (
    OCTETS,
    data_headers,
    detail,
    error_of,
    md5,
    meta,
    reserve,
    sha256,
    stored,
    upload,
    wire,
)

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]
BOTH = ["/images", "/v1/images"]
DATA = b"bytes"
FLAGS = ("is_public", "protected")
NUMBERS = ("min_disk", "min_ram")
TIMES = {
    "2001-02-03T04:05:06": "2001-02-03T04:05:06",
    "2001-02-03 04:05:06.789": "2001-02-03T04:05:06",
    "2001-02-03T04:05:06Z": "2001-02-03T04:05:06",
    "2001-02-03T04:05:06+02:00": "2001-02-03T02:05:06",
    "1900-01-01": "1900-01-01T00:00:00",
}
IGNORED = {"status": "queued", "deleted": False, "deleted_at": None, "virtual_size": None, "last_error": None}

# A field, what is sent, and what the detailed lists show of it then.
ACCEPTED: list[tuple[str, Any, Any]] = [
    *(("disk_format", word, word) for word in ("raw", "iso", "vhd", "vhdx", "vdi", "qcow2", "vmdk", "ploop")),
    *(("container_format", word, word) for word in ("bare", "ovf", "ova", "docker")),
    *((field, word, True) for field in FLAGS for word in ("true", "TRUE", "1", "Yes", "y", "t", "on")),
    *((field, word, False) for field in FLAGS for word in ("false", "FALSE", "0", "No", "n", "f", "off", "None", "")),
    *(("size", text, int(text)) for text in ("1", "007", str(2**63 - 1))),
    *((field, number, number) for field in NUMBERS for number in (0, 1, 2**31 - 1)),
    *((field, "", 0) for field in ("size", *NUMBERS)),
    *((field, "", None) for field in ("name", "checksum", "sha256", "disk_format", "container_format", "owner")),
    *((field, wire("雲" * 255), "雲" * 255) for field in ("name", "owner")),
    ("owner", "None", None),
    ("checksum", "AB" * 16, "ab" * 16),
    ("sha256", "AB" * 32, "ab" * 32),
    *((field, sent, shown) for field in ("created_at", "updated_at") for sent, shown in TIMES.items()),
    *(("id", text, text) for text in ("a", "0", "A.b_c-D", "a" * 64, "71c675ab-d94f-49cd-a114-e12490b328d9")),
    *((field, value, IGNORED[field]) for field in IGNORED for value in ("", "None", "5", "True", "anything")),
]


@pytest.mark.parametrize(("field", "sent", "shown"), ACCEPTED)
def test_a_value_is_accepted(field: str, sent: Any, shown: Any, testapp: TestApp) -> None:
    assert detail(testapp, reserve(testapp, **{field: sent}))[field] == shown


# Fields, what the message says beside their headers' names, and values.
REFUSED: list[tuple[list[str], str, list[str]]] = [
    (["id"], "1 to 64 letters", ["..", "../x", "a/b", "a\\b", "-1", ".a", "_a", "a b", "é", "a" * 65]),
    (["id"], "not the word detail", ["detail"]),
    (["name", "owner"], "at most 255", ["n" * 256]),
    (["disk_format"], "Invalid disk format", ["floppy", "RAW", "raw ", "raw,iso", "bare"]),
    (["container_format"], "Invalid container format", ["box", "OVF", "qcow2"]),
    (["size"], "a whole number", ["-1", "+1", "1.0", "1e3", "0x10", "1_000", "٣", "None", "5 ", "5,5"]),
    (["size"], "a whole number", [str(2**63), "9" * 400, "0" * 20]),
    (["min_disk", "min_ram"], "0 to 2147483647", ["-1", "2147483648", "1_0", "x"]),
    (["checksum"], "32 hexadecimal digits", ["x" * 32, "a" * 31, "a" * 33]),
    (["sha256"], "64 hexadecimal digits", ["x" * 64, "a" * 32, "a" * 65]),
    (["is_public", "protected"], "true or false", ["maybe", "2", "none", "true,"]),
    (["store"], "not a store here; try file", ["rbd", "http", "FILE"]),
    (["location"], "not supported", ["http://host/x", "file:///etc/passwd", "swift+config://ref/c/o", ""]),
    (["created_at", "updated_at"], "1900", ["yesterday", "1899-12-31", "12:00"]),
    (["no_such_thing", "propertyx"], "not a known header", ["x", ""]),
]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [(field, value, says) for fields, says, values in REFUSED for field in fields for value in values],
)
def test_a_value_is_refused_and_nothing_stored(
    field: str, value: str, says: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S26 for ids; S39: a refused POST leaves the rows as they were."""
    before = stored(installation)
    for collection, data in (("/images", b""), ("/v1/images", DATA)):
        headers = {"Content-Type": OCTETS, **meta(name="f17"), **meta(**{field: wire(value)})}
        message = error_of(testapp.post(collection, data, headers=headers, status=400))
        assert f"x-image-meta-{field.replace('_', '-')}" in message
        assert says in message
    assert stored(installation) == before


# Headers and data that contradict each other or the service, and what the message says.
CONTRADICTIONS: list[tuple[dict[str, Any], bytes, str]] = [
    ({"size": 6}, DATA, "x-image-meta-size: 6 bytes are announced, but Content-Length is 5"),
    ({"size": 0}, DATA, "x-image-meta-size: 0 bytes are announced, but Content-Length is 5"),
    ({"checksum": md5(b"other")}, DATA, f"x-image-meta-checksum: {md5(b'other')} was announced"),
    ({"sha256": sha256(b"other")}, DATA, f"x-image-meta-sha256: {sha256(b'other')} was announced"),
    ({"size": 0, "checksum": md5(DATA)}, b"", "not the digest of an empty image"),
    ({"size": 0, "sha256": sha256(DATA)}, b"", "not the digest of an empty image"),
    ({"disk_format": "ami", "container_format": "bare"}, b"", "not ami with bare"),
    ({"disk_format": "raw", "container_format": "aki"}, DATA, "not raw with aki"),
    ({"disk_format": "ari", "container_format": "ami"}, DATA, "not ari with ami"),
]


@pytest.mark.parametrize(("fields", "data", "says"), CONTRADICTIONS, ids=lambda value: str(value)[:40])
def test_a_contradiction_is_refused_and_nothing_stored(
    fields: dict[str, Any], data: bytes, says: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S39; S17 for the body."""
    before = stored(installation)
    for collection in BOTH:
        headers = data_headers(name="f17", **fields)
        assert says in error_of(testapp.post(collection, data, headers=headers, status=400))
    assert stored(installation) == before


@pytest.mark.parametrize("data", [b"", b"byte"])
def test_a_body_that_ends_early_is_refused_and_nothing_stored(
    data: bytes, testapp: TestApp, installation: "Installation"
) -> None:
    """S17: the client hung up."""
    for method, target in (("PUT", reserve(testapp)), ("POST", "/v1/images")):
        sent = {"body_file": io.BytesIO(data), "content_length": 5, "headers": data_headers()}
        answer = testapp.request(target, method=method, **sent, status=400)
        assert f"5 bytes were announced, but {len(data)} came" in error_of(answer)
    after = stored(installation)
    assert (len(after["images"]), after["stored"], after["claims"]) == (1, [], [])


@pytest.mark.parametrize("length", [str(2**63), "9" * 400])
def test_an_absurd_content_length_is_refused(length: str, testapp: TestApp) -> None:
    environ = {"CONTENT_LENGTH": length}
    answer = testapp.request("/v1/images", method="POST", headers=data_headers(), environ=environ, status=400)
    assert "Content-Length is more than" in error_of(answer)


@pytest.mark.parametrize("uri", ["http://example.org/x", "file:///etc/passwd", ""])
@pytest.mark.parametrize("data", [b"", DATA])
def test_copy_from_is_refused_and_nothing_stored(
    data: bytes, uri: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S39: two sources at once, too."""
    path = reserve(testapp)
    before = stored(installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        headers = {"x-glance-api-copy-from": uri, **data_headers(name="f17")}
        answer = testapp.request(target, method=method, body=data, headers=headers, status=400)
        assert "x-glance-api-copy-from" in error_of(answer)
    assert stored(installation) == before


def test_all_that_is_wrong_is_told_at_once(testapp: TestApp) -> None:
    headers = {
        **meta(name="n" * 256, size="x", disk_format="floppy", is_public="maybe", no_such_thing="x", store="rbd"),
        **meta(properties={"a-b": "1", "a.b": "2"}, owner="a\nb", min_ram="\xff"),
        "Content-Type": "text/plain",
    }
    message = error_of(testapp.post("/v1/images", DATA, headers=headers, status=400))
    fields = ("name", "size", "disk-format", "is-public", "no-such-thing", "store", "property-", "owner")
    assert [name for name in fields if f"x-image-meta-{name}" not in message] == []
    assert "min_ram is not UTF-8" in message
    assert "Content-Type" in message
    assert "x-image-meta-name is required" in error_of(testapp.post("/images", headers=meta(size="x"), status=400))
    headers = {**meta(size=6, min_disk="x", no_such_thing="x"), "x-glance-registry-purge-props": "maybe"}
    message = error_of(testapp.put(upload(testapp), headers=headers, status=400))
    named_too = ("x-image-meta-size", "x-image-meta-min-disk", "x-image-meta-no-such-thing", "registry-purge-props")
    assert [name for name in named_too if name not in message] == []


def test_an_empty_size_announces_nothing(testapp: TestApp) -> None:
    for data, status in ((b"", "queued"), (DATA, "active")):
        made = testapp.post("/v1/images", data, headers=data_headers(size=""), status=201)
        assert made.json["image"]["status"] == status


def test_the_one_store_may_be_named(testapp: TestApp) -> None:
    testapp.put(reserve(testapp, store="file"), DATA, headers=data_headers(store="file"), status=200)


FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.mark.parametrize("fields", [{}, {"disk_format": "raw"}, {"container_format": "bare"}])
def test_formats_may_be_required_with_data(fields: dict[str, str], install_with: Install) -> None:
    app = install_with(require_formats="true").client()
    message = error_of(app.post("/v1/images", DATA, headers=data_headers(**fields), status=400))
    assert "pyrimage.require_formats" in message
    app.post("/v1/images", headers=meta(size=0, **fields), status=400)
    path = reserve(app, **fields)  # no data yet
    app.put(path, DATA, headers=data_headers(), status=400)
    app.put(path, DATA, headers=data_headers(**FORMATS), status=200)
    app.put(reserve(app, disk_format="ami"), DATA, headers=data_headers(), status=200)  # known already
