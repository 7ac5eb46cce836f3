"""Bytes that the client has already: If-None-Match. How it is read: unit/schemas/test_conditions.py."""

from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import ALICE, BOB, add_row, id_of, image_headers, md5, meta, reserve, upload

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"*" * 5120
TAG = md5(DATA)
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])
METHODS = pytest.mark.parametrize("method", ["GET", "HEAD"])


def short(text: str) -> str:
    return text[:40]


@pytest.fixture
def path(testapp: TestApp) -> str:
    return upload(testapp, DATA, name="f17", properties={"os": "linux"})


@METHODS
@COLLECTIONS
@pytest.mark.parametrize(
    "asked", [TAG, f'"{TAG}"', f'W/"{TAG}"', "*", f'"x","{TAG}"', ", ".join(["x"] * 9999 + [TAG])], ids=short
)
def test_bytes_that_are_known_are_not_sent(
    asked: str, collection: str, method: str, path: str, testapp: TestApp
) -> None:
    """S54."""
    answer = testapp.request(f"{collection}/{id_of(path)}", method=method, headers={"If-None-Match": asked}, status=304)
    assert answer.headers["ETag"] == TAG
    assert answer.body == b""
    assert not {"Content-Type", "Content-Length", "Content-Disposition"} & set(answer.headers)


@METHODS
@pytest.mark.parametrize(
    "asked", ["x", f'"{md5(b"other")}"', '"*"', f'"{TAG}0"', ", ".join(["x"] * 9999), ",", '"'], ids=short
)
def test_bytes_that_are_not_known_are_sent(asked: str, method: str, path: str, testapp: TestApp) -> None:
    """S54."""
    answer = testapp.request(path, method=method, headers={"If-None-Match": asked}, status=200)
    assert answer.body == (DATA if method == "GET" else b"")


@COLLECTIONS
def test_what_is_known_about_the_image_is_told_anew(collection: str, path: str, testapp: TestApp) -> None:
    """It may have changed, though the bytes cannot."""
    testapp.put(path, headers=meta(name="renamed"))
    here = f"{collection}/{id_of(path)}"
    told = image_headers(testapp.get(here, headers={"If-None-Match": TAG}, status=304))
    assert told == image_headers(testapp.head(here))
    assert told["name"] == "renamed"


def test_known_bytes_are_not_asked_of_a_store(path: str, testapp: TestApp, installation: "Installation") -> None:
    for name in installation.blobs_on_disk():
        (installation.datadir / name).unlink()
    testapp.get(path, headers={"If-None-Match": TAG}, status=304)


@pytest.mark.parametrize("asked", ["bytes=0-1", "bytes=5120-"])
def test_known_bytes_are_not_sent_in_parts(asked: str, path: str, testapp: TestApp) -> None:
    testapp.get(path, headers={"If-None-Match": TAG, "Range": asked, "If-Range": TAG}, status=304)


def test_a_part_of_unknown_bytes_is_sent(path: str, testapp: TestApp) -> None:
    assert testapp.get(path, headers={"If-None-Match": "x", "Range": "bytes=0-1"}, status=206).body == DATA[:2]


def test_an_empty_image_can_be_known(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", headers=meta(size=0))
    path = f"/v1/images/{made.json['image']['id']}"
    testapp.get(path, headers={"If-None-Match": made.headers["ETag"]}, status=304)


@pytest.mark.parametrize("asked", ["*", TAG])
def test_an_image_without_bytes_is_not_known(asked: str, testapp: TestApp) -> None:
    """What was announced when it was reserved is not there yet."""
    path = reserve(testapp, name="f17", checksum=TAG)
    testapp.head(path, headers={"If-None-Match": asked}, status=200)
    testapp.get(path, headers={"If-None-Match": asked}, status=404)


@pytest.mark.parametrize("asked", ["*", TAG])
def test_a_deleted_image_is_not_known(asked: str, path: str, testapp: TestApp) -> None:
    testapp.delete(path)
    testapp.head(path, headers={"If-None-Match": asked}, status=200)
    testapp.get(path, headers={"If-None-Match": asked}, status=404)


@METHODS
@pytest.mark.parametrize("asked", ["*", TAG])
def test_who_may_not_see_an_image_does_not_learn_that_it_is_there(
    asked: str, method: str, installation: "Installation"
) -> None:
    """S3."""
    path = upload(installation.client(ALICE), DATA, name="f17")
    installation.client(BOB).request(path, method=method, headers={"If-None-Match": asked}, status=404)


def test_an_image_without_checksum_has_no_tag_to_be_known_by(installation: "Installation") -> None:
    app = installation.client()
    path = f"/v1/images/{add_row(installation, status='active', size=0)}"
    app.get(path, headers={"If-None-Match": '"None"'}, status=200)
    assert "ETag" not in app.get(path, headers={"If-None-Match": "*"}, status=304).headers


@pytest.mark.parametrize("path", ["/", "/versions", "/healthcheck", "/images", "/v1/images/detail"])
def test_only_images_have_tags(path: str, testapp: TestApp) -> None:
    plain = testapp.get(path)
    asked = testapp.get(path, headers={"If-None-Match": "*", "Range": "bytes=0-0"})
    assert (asked.status, asked.body) == (plain.status, plain.body)
