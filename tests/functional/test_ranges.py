"""Parts of an image: Range and If-Range. How the headers are read: unit/schemas/test_conditions.py."""

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper

import pytest
from webob import Request
from webtest import TestApp

from factories import ALICE, BOB, error_of, id_of, image_headers, md5, meta, reserve, upload

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Installation

DATA = bytes(range(256)) * 4096  # more than one read
SIZE = len(DATA)
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])


@pytest.fixture
def path(testapp: TestApp) -> str:
    return upload(testapp, DATA, name="f17", properties={"os": "linux"})


def file_of(installation: "Installation") -> "Path":
    (name,) = installation.blobs_on_disk()
    return installation.datadir / name


def body_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


@COLLECTIONS
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=7-100006", 7, 100_006),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-70000", SIZE - 70_000, SIZE - 1),
        (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=5-18446744073709551616", 5, SIZE - 1),
    ],
)
def test_a_part_is_sent_with_its_place(
    asked: str, first: int, last: int, collection: str, path: str, testapp: TestApp
) -> None:
    """S54."""
    answer = testapp.get(f"{collection}/{id_of(path)}", headers={"Range": asked}, status=206)
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.body == DATA[first : last + 1]


@COLLECTIONS
def test_a_part_has_every_other_header_of_the_whole(collection: str, path: str, testapp: TestApp) -> None:
    whole = testapp.get(f"{collection}/{id_of(path)}").headers
    part = testapp.get(f"{collection}/{id_of(path)}", headers={"Range": "bytes=1-2"}).headers
    assert set(part) - set(whole) == {"Content-Range"}
    differing = {name for name in whole if part[name] != whole[name]}
    assert differing == {"Content-Length", "x-openstack-request-id"}
    assert part["ETag"] == part["x-image-meta-checksum"] == md5(DATA)
    assert part["x-image-meta-size"] == str(SIZE)


def test_parts_together_are_the_whole(path: str, testapp: TestApp) -> None:
    step = 99_991
    parts = [testapp.get(path, headers={"Range": f"bytes={at}-{at + step - 1}"}).body for at in range(0, SIZE, step)]
    assert b"".join(parts) == DATA


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-2", "bytes=0-1,5-6", "bytes=" + ",".join(["0-1"] * 10_000), "lines=0-1", "bytes=-", "bytes=x", "bytes"],
    ids=lambda asked: asked[:20],
)
def test_the_whole_is_sent_for_several_ranges_and_for_none(asked: str, path: str, testapp: TestApp) -> None:
    """S54."""
    answer = testapp.get(path, headers={"Range": asked}, status=200)
    assert answer.body == DATA
    assert "Content-Range" not in answer.headers


@COLLECTIONS
@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", "bytes=18446744073709551616-", f"bytes={SIZE}-{SIZE}"])
def test_a_range_behind_the_end_is_refused_with_the_size(
    asked: str, collection: str, path: str, testapp: TestApp
) -> None:
    """S54."""
    answer = testapp.get(f"{collection}/{id_of(path)}", headers={"Range": asked}, status=416)
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert "Range" in error_of(answer)
    assert str(SIZE) in error_of(answer)


def test_a_refused_range_asks_no_store(path: str, testapp: TestApp, installation: "Installation") -> None:
    file_of(installation).unlink()
    testapp.get(path, headers={"Range": f"bytes={SIZE}-"}, status=416)


@pytest.mark.parametrize("asked", ["bytes=0-1", f"bytes={SIZE}-"])
def test_head_knows_no_ranges(asked: str, path: str, testapp: TestApp) -> None:
    answer = testapp.head(path, headers={"Range": asked}, status=200)
    assert answer.headers["Content-Length"] == str(SIZE)
    assert "Content-Range" not in answer.headers


def test_that_parts_can_be_asked_for_is_told(path: str, testapp: TestApp) -> None:
    for answer in (testapp.get(path), testapp.head(path), testapp.get(path, headers={"Range": "bytes=0-1"})):
        assert answer.headers["Accept-Ranges"] == "bytes"
    assert "Accept-Ranges" not in testapp.head(reserve(testapp, name="f17")).headers


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-5", "bytes=5-", "bytes=-0"])
def test_an_empty_image_is_sent_whole(asked: str, testapp: TestApp) -> None:
    path = f"/v1/images/{testapp.post('/v1/images', headers=meta(size=0)).json['image']['id']}"
    answer = testapp.get(path, headers={"Range": asked}, status=200)
    assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")


def test_a_queued_image_has_no_parts(testapp: TestApp) -> None:
    testapp.get(reserve(testapp, name="f17", size=SIZE), headers={"Range": "bytes=0-1"}, status=404)


def test_a_part_asks_for_the_same_right_as_the_whole(installation: "Installation") -> None:
    """S3."""
    path = upload(installation.client(ALICE), DATA, name="f17")
    for asked in ("bytes=0-1", f"bytes={SIZE}-"):
        answer = installation.client(BOB).get(path, headers={"Range": asked}, status=404)
        assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("quotes", ["", '"'])
def test_a_part_is_sent_if_the_image_is_the_one_that_is_meant(quotes: str, path: str, testapp: TestApp) -> None:
    headers = {"Range": "bytes=1-2", "If-Range": f"{quotes}{md5(DATA)}{quotes}"}
    assert testapp.get(path, headers=headers, status=206).body == DATA[1:3]


@pytest.mark.parametrize("expected", [md5(b"other"), f'W/"{md5(DATA)}"', "*", "Sat, 29 Oct 1994 19:43:31 GMT"])
@pytest.mark.parametrize("asked", ["bytes=1-2", f"bytes={SIZE}-"])
def test_of_another_image_the_whole_is_sent(asked: str, expected: str, path: str, testapp: TestApp) -> None:
    """S54."""
    assert testapp.get(path, headers={"Range": asked, "If-Range": expected}, status=200).body == DATA


def test_a_part_costs_no_more_statements_than_the_whole(path: str, testapp: TestApp, statements: list[str]) -> None:
    testapp.get(path)
    whole = len(statements)
    testapp.get(path, headers={"Range": "bytes=1-2", "If-None-Match": "x", "If-Range": md5(DATA)}, status=206)
    assert len(statements) == 2 * whole


def test_the_headers_of_a_part_are_the_image_s(path: str, testapp: TestApp) -> None:
    part = testapp.get(path, headers={"Range": "bytes=1-2"})
    headed = image_headers(testapp.head(path))
    assert image_headers(part) == headed
    assert headed["property-os"] == "linux"


# The bytes on their way out


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1])
def test_a_part_of_a_damaged_file_is_not_sent(
    size: int, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S16: also where the part itself would be there."""
    os.truncate(file_of(installation), size)
    answer = testapp.get(path, headers={"Range": "bytes=0-0"}, status=500)
    assert "Content-Range" not in answer.headers


def test_a_part_that_ends_early_is_an_error_and_no_end(path: str, installation: "Installation") -> None:
    """S16."""
    request = Request.blank(path, {"REMOTE_ADDR": "127.0.0.1"}, headers={"Range": "bytes=100-999999"})
    answer = request.get_response(installation.wsgi)
    parts: Iterator[bytes] = iter(answer.app_iter)
    assert next(parts)
    os.truncate(file_of(installation), 900_000)
    with pytest.raises(OSError, match="end early"):
        list(parts)
    answer.app_iter.close()


class PlainHandler(SimpleHandler):
    """The standard library's server, whose file wrapper knows no lengths: it sends until nothing comes."""

    wsgi_file_wrapper: Any = FileWrapper
    http_version = "1.1"


def served_by_wsgiref(installation: "Installation", path: str, **headers: str) -> bytes:
    environ = Request.blank(path, {"REMOTE_ADDR": "127.0.0.1"}, headers=headers).environ
    sent, said = io.BytesIO(), io.StringIO()
    PlainHandler(io.BytesIO(), sent, said, environ).run(installation.wsgi)
    assert said.getvalue() == ""
    return sent.getvalue()


def test_a_server_that_knows_no_lengths_sends_no_more_than_the_part(path: str, installation: "Installation") -> None:
    raw = served_by_wsgiref(installation, path, Range="bytes=7-100006")
    assert raw.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert b"\r\nContent-Length: 100000\r\n" in raw
    assert body_of(raw) == DATA[7:100_007]


def test_a_server_that_knows_no_lengths_sends_no_body_with_a_304(path: str, installation: "Installation") -> None:
    raw = served_by_wsgiref(installation, path, **{"If-None-Match": md5(DATA)})
    assert raw.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert body_of(raw) == b""
