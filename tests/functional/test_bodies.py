"""Headers that speak of the body: its type, encodings and parts, and the digests that it must have.

How digests are read: unit/schemas/test_digests.py.
"""

import gzip
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import OCTETS, data_headers, error_of, id_of, md5, meta, reserve, send_chunked, sha256, stored, upload
from pyrimage.catalogue.records import EMPTY

if TYPE_CHECKING:
    from conftest import Installation
    from registries import Registry

DATA, OTHER = b"*" * 5120, b"other"
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])

# Parts and encodings: none is taken for the whole

REFUSED: list[tuple[int, dict[str, str]]] = [
    *((400, {"Content-Range": text}) for text in ("bytes 5120-10239/10240", "bytes 0-5119/5120", "x", "")),
    (400, {"Upload-Complete": "?0"}),
    *(
        (415, {"Content-Encoding": text})
        for text in ("gzip", "GZIP", "x-gzip", "nonesuch", "identity, br", "aws-chunked")
    ),
    (415, {"Content-Transfer-Encoding": "base64"}),
]
every_refusal = pytest.mark.parametrize(("status", "headers"), REFUSED, ids=str)


def check(answer: Any, headers: dict[str, str]) -> None:
    """Check that the refusal names the header, and what would be accepted."""
    (name,) = headers
    assert name in error_of(answer)
    assert answer.headers.get("Accept-Encoding") == ("identity" if answer.status_int == 415 else None)


@every_refusal
def test_less_than_the_whole_is_refused_and_nothing_stored(
    status: int, headers: dict[str, str], testapp: TestApp, installation: "Installation", registry: "Registry"
) -> None:
    path = reserve(testapp, name="f17")
    before = stored(installation)
    for method, target in (("POST", "/images"), ("PUT", path), ("POST", "/v1/images")):
        for body in (DATA, b""):
            sent = {**data_headers(name="f17"), **headers}
            check(testapp.request(target, method=method, body=body, headers=sent, status=status), headers)
    body = gzip.compress(b'{"memberships": [{"member_id": "tenant-b"}]}')
    for child in ("/members", "/members/tenant-b"):
        check(testapp.put(path + child, body, headers=headers, status=status), headers)
    for target in ("/images", "/claims/begin"):
        check(registry.ask("POST", target, {"image": {}}, status, headers), headers)
    assert stored(installation) == before
    for method in ("GET", "HEAD", "DELETE"):  # which have no data, whatever they say of it
        testapp.request(upload(testapp), method=method, headers=headers, status=200)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "Identity, identity,"},
        {"Content-Encoding": ""},
        {"Content-Transfer-Encoding": "BINARY"},
        {"Content-Language": "en", "Content-Location": "/elsewhere"},
        {"Upload-Complete": "?1"},
        {"Content-Type": "Application/Octet-Stream"},
        {"Content-Type": 'application/octet-stream ;padding="4;x"'},
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
    "sent", [";", "; charset=binary", "application/octet-streams", "text/plain", "multipart/form-data; boundary=x", "x"]
)
@COLLECTIONS
def test_another_content_type_is_refused_with_data(sent: str, collection: str, testapp: TestApp) -> None:
    headers = {**meta(name="f17"), "Content-Type": sent}
    message = error_of(testapp.post(collection, DATA, headers=headers, status=400))
    assert sent in message
    assert OCTETS in message
    testapp.post(collection, headers=headers, status=201)


def test_the_wire_requires_a_content_type_with_data_and_the_guide_does_not(testapp: TestApp) -> None:
    image = id_of(reserve(testapp))
    for method, path in (("POST", "/v1/images"), ("PUT", f"/v1/images/{image}")):
        assert "Content-Type" in error_of(testapp.request(path, method=method, body=DATA, headers={}, status=400))
    testapp.request("/images", method="POST", body=DATA, headers=meta(name="f17"), status=201)
    testapp.request(f"/images/{image}", method="PUT", body=DATA, status=200)


# Digests: those that a client sends along are demanded


def b64(digest: str | None) -> str:
    return b64encode(bytes.fromhex(digest or "")).decode()


def headers_of(data: bytes) -> dict[str, dict[str, str]]:
    """Give each way to name a digest of data."""
    sha, short = f"sha-256=:{b64(sha256(data))}:", b64(md5(data))
    return {
        "Content-MD5": {"Content-MD5": short},
        "Content-Digest": {"Content-Digest": sha},
        "Repr-Digest": {"Repr-Digest": sha},
        "several": {"Repr-Digest": f"sha-512=:AAAA:, {sha}, md5=:{short}:"},
    }


every_way = pytest.mark.parametrize("way", headers_of(DATA))


@every_way
def test_data_must_have_the_digests(way: str, testapp: TestApp, installation: "Installation") -> None:
    path = reserve(testapp, name="f17")
    right, wrong = ({**data_headers(name="f17"), **headers_of(data)[way]} for data in (DATA, OTHER))
    before = stored(installation)
    for answer in (
        testapp.post("/images", DATA, headers=wrong, status=400),
        send_chunked(testapp, "POST", "/v1/images", DATA, wrong, status=400),
    ):
        assert next(iter(headers_of(OTHER)[way])) in error_of(answer)
        assert "was announced, but the data's is" in error_of(answer)
    assert stored(installation) == before
    testapp.put(path, DATA, headers=wrong, status=400)
    answer = testapp.head(path)
    assert (answer.headers["x-image-meta-status"], "ETag" in answer.headers) == ("queued", False)
    send_chunked(testapp, "PUT", path, DATA, right, status=200)
    testapp.post("/images", DATA, headers=right, status=201)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": md5(DATA)},
        {"Content-Digest": f"sha-256={b64(sha256(DATA))}"},
        {"Repr-Digest": f"sha-256=:{b64(md5(DATA))}:"},
    ],
)
def test_what_is_no_digest_is_refused(headers: dict[str, str], testapp: TestApp) -> None:
    for method, target in (("POST", "/v1/images"), ("PUT", reserve(testapp))):
        for body in (DATA, b""):
            answer = testapp.request(target, method=method, body=body, headers=data_headers() | headers, status=400)
            assert next(iter(headers)) in error_of(answer)
    answer = testapp.put(f"{reserve(testapp)}/members", b'{"memberships": []}', headers=headers, status=400)
    assert next(iter(headers)) in error_of(answer)


@every_way
def test_what_is_announced_is_demanded_too(way: str, testapp: TestApp) -> None:
    right = headers_of(DATA)[way]
    for announced in ({"checksum": md5(OTHER)}, {"sha256": sha256(OTHER)}):
        path = reserve(testapp, **announced)
        testapp.put(path, DATA, headers={**data_headers(), **right}, status=400)
        own = data_headers(checksum=md5(DATA), sha256=sha256(DATA))  # counts for what was announced before
        testapp.put(path, DATA, headers={**own, **right}, status=200)
    if way in ("Content-MD5", "several"):
        headers = {**data_headers(checksum=md5(OTHER)), **right}
        message = error_of(testapp.post("/v1/images", DATA, headers=headers, status=400))
        assert "x-image-meta-checksum" in message
        assert "cannot both be the data's" in message


@every_way
def test_no_data_has_the_digests_of_nothing(way: str, testapp: TestApp, installation: "Installation") -> None:
    """Else data that was lost on its way would not be missed."""
    path = reserve(testapp, name="f17")
    before = stored(installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        for fields in ({}, {"size": 0}):
            sent = {**meta(**fields), **headers_of(DATA)[way]}
            assert "no data came" in error_of(testapp.request(target, method=method, headers=sent, status=400))
    assert stored(installation) == before
    none = headers_of(b"")[way]
    changed = testapp.put(path, headers={**meta(name="f18"), **none}, status=200).json["image"]
    assert (changed["status"], changed["checksum"]) == ("queued", None)  # and announces nothing
    testapp.put(path, DATA, headers=data_headers(), status=200)
    testapp.post("/v1/images", headers={**meta(size=0), **none}, status=201)


@every_way
def test_members_are_digested_too(way: str, testapp: TestApp) -> None:
    path, body = f"{reserve(testapp)}/members/tenant-b", b'{"member": {"can_share": true}}'
    message = error_of(testapp.put(path, body, headers=headers_of(OTHER)[way], status=400))
    assert next(iter(headers_of(OTHER)[way])) in message
    testapp.put(path, body, headers=headers_of(body)[way], status=204)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"Range": "bytes=1-2"}),
        ("GET", {"If-None-Match": "*"}),
        ("GET", {"Want-Repr-Digest": "sha-512=9"}),
    ],
)
@COLLECTIONS
def test_bytes_come_with_the_digest_of_the_whole(
    method: str, headers: dict[str, str], collection: str, testapp: TestApp
) -> None:
    for path, digest in ((upload(testapp, DATA), sha256(DATA)), (reserve(testapp, size=0), EMPTY.sha256)):
        answer = testapp.request(f"{collection}/{id_of(path)}", method=method, headers=headers)
        assert answer.headers["Repr-Digest"] == f"sha-256=:{b64(digest)}:"


def test_an_answer_that_is_not_the_image_is_without_its_digest(testapp: TestApp) -> None:
    queued: Any = testapp.post("/v1/images", headers=meta(sha256=sha256(DATA)))
    path = f"/v1/images/{queued.json['image']['id']}"
    answers = [queued, testapp.head(path), testapp.put(path, DATA, headers=data_headers())]
    testapp.delete(path)
    answers.append(testapp.head(path))  # an administrator's
    assert not any("Repr-Digest" in answer.headers for answer in answers)
