"""Bad input to a POST, and to a PUT of data: a clear 4xx, and everything stored stays as it was."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import (
    OCTETS,
    data_headers,
    error_of,
    md5,
    meta,
    reserve,
    send_chunked,
    sha256,
    stored,
    upload,
)

if TYPE_CHECKING:
    from conftest import Installation

BOTH = ["/images", "/v1/images"]
DATA = b"bytes"

# Fields, what the message says beside their headers' names, and values.
BAD_FIELDS: list[tuple[list[str], str, list[str]]] = [
    (["id"], "1 to 64 letters", ["..", "../x", "a/b", "a\\b", "-1", ".a", "_a", "a b", "é", "a" * 65, "a" * 300]),
    (["id"], "not the word detail", ["detail"]),
    (["name", "owner"], "at most 255", ["n" * 256]),
    (["disk_format"], "qcow2, ploop", ["floppy", "RAW", "raw ", "raw,iso", "bare"]),
    (["container_format"], "ova, docker", ["box", "OVF", "qcow2"]),
    (["size"], "a whole number", ["-1", "+1", "1.0", "1e3", "0x10", "1_000", "٣", "five", "None", "5 ", "5,5"]),
    (["size"], "a whole number", [str(2**63), "9" * 400, "0" * 20]),
    (["min_disk", "min_ram"], "0 to 2147483647", ["-1", "2147483648", "1_0", "x"]),
    (["checksum"], "32 hexadecimal digits", ["x" * 32, "a" * 31, "a" * 33, "a" * 400]),
    (["sha256"], "64 hexadecimal digits", ["x" * 64, "a" * 32, "a" * 65]),
    (["is_public", "protected"], "true or false", ["maybe", "2", "none", "true,"]),
    (["store"], "not a store here; try file", ["swift", "s3", "http", "FILE", "glance"]),
    (["location"], "not supported", ["http://host/x", "file:///etc/passwd", "swift+config://ref/c/o", ""]),
    (["created_at", "updated_at"], "1900", ["yesterday", "1899-12-31", "12:00"]),
    (["no_such_thing", "propertyx"], "not a known header", ["x", ""]),
]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [(field, value, says) for fields, says, values in BAD_FIELDS for field in fields for value in values],
)
@pytest.mark.parametrize("collection", BOTH)
def test_a_bad_field_is_refused_and_nothing_stored(
    collection: str, field: str, value: str, says: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S26 for ids; S39: a refused POST leaves the rows as they were."""
    upload(testapp, name="other")
    before = stored(installation)
    headers = {**meta(name="f17"), **meta(**{field: value.encode().decode("latin-1")})}
    for message in (
        error_of(testapp.post(collection, headers=headers, status=400)),
        error_of(testapp.post(collection, DATA, headers={"Content-Type": OCTETS, **headers}, status=400)),
    ):
        assert f"x-image-meta-{field.replace('_', '-')}" in message
        assert says in message
    assert stored(installation) == before


# Headers and data of a POST that contradict each other or the service, and what the message says.
REFUSED: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "short body": ({"size": 6}, DATA, "x-image-meta-size: 6 bytes are announced, but Content-Length is 5"),
    "long body": ({"size": 4}, DATA, "x-image-meta-size: 4 bytes are announced, but Content-Length is 5"),
    "size 0 with data": ({"size": 0}, DATA, "x-image-meta-size: 0 bytes are announced, but Content-Length is 5"),
    "wrong md5": ({"checksum": md5(b"other")}, DATA, f"x-image-meta-checksum: {md5(b'other')} was announced"),
    "wrong sha256": ({"sha256": sha256(b"other")}, DATA, f"x-image-meta-sha256: {sha256(b'other')} was announced"),
    "digest of an empty image": ({"size": 0, "checksum": md5(DATA)}, b"", "not the digest of an empty image"),
    "sha256 of an empty image": ({"size": 0, "sha256": sha256(DATA)}, b"", "not the digest of an empty image"),
    "amazon and another": ({"disk_format": "ami", "container_format": "bare"}, b"", "not ami with bare"),
    "another and amazon": ({"disk_format": "raw", "container_format": "aki"}, DATA, "not raw with aki"),
    "two amazons": ({"disk_format": "ari", "container_format": "ami"}, DATA, "not ari with ami"),
}


@pytest.mark.parametrize(("fields", "data", "says"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("collection", BOTH)
def test_a_contradiction_is_refused_and_nothing_stored(
    collection: str, fields: dict[str, Any], data: bytes, says: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S39; S17 for the body."""
    upload(testapp, name="other")
    before = stored(installation)
    headers = data_headers(name="f17", **fields)
    assert says in error_of(testapp.post(collection, data, headers=headers, status=400))
    assert stored(installation) == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": 6}, "6 bytes were announced, but 5 came"),
        ({"size": 4}, "More than the 4 bytes"),
        ({"size": 0}, "More than the 0 bytes"),
        ({"checksum": md5(b"other")}, "x-image-meta-checksum"),
        ({"sha256": sha256(b"other")}, "x-image-meta-sha256"),
    ],
)
def test_chunks_that_are_not_what_was_announced_are_refused(
    fields: dict[str, Any], says: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S17 for chunks; S39."""
    before = stored(installation)
    headers = data_headers(name="f17", **fields)
    assert says in error_of(send_chunked(testapp, "POST", "/v1/images", DATA, headers, status=400))
    assert stored(installation) == before


@pytest.mark.parametrize(
    "fields", [{"size": 6}, {"checksum": md5(b"other")}, {"sha256": sha256(b"other")}, {"store": "swift"}, {"x": "y"}]
)
def test_a_refused_upload_into_a_queued_image_stores_nothing(
    fields: dict[str, Any], testapp: TestApp, installation: "Installation"
) -> None:
    """S17."""
    path = reserve(testapp, name="f17")
    before = stored(installation)
    testapp.put(path, DATA, headers=data_headers(**fields), status=400)
    after = stored(installation)
    [row], [row_before] = after.pop("images"), before.pop("images")
    assert {**row._mapping, "last_error": None} == row_before._mapping
    assert after == before


@pytest.mark.parametrize("data", [b"", b"byte"])
def test_a_body_that_ends_early_is_refused_and_nothing_stored(
    data: bytes, testapp: TestApp, installation: "Installation"
) -> None:
    """S17: the client hung up."""
    path = reserve(testapp, name="f17")
    before = stored(installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        answer = testapp.request(
            target, method=method, body_file=BytesIO(data), content_length=5, headers=data_headers(), status=400
        )
        assert f"5 bytes were announced, but {len(data)} came" in error_of(answer)
    after = stored(installation)
    assert (len(after["images"]), after["files"], after["claims"]) == (len(before["images"]), [], [])


@pytest.mark.parametrize("uri", ["http://example.org/x", "file:///etc/passwd", ""])
@pytest.mark.parametrize("data", [b"", DATA])
def test_copy_from_is_refused_and_nothing_stored(
    data: bytes, uri: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S39: two sources at once, too."""
    headers = {"x-glance-api-copy-from": uri, **data_headers(name="f17")}
    assert "x-glance-api-copy-from" in error_of(testapp.post("/v1/images", data, headers=headers, status=400))
    assert stored(installation)["images"] == []


def test_a_queued_image_takes_no_location_and_no_copy(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    assert "x-image-meta-location" in error_of(testapp.put(path, headers=meta(location="http://h/x"), status=400))
    headers = {"x-glance-api-copy-from": "http://h/x"}
    assert "x-glance-api-copy-from" in error_of(testapp.put(path, headers=headers, status=400))


def test_all_violations_are_told_at_once(testapp: TestApp) -> None:
    headers = {
        **meta(name="n" * 256, size="x", disk_format="floppy", is_public="maybe", no_such_thing="x", store="s3"),
        **meta(properties={"a-b": "1", "a.b": "2"}, owner="a\nb", min_ram="\xff"),
        "Content-Type": "text/plain",
    }
    message = error_of(testapp.post("/v1/images", DATA, headers=headers, status=400))
    named = ("name", "size", "disk-format", "is-public", "no-such-thing", "store", "property-", "owner")
    assert [name for name in named if f"x-image-meta-{name}" not in message] == []
    assert "min_ram is not UTF-8" in message
    assert "Content-Type" in message


def test_a_missing_name_is_told_with_the_rest(testapp: TestApp) -> None:
    message = error_of(testapp.post("/images", headers=meta(size="x"), status=400))
    assert "x-image-meta-name" in message
    assert "x-image-meta-size" in message


def test_every_violation_of_a_change_is_told_at_once(testapp: TestApp) -> None:
    headers = {**meta(size=6, min_disk="x", no_such_thing="x"), "x-glance-registry-purge-props": "maybe"}
    message = error_of(testapp.put(upload(testapp, name="f17"), headers=headers, status=400))
    named = (
        "x-image-meta-size",
        "x-image-meta-min-disk",
        "x-image-meta-no-such-thing",
        "x-glance-registry-purge-props",
    )
    assert [name for name in named if name not in message] == []


@pytest.mark.parametrize("length", [2**63, 10**400])
def test_an_absurd_content_length_is_refused(length: int, testapp: TestApp, installation: "Installation") -> None:
    environ = {"CONTENT_LENGTH": f"{length:d}" if length < 2**64 else "9" * 400}
    answer = testapp.request("/v1/images", method="POST", headers=data_headers(name="f17"), environ=environ, status=400)
    assert "Content-Length is more than" in error_of(answer)
    assert stored(installation)["images"] == []
