"""Requests about bytes that the client knows or means: If-None-Match, If-Match and their times, Last-Modified.

How the headers are read: unit/schemas/test_conditions.py.
"""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from pyramid.interfaces import IContextFound
from webtest import TestApp

from factories import (
    ALICE,
    BOB,
    add_row,
    data_headers,
    error_of,
    id_of,
    image_headers,
    md5,
    meta,
    reserve,
    stored,
    upload,
)
from pyrimage.catalogue.records import utcnow

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"*" * 5120
TAG, OTHER = md5(DATA), md5(b"other")
BECAME = datetime.fromisoformat("2011-09-22T19:57:47.999999")
COLLECTIONS = ("/images", "/v1/images")
METHODS = ("GET", "HEAD", "PUT", "DELETE")
READING = pytest.mark.parametrize("method", ["GET", "HEAD"])


def at(seconds: int = 0) -> str:
    """Spell a moment so many seconds after the image became active, as HTTP does."""
    return format_datetime(BECAME.replace(tzinfo=UTC, microsecond=0) + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture
def path(testapp: TestApp, installation: "Installation") -> str:
    """An image that became active long ago, and whose record has changed since."""
    made = upload(testapp, DATA, name="f17", properties={"os": "linux"})
    with installation.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE images SET activated_at = ?", (BECAME.isoformat(" "),))
    return made


# What the client has already

KNOWN: list[dict[str, str]] = [
    *({"If-None-Match": tag} for tag in (TAG, f'"{TAG}"', f'W/"{TAG}"', "*", f'"x","{TAG}"', "x, " * 9999 + TAG)),
    *({"If-Modified-Since": time} for time in (at(), at(1), "Thursday, 22-Sep-11 19:57:47 GMT")),
    {"If-Modified-Since": at(-1), "If-None-Match": TAG},
    {"If-None-Match": TAG, "Range": "bytes=5120-", "If-Range": TAG},
    {"If-None-Match": TAG, "If-Match": TAG},
]
UNKNOWN: list[dict[str, str]] = [
    *({"If-None-Match": tag} for tag in ("x", f'"{OTHER}"', '"*"', f'"{TAG}0"', "x, " * 9999, ",", '"')),
    *({"If-Modified-Since": time} for time in (at(-1), "x", at(1) + " " * 9999)),
    {"If-Modified-Since": at(), "If-None-Match": OTHER},
]


def short(headers: dict[str, str]) -> str:
    return str(headers)[:60]


@READING
@pytest.mark.parametrize("headers", KNOWN, ids=short)
def test_bytes_that_are_known_are_not_sent(
    headers: dict[str, str], method: str, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S54. What is known about the image is told anew: it may have changed, though the bytes cannot."""
    testapp.put(path, headers=meta(name="renamed"))
    installation.lose_blobs()  # no store is asked
    for collection in COLLECTIONS:
        here = f"{collection}/{id_of(path)}"
        answer = testapp.request(here, method=method, headers=headers, status=304)
        assert (answer.headers["ETag"], answer.headers["Last-Modified"], answer.body) == (TAG, at(), b"")
        assert not {"Content-Type", "Content-Length", "Content-Disposition"} & set(answer.headers)
        assert image_headers(answer) == image_headers(testapp.head(here))


@READING
@pytest.mark.parametrize("headers", UNKNOWN, ids=short)
def test_bytes_that_are_not_known_are_sent(headers: dict[str, str], method: str, path: str, testapp: TestApp) -> None:
    """S54."""
    answer = testapp.request(path, method=method, headers=headers, status=200)
    assert answer.body == (DATA if method == "GET" else b"")


def test_an_empty_image_can_be_known(testapp: TestApp) -> None:
    path = reserve(testapp, size=0)
    testapp.get(path, headers={"If-None-Match": testapp.head(path).headers["ETag"]}, status=304)


@READING
def test_who_may_not_see_an_image_does_not_learn_that_it_is_there(method: str, installation: "Installation") -> None:
    """S3."""
    path = upload(installation.client(ALICE), DATA, name="f17")
    for asked in ("*", TAG):
        installation.client(BOB).request(path, method=method, headers={"If-None-Match": asked}, status=404)


def test_an_image_without_checksum_has_no_tag_to_be_known_by(testapp: TestApp, installation: "Installation") -> None:
    path = f"/v1/images/{add_row(installation, status='active', size=0)}"
    testapp.get(path, headers={"If-None-Match": '"None"'}, status=200)
    assert "ETag" not in testapp.get(path, headers={"If-None-Match": "*"}, status=304).headers


@pytest.mark.parametrize("path", ["/", "/versions", "/healthcheck", "/images", "/v1/images/detail"])
def test_only_images_have_tags_and_times(path: str, testapp: TestApp) -> None:
    plain = testapp.get(path)
    headers = {"If-None-Match": "*", "If-Match": OTHER, "If-Unmodified-Since": at(), "Range": "bytes=0-0"}
    asked = testapp.get(path, headers=headers)
    assert (asked.status, asked.body, "Last-Modified" in asked.headers) == (plain.status, plain.body, False)


# What is done only to the bytes that the client means

PASS: list[dict[str, str]] = [
    *({"If-Match": tag} for tag in (TAG, f'"{TAG}"', f'"{OTHER}", "{TAG}"', "*")),
    *({"If-Unmodified-Since": time} for time in (at(), at(1), "yesterday", f"{at(-1)}, {at(-1)}")),
    {"If-Unmodified-Since": "Thu Sep 22 19:57:47 2011"},
    {"If-Match": TAG, "If-Unmodified-Since": at(-1)},
]
FAIL: list[dict[str, str]] = [
    *({"If-Match": tag} for tag in (f'"{OTHER}"', f'W/"{TAG}"', "")),
    {"If-Match": OTHER, "If-Unmodified-Since": at()},
    {"If-Match": OTHER, "If-None-Match": TAG, "Range": "bytes=0-0"},
    {"If-Unmodified-Since": at(-1)},
    {"If-Unmodified-Since": "Thu Sep 22 19:57:46 2011"},
    {"If-Unmodified-Since": "Thursday, 22-Sep-11 19:57:46 GMT"},
]


@pytest.mark.parametrize("headers", PASS, ids=str)
def test_what_is_asked_of_these_bytes_is_done(headers: dict[str, str], path: str, testapp: TestApp) -> None:
    for method in METHODS:
        testapp.request(path, method=method, headers=headers, status=200)


@pytest.mark.parametrize("headers", FAIL, ids=str)
def test_what_is_asked_of_other_bytes_is_not_done(
    headers: dict[str, str], path: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    for collection, method in [(collection, method) for collection in COLLECTIONS for method in METHODS]:
        sent = {**headers, **(meta(name="renamed") if method == "PUT" else {})}
        answer = testapp.request(f"{collection}/{id_of(path)}", method=method, headers=sent, status=412)
        assert method == "HEAD" or next(iter(headers)) in error_of(answer)
    assert stored(installation) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_write_may_say_which_bytes_shall_not_be_there(
    method: str, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    for unwanted in ("*", TAG, f'W/"{TAG}"', f'"{OTHER}", "{TAG}"'):
        headers = {"If-None-Match": unwanted, "If-Match": TAG}
        assert "If-None-Match" in error_of(testapp.request(path, method=method, headers=headers, status=412))
    assert stored(installation) == before
    headers = {"If-None-Match": OTHER, "If-Modified-Since": at(9), "If-Range": OTHER, "Range": "bytes=0-0"}
    testapp.request(path, method=method, headers=headers, status=200)


def test_an_image_without_bytes_matches_nothing(testapp: TestApp) -> None:
    """Not even the digest that was announced."""
    path = reserve(testapp, name="f17", checksum=TAG)
    for tag in ("*", TAG):
        for method in METHODS:
            testapp.request(path, method=method, headers={"If-Match": tag}, status=404 if method == "GET" else 412)
        testapp.head(path, headers={"If-None-Match": tag}, status=200)
        testapp.get(path, headers={"If-None-Match": tag}, status=404)
    testapp.delete(path)
    testapp.head(path, headers={"If-None-Match": "*"}, status=200)
    testapp.get(path, headers={"If-None-Match": "*"}, status=404)


def test_the_first_data_of_an_image_may_be_asked_to_be_that(testapp: TestApp, installation: "Installation") -> None:
    path, once = reserve(testapp, name="f17"), {"If-None-Match": "*"}
    testapp.put(path, headers={**meta(name="f18"), **once}, status=200)
    before = stored(installation)
    for headers in ({"If-Match": TAG}, {"If-Unmodified-Since": at()}):
        testapp.put(path, DATA, headers={**data_headers(), **headers}, status=412)
    assert stored(installation) == before  # nor is a reason noted: it is not an upload that failed
    testapp.put(path, DATA, headers={**data_headers(), **once}, status=200)
    testapp.put(path, headers=once, status=412)
    testapp.put(path, DATA, headers={**data_headers(), **once}, status=409)


def test_a_deletion_that_an_upload_overtakes_deletes_no_bytes_that_it_did_not_mean(
    own_installation: "Installation", committing_app: TestApp
) -> None:
    path = reserve(committing_app, name="f17")
    waiting = [DATA]

    def overtake(event: Any) -> None:
        while waiting and event.request.method == "DELETE":
            committing_app.put(path, waiting.pop(), headers=data_headers())

    own_installation.registry.registerHandler(overtake, (IContextFound,))
    committing_app.delete(path, headers={"If-None-Match": "*"}, status=412)
    assert committing_app.get(path).body == DATA
    committing_app.delete(path)


@pytest.mark.parametrize("headers", [{"If-Match": OTHER}, {"If-Unmodified-Since": at(-1)}, {"If-None-Match": "*"}])
def test_what_is_refused_anyway_is_refused_for_that(headers: dict[str, str], installation: "Installation") -> None:
    alice, bob = installation.client(ALICE), installation.client(BOB)
    path = upload(alice, DATA, name="f17", is_public=True, protected=True)
    alice.put(path, DATA, headers={**data_headers(), **headers}, status=409)
    alice.put(path, headers={**meta(min_ram="x"), **headers}, status=400)
    alice.delete(path, headers=headers, status=403)
    bob.put(path, headers=headers, status=403)
    admin, hidden = installation.client(), upload(alice, DATA)
    bob.delete(hidden, headers=headers, status=404)
    admin.delete(hidden)
    admin.delete(hidden, headers=headers, status=404)
    admin.put(hidden, headers=headers, status=403)


# Since when they are what they are


@pytest.mark.parametrize("moment", ["2001-02-03T04:05:06", "2101-02-03T04:05:06"])
def test_the_times_that_an_administrator_names_are_not_those_of_the_bytes(moment: str, testapp: TestApp) -> None:
    before = utcnow().replace(microsecond=0)
    path = upload(testapp, created_at=moment, updated_at=moment)
    told = datetime.strptime(testapp.get(path).headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT")  # noqa: DTZ007
    assert before <= told <= utcnow()


def test_of_an_image_without_bytes_the_time_is_that_of_its_last_change(
    testapp: TestApp, installation: "Installation"
) -> None:
    path = f"/images/{add_row(installation, updated_at=BECAME, activated_at=None)}"
    assert testapp.head(path, headers={"If-Modified-Since": at()}, status=200).headers["Last-Modified"] == at()
    testapp.get(path, headers={"If-Modified-Since": at()}, status=404)
    testapp.head(path, headers={"If-Unmodified-Since": at(-1)}, status=412)
    testapp.delete(path, headers={"If-Unmodified-Since": at()}, status=200)


def test_no_time_is_still_to_come(testapp: TestApp, installation: "Installation") -> None:
    for status in ("queued", "active"):
        moment = datetime.fromisoformat("2101-02-03 04:05:06")
        told = testapp.head(f"/images/{add_row(installation, status=status, updated_at=moment)}")
        assert datetime.strptime(told.headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT") <= utcnow()  # noqa: DTZ007
