"""What is done only to the bytes that the client means: If-Match, If-Unmodified-Since, and If-None-Match of changes."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from pyramid.interfaces import IContextFound
from webtest import TestApp

from factories import ALICE, BOB, add_row, data_headers, error_of, id_of, md5, meta, reserve, stored, upload
from pyrimage.catalogue.records import utcnow

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"*" * 5120
TAG, OTHER = md5(DATA), md5(b"other")
BECAME = datetime.fromisoformat("2011-09-22T19:57:47.999999")
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])
METHODS = pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])


def at(seconds: int = 0) -> str:
    """Spell a moment so many seconds after the image became active, as HTTP does."""
    return format_datetime(BECAME.replace(tzinfo=UTC, microsecond=0) + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture
def path(testapp: TestApp, installation: "Installation") -> str:
    """An image that became active long ago, and whose record has changed since."""
    made = upload(testapp, DATA, name="f17")
    with installation.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE images SET activated_at = ?", (BECAME.isoformat(" "),))
    return made


PASS: dict[str, dict[str, str]] = {
    "the tag": {"If-Match": TAG},
    "the tag, quoted": {"If-Match": f'"{TAG}"'},
    "one of several": {"If-Match": f'"{OTHER}", "{TAG}"'},
    "any": {"If-Match": "*"},
    "since then": {"If-Unmodified-Since": at()},
    "later": {"If-Unmodified-Since": at(1)},
    "the tag, and another time": {"If-Match": TAG, "If-Unmodified-Since": at(-1)},
    "no time": {"If-Unmodified-Since": "yesterday"},
    "two times": {"If-Unmodified-Since": f"{at(-1)}, {at(-1)}"},
    "another form of time": {"If-Unmodified-Since": "Thu Sep 22 19:57:47 2011"},
}
FAIL: dict[str, dict[str, str]] = {
    "another tag": {"If-Match": f'"{OTHER}"'},
    "a weak tag": {"If-Match": f'W/"{TAG}"'},
    "no tag": {"If-Match": ""},
    "another tag, and the time": {"If-Match": OTHER, "If-Unmodified-Since": at()},
    "earlier": {"If-Unmodified-Since": at(-1)},
    "earlier, in another form": {"If-Unmodified-Since": "Thu Sep 22 19:57:46 2011"},
    "earlier, in the oldest form": {"If-Unmodified-Since": "Thursday, 22-Sep-11 19:57:46 GMT"},
}


@METHODS
@COLLECTIONS
@pytest.mark.parametrize("headers", PASS.values(), ids=PASS)
def test_what_is_asked_of_these_bytes_is_done(
    headers: dict[str, str], collection: str, method: str, path: str, testapp: TestApp
) -> None:
    testapp.request(f"{collection}/{id_of(path)}", method=method, headers=headers, status=200)


@METHODS
@COLLECTIONS
@pytest.mark.parametrize("headers", FAIL.values(), ids=FAIL)
def test_what_is_asked_of_other_bytes_is_not_done(
    headers: dict[str, str], collection: str, method: str, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    sent = {**headers, **(meta(name="renamed") if method == "PUT" else {})}
    answer = testapp.request(f"{collection}/{id_of(path)}", method=method, headers=sent, status=412)
    assert method == "HEAD" or next(iter(headers)) in error_of(answer)
    assert stored(installation) == before
    assert testapp.get(path).body == DATA


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("unwanted", ["*", TAG, f'W/"{TAG}"', f'"{OTHER}", "{TAG}"'])
def test_what_shall_not_be_done_to_these_bytes_is_not(
    unwanted: str, method: str, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    before = stored(installation)
    headers = {"If-None-Match": unwanted, "If-Match": TAG}
    assert "If-None-Match" in error_of(testapp.request(path, method=method, headers=headers, status=412))
    assert stored(installation) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers", [{"If-None-Match": OTHER}, {"If-Modified-Since": at(9)}, {"If-Range": OTHER, "Range": "bytes=0-0"}]
)
def test_what_does_not_guard_these_bytes_is_no_matter(
    headers: dict[str, str], method: str, path: str, testapp: TestApp
) -> None:
    testapp.request(path, method=method, headers=headers, status=200)


def test_another_record_of_the_same_bytes_is_no_matter(path: str, testapp: TestApp) -> None:
    testapp.put(path, headers={**meta(name="first"), "If-Match": TAG})
    testapp.put(path, headers={**meta(name="second"), "If-Match": TAG, "If-Unmodified-Since": at()}, status=200)


# Images without bytes


@METHODS
@pytest.mark.parametrize("expected", ["*", TAG])
def test_an_image_without_bytes_matches_nothing(expected: str, method: str, testapp: TestApp) -> None:
    """Not even the digest that was announced."""
    path = reserve(testapp, name="f17", checksum=TAG)
    status = 404 if method == "GET" else 412
    testapp.request(path, method=method, headers={"If-Match": expected}, status=status)


def test_the_first_data_of_an_image_may_be_asked_to_be_that(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    once = {**data_headers(), "If-None-Match": "*"}
    testapp.put(path, headers={**meta(name="f18"), "If-None-Match": "*"}, status=200)
    testapp.put(path, DATA, headers=once, status=200)
    testapp.put(path, headers={"If-None-Match": "*"}, status=412)
    testapp.put(path, DATA, headers=once, status=409)


def test_data_that_is_not_wanted_is_not_an_upload_that_failed(testapp: TestApp, installation: "Installation") -> None:
    path = reserve(testapp, name="f17")
    before = stored(installation)
    for headers in ({"If-Match": TAG}, {"If-Unmodified-Since": at()}):
        testapp.put(path, DATA, headers={**data_headers(), **headers}, status=412)
    assert stored(installation) == before  # nor is a reason noted


def test_of_an_image_without_bytes_the_time_is_that_of_its_last_change(
    testapp: TestApp, installation: "Installation"
) -> None:
    path = f"/images/{add_row(installation, updated_at=BECAME, activated_at=None)}"
    assert testapp.head(path).headers["Last-Modified"] == at()
    testapp.head(path, headers={"If-Unmodified-Since": at(-1)}, status=412)
    testapp.delete(path, headers={"If-Unmodified-Since": at()}, status=200)


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


# What comes first


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


def test_a_condition_that_fails_comes_before_what_the_client_has(path: str, testapp: TestApp) -> None:
    testapp.get(path, headers={"If-Match": OTHER, "If-None-Match": TAG}, status=412)
    testapp.get(path, headers={"If-Match": TAG, "If-None-Match": TAG}, status=304)
    testapp.get(path, headers={"If-Match": OTHER, "Range": "bytes=0-0"}, status=412)
    testapp.get(path, headers={"If-Match": TAG, "Range": "bytes=0-0"}, status=206)


# Last-Modified


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@COLLECTIONS
def test_bytes_are_of_the_time_when_they_came(collection: str, method: str, path: str, testapp: TestApp) -> None:
    here = f"{collection}/{id_of(path)}"
    testapp.put(here, headers=meta(name="renamed"))
    for headers, status in (({}, 200), ({"If-None-Match": TAG}, 304), ({"Range": "bytes=0-0"}, 206)):
        expected = 200 if (method, status) == ("HEAD", 206) else status
        answer = testapp.request(here, method=method, headers=headers, status=expected)
        assert answer.headers["Last-Modified"] == at()


@pytest.mark.parametrize("moment", ["2001-02-03T04:05:06", "2101-02-03T04:05:06"])
def test_the_times_that_an_administrator_names_are_not_those_of_the_bytes(moment: str, testapp: TestApp) -> None:
    before = utcnow().replace(microsecond=0)
    path = upload(testapp, created_at=moment, updated_at=moment)
    told = datetime.strptime(testapp.get(path).headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT")  # noqa: DTZ007
    assert before <= told <= utcnow()


def test_no_time_is_still_to_come(testapp: TestApp, installation: "Installation") -> None:
    moment = datetime.fromisoformat("2101-02-03 04:05:06")
    for status in ("queued", "active"):
        path = f"/images/{add_row(installation, status=status, updated_at=moment)}"
        told = testapp.head(path).headers["Last-Modified"]
        assert datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT") <= utcnow()  # noqa: DTZ007


@pytest.mark.parametrize("path", ["/", "/images", "/v1/images/detail"])
def test_lists_have_no_time_and_no_conditions(path: str, testapp: TestApp) -> None:
    answer = testapp.get(path, headers={"If-Match": OTHER, "If-Unmodified-Since": at(), "If-Modified-Since": at()})
    assert "Last-Modified" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Modified-Since": at()}, 304),
        ({"If-Modified-Since": at(1)}, 304),
        ({"If-Modified-Since": "Thursday, 22-Sep-11 19:57:47 GMT"}, 304),
        ({"If-Modified-Since": at(-1)}, 200),
        ({"If-Modified-Since": "x"}, 200),
        ({"If-Modified-Since": at(1) + " " * 9999}, 200),
        ({"If-Modified-Since": at(-1), "If-None-Match": TAG}, 304),
        ({"If-Modified-Since": at(), "If-None-Match": OTHER}, 200),
    ],
)
def test_bytes_that_are_not_newer_are_not_sent_again(
    headers: dict[str, str], status: int, method: str, path: str, testapp: TestApp
) -> None:
    testapp.request(path, method=method, headers=headers, status=status)


def test_an_image_without_bytes_is_always_told(testapp: TestApp, installation: "Installation") -> None:
    path = f"/images/{add_row(installation, updated_at=BECAME)}"
    testapp.head(path, headers={"If-Modified-Since": at()}, status=200)
    testapp.get(path, headers={"If-Modified-Since": at()}, status=404)


@pytest.mark.parametrize(("seconds", "status"), [(0, 206), (-1, 200), (1, 200)])
def test_a_part_of_the_bytes_of_that_time(seconds: int, status: int, path: str, testapp: TestApp) -> None:
    headers = {"Range": "bytes=0-0", "If-Range": at(seconds)}
    assert testapp.get(path, headers=headers, status=status).body == DATA[: 1 if status == 206 else None]
