"""Digests beside our own: those that a client sends along are demanded, and answers name the image's."""

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import data_headers, error_of, id_of, md5, meta, reserve, send_chunked, sha256, stored, upload
from pyrimage.catalogue.records import EMPTY

if TYPE_CHECKING:
    from conftest import Installation

DATA, OTHER = b"*" * 5120, b"other"
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])


def b64(digest: str | None) -> str:
    return b64encode(bytes.fromhex(digest or "")).decode()


def headers_of(data: bytes) -> dict[str, dict[str, str]]:
    """Give each way to name a digest of data."""
    sha, short = f"sha-256=:{b64(sha256(data))}:", b64(md5(data))
    return {
        "Content-MD5": {"Content-MD5": short},
        "Content-Digest": {"Content-Digest": sha},
        "Repr-Digest": {"Repr-Digest": sha},
        "md5": {"Content-Digest": f"md5=:{short}:"},
        "several": {"Repr-Digest": f"sha-512=:AAAA:, {sha}, md5=:{short}:"},
        "all": {"Content-MD5": short, "Content-Digest": sha, "Repr-Digest": sha},
    }


every_way = pytest.mark.parametrize("way", headers_of(DATA))


@COLLECTIONS
@every_way
def test_data_that_has_the_digests_is_taken(way: str, collection: str, testapp: TestApp) -> None:
    made = testapp.post(collection, DATA, headers={**data_headers(name="f17"), **headers_of(DATA)[way]}, status=201)
    assert made.headers["x-image-meta-sha256"] == sha256(DATA)
    path = f"{collection}/{id_of(reserve(testapp, name='f17'))}"
    assert send_chunked(testapp, "PUT", path, DATA, {**data_headers(), **headers_of(DATA)[way]}).status_int == 200


@COLLECTIONS
@every_way
def test_data_that_has_others_is_refused_and_nothing_stored(
    way: str, collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    before, headers = stored(installation), {**data_headers(name="f17"), **headers_of(OTHER)[way]}
    for answer in (
        testapp.post(collection, DATA, headers=headers, status=400),
        send_chunked(testapp, "POST", collection, DATA, headers, status=400),
    ):
        assert next(iter(headers_of(OTHER)[way])) in error_of(answer)
        assert "was announced, but the data's is" in error_of(answer)
    assert stored(installation) == before


@every_way
def test_a_queued_image_stays_queued(way: str, testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    testapp.put(path, DATA, headers={**data_headers(), **headers_of(OTHER)[way]}, status=400)
    answer = testapp.head(path)
    assert (answer.headers["x-image-meta-status"], "ETag" in answer.headers) == ("queued", False)
    testapp.put(path, DATA, headers={**data_headers(), **headers_of(DATA)[way]}, status=200)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": md5(DATA)},
        {"Content-Digest": f"sha-256={b64(sha256(DATA))}"},
        {"Repr-Digest": f"sha-256=:{b64(md5(DATA))}:"},
    ],
)
def test_what_is_no_digest_is_refused(headers: dict[str, str], testapp: TestApp, installation: "Installation") -> None:
    path = reserve(testapp)
    before = stored(installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        for body in (DATA, b""):
            sent = {**data_headers(), **headers}
            answer = testapp.request(target, method=method, body=body, headers=sent, status=400)
            assert next(iter(headers)) in error_of(answer)
    assert stored(installation) == before


# With our own


@pytest.mark.parametrize("way", ["Content-MD5", "md5", "several"])
def test_two_digests_that_no_data_can_have_are_refused_at_once(
    way: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    headers = {**data_headers(checksum=md5(OTHER)), **headers_of(DATA)[way]}
    message = error_of(testapp.post("/v1/images", DATA, headers=headers, status=400))
    assert "x-image-meta-checksum" in message
    assert "cannot both be the data's" in message
    assert stored(installation) == before


@every_way
def test_what_was_announced_before_is_demanded_too(way: str, testapp: TestApp) -> None:
    for digests in ({"checksum": md5(OTHER)}, {"sha256": sha256(OTHER)}):
        path = reserve(testapp, **digests)
        testapp.put(path, DATA, headers={**data_headers(), **headers_of(DATA)[way]}, status=400)
        assert testapp.head(path).headers["x-image-meta-status"] == "queued"


@every_way
def test_a_digest_of_ours_that_comes_later_counts_for_that_which_came_before(way: str, testapp: TestApp) -> None:
    path = reserve(testapp, checksum=md5(OTHER), sha256=sha256(OTHER))
    own = data_headers(checksum=md5(DATA), sha256=sha256(DATA))
    testapp.put(path, DATA, headers={**own, **headers_of(DATA)[way]}, status=200)


# Without data


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


@every_way
def test_the_digests_of_nothing_announce_nothing(way: str, testapp: TestApp) -> None:
    made = testapp.post("/v1/images", headers=headers_of(b"")[way], status=201)
    path = f"/v1/images/{made.json['image']['id']}"
    changed = testapp.put(path, headers={**meta(name="f18"), **headers_of(b"")[way]}, status=200)
    assert (changed.json["image"]["status"], changed.json["image"]["checksum"]) == ("queued", None)
    testapp.put(path, DATA, headers=data_headers(), status=200)
    testapp.post("/v1/images", headers={**meta(size=0), **headers_of(b"")[way]}, status=201)


@every_way
def test_members_are_digested_too(way: str, testapp: TestApp) -> None:
    path, body = f"{reserve(testapp)}/members/tenant-b", b'{"member": {"can_share": true}}'
    message = error_of(testapp.put(path, body, headers=headers_of(OTHER)[way], status=400))
    assert next(iter(headers_of(OTHER)[way])) in message
    testapp.put(path, body, headers=headers_of(body)[way], status=204)


# Answers


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", {}, 200),
        ("GET", {}, 200),
        ("GET", {"Range": "bytes=1-2"}, 206),
        ("GET", {"If-None-Match": "*"}, 304),
        ("GET", {"Want-Repr-Digest": "sha-512=9"}, 200),
    ],
)
@COLLECTIONS
def test_bytes_come_with_the_digest_of_the_whole(
    method: str, headers: dict[str, str], status: int, collection: str, testapp: TestApp
) -> None:
    path = f"{collection}/{id_of(upload(testapp, DATA))}"
    answer = testapp.request(path, method=method, headers=headers, status=status)
    assert answer.headers["Repr-Digest"] == f"sha-256=:{b64(sha256(DATA))}:"


def test_an_empty_image_has_the_digest_of_nothing(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", headers=meta(size=0))
    digest = testapp.get(f"/v1/images/{made.json['image']['id']}").headers["Repr-Digest"]
    assert digest == f"sha-256=:{b64(EMPTY.sha256)}:"


def test_an_answer_that_is_not_the_image_is_without_its_digest(testapp: TestApp) -> None:
    queued: Any = testapp.post("/v1/images", headers=meta(sha256=sha256(DATA)))
    path = f"/v1/images/{queued.json['image']['id']}"
    answers = [queued, testapp.head(path), testapp.put(path, DATA, headers=data_headers())]
    testapp.delete(path)
    answers.append(testapp.head(path))  # an administrator's
    assert [answer.status_int for answer in answers] == [201, 200, 200, 200]
    assert not any("Repr-Digest" in answer.headers for answer in answers)
