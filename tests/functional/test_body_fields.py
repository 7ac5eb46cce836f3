"""Headers that say the body is not what it seems: a part, or encoded. None is taken for the whole."""

import gzip
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import OCTETS, add_row, data_headers, error_of, meta, reserve, stored

if TYPE_CHECKING:
    from conftest import Installation
    from registries import Registry

DATA = b"*" * 5120
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])
PARTS = {
    "end": {"Content-Range": f"bytes 5120-{2 * 5120 - 1}/{2 * 5120}"},
    "whole": {"Content-Range": "bytes 0-5119/5120"},
    "unknown": {"Content-Range": "x"},
    "empty": {"Content-Range": ""},
    "more to come": {"Upload-Complete": "?0"},
}
ENCODED = {
    "gzip": {"Content-Encoding": "gzip"},
    "capitals": {"Content-Encoding": "GZIP"},
    "x-gzip": {"Content-Encoding": "x-gzip"},
    "nobody's": {"Content-Encoding": "nonesuch"},
    "list": {"Content-Encoding": "identity, br"},
    "in pieces": {"Content-Encoding": "aws-chunked"},
    "base64": {"Content-Transfer-Encoding": "base64"},
}
REFUSED = {name: (400, headers) for name, headers in PARTS.items()} | {
    name: (415, headers) for name, headers in ENCODED.items()
}
every_refusal = pytest.mark.parametrize(("status", "headers"), REFUSED.values(), ids=REFUSED)


def check(answer: Any, headers: dict[str, str]) -> None:
    """Check that the refusal names the header, and what would be accepted."""
    (name,) = headers
    assert name in error_of(answer)
    assert answer.headers.get("Accept-Encoding") == ("identity" if answer.status_int == 415 else None)


@COLLECTIONS
@every_refusal
def test_a_new_image_is_not_made_of_less_than_its_bytes(
    status: int, headers: dict[str, str], collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    for body in (DATA, b""):
        check(testapp.post(collection, body, headers={**data_headers(name="f17"), **headers}, status=status), headers)
    assert stored(installation) == before


@COLLECTIONS
@every_refusal
def test_a_queued_image_stays_as_it_was(
    status: int, headers: dict[str, str], collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    path = f"{collection}/{add_row(installation, name='f17')}"
    before = stored(installation)
    for body in (DATA, b""):
        check(testapp.put(path, body, headers={**data_headers(), **headers}, status=status), headers)
    assert stored(installation) == before
    testapp.put(path, DATA, headers=data_headers(), status=200)
    assert testapp.get(path).body == DATA


@every_refusal
def test_json_is_taken_whole_and_plain_too(
    status: int, headers: dict[str, str], testapp: TestApp, installation: "Installation"
) -> None:
    path = reserve(testapp)
    before = stored(installation)
    body = gzip.compress(b'{"memberships": [{"member_id": "tenant-b"}]}')
    for method, child in (("PUT", "/members"), ("PUT", "/members/tenant-b")):
        check(testapp.request(path + child, method=method, body=body, headers=headers, status=status), headers)
    assert stored(installation) == before


@every_refusal
def test_the_registry_takes_no_other_bodies(status: int, headers: dict[str, str], registry: "Registry") -> None:
    for path in ("/images", "/claims/begin"):
        check(registry.ask("POST", path, {"image": {}}, status, headers), headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "identity"},
        {"Content-Encoding": "Identity, identity,"},
        {"Content-Encoding": ""},
        {"Content-Transfer-Encoding": "BINARY"},
        {"Content-Language": "en", "Content-Location": "/elsewhere"},
        {"Upload-Complete": "?1"},
        {"Content-Type": "Application/Octet-Stream"},
        {"Content-Type": "application/octet-stream ; charset=binary"},
        {"Content-Type": 'APPLICATION/OCTET-STREAM;padding="4;x"'},
    ],
    ids=str,
)
@COLLECTIONS
def test_what_leaves_the_bytes_as_they_are_is_accepted(
    headers: dict[str, str], collection: str, testapp: TestApp
) -> None:
    made = testapp.post(collection, DATA, headers={"Content-Type": OCTETS, **meta(name="f17"), **headers}, status=201)
    assert testapp.get(f"{collection}/{made.json['image']['id']}").body == DATA


@pytest.mark.parametrize(
    "sent", [";", "; charset=binary", "application/octet-streams", "multipart/form-data; boundary=x", "octet-stream"]
)
@COLLECTIONS
def test_another_content_type_is_refused(sent: str, collection: str, testapp: TestApp) -> None:
    headers = {**meta(name="f17"), "Content-Type": sent}
    assert "Content-Type" in error_of(testapp.post(collection, DATA, headers=headers, status=400))


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@every_refusal
def test_a_request_without_data_is_answered_whatever_it_says_of_data(
    status: int, headers: dict[str, str], method: str, testapp: TestApp
) -> None:
    made = testapp.post("/v1/images", DATA, headers=data_headers(name="f17"))
    testapp.request(f"/v1/images/{made.json['image']['id']}", method=method, headers=headers, status=200)
