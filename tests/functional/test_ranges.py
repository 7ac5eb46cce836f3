"""The data of an image: whole, in parts (Range, If-Range), and below ``file/`` under any name.

How the headers are read: unit/schemas/test_conditions.py.
"""

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper

import pytest
from webob import Request
from webtest import TestApp

from default_store import file_store_only
from factories import ADMIN, ALICE, BOB, NOBODY, add_row, error_of, id_of, image_headers, md5, reserve, stored, upload

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Installation

DATA = bytes(range(256)) * 4096  # more than one read
SIZE = len(DATA)
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images"])
OWN = "x-openstack-request-id"


@pytest.fixture
def path(testapp: TestApp) -> str:
    return upload(testapp, DATA, name="Ubuntu 24.04", disk_format="qcow2", properties={"os": "linux"})


def file_of(installation: "Installation") -> "Path":
    (path,) = installation.datadir.glob("blobs/*/*")
    return path


# Parts


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
    part = testapp.get(f"{collection}/{id_of(path)}", headers={"Range": asked}, status=206)
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert part.headers["Content-Length"] == str(last - first + 1)
    assert part.body == DATA[first : last + 1]
    whole = testapp.get(f"{collection}/{id_of(path)}")
    assert whole.headers["Accept-Ranges"] == "bytes"
    own = {"Content-Range", "Content-Length", OWN}
    assert {**whole.headers, **{name: part.headers[name] for name in own}} == dict(part.headers)


WHOLE = [
    "bytes=5-2",
    "bytes=0-1,5-6",
    "bytes=" + ",".join(["0-1"] * 10_000),
    "lines=0-1",
    "bytes=-",
    "bytes=x",
    "bytes",
]


@pytest.mark.parametrize("asked", WHOLE, ids=lambda asked: asked[:20])
def test_the_whole_is_sent_for_several_ranges_and_for_none(asked: str, path: str, testapp: TestApp) -> None:
    """S54."""
    answer = testapp.get(path, headers={"Range": asked}, status=200)
    assert answer.body == DATA
    assert "Content-Range" not in answer.headers


@file_store_only
@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", "bytes=18446744073709551616-", f"bytes={SIZE}-{SIZE}"])
def test_a_range_behind_the_end_is_refused_with_the_size(
    asked: str, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S54."""
    file_of(installation).unlink()  # no store is asked
    answer = testapp.get(path, headers={"Range": asked}, status=416)
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert f"the image ends after {SIZE} bytes" in error_of(answer)


def test_head_knows_no_ranges(path: str, testapp: TestApp) -> None:
    whole = {**testapp.get(path).headers, OWN: ""}
    for asked in ("bytes=0-1", f"bytes={SIZE}-"):
        assert {**testapp.head(path, headers={"Range": asked}, status=200).headers, OWN: ""} == whole


def test_an_image_without_bytes_has_no_parts(testapp: TestApp) -> None:
    empty, queued = reserve(testapp, size=0), reserve(testapp, size=SIZE)
    for asked in ("bytes=0-", "bytes=-5", "bytes=5-", "bytes=-0"):
        answer = testapp.get(empty, headers={"Range": asked}, status=200)
        assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")
        testapp.get(queued, headers={"Range": asked}, status=404)
    assert "Accept-Ranges" not in testapp.head(queued).headers


def test_a_part_asks_for_the_same_right_as_the_whole(installation: "Installation") -> None:
    """S3."""
    path = upload(installation.client(ALICE), DATA, name="f17")
    for asked in ("bytes=0-1", f"bytes={SIZE}-"):
        answer = installation.client(BOB).get(path, headers={"Range": asked}, status=404)
        assert "Content-Range" not in answer.headers


def test_a_part_is_sent_if_the_image_is_the_one_that_is_meant(path: str, testapp: TestApp) -> None:
    """S54."""
    same = testapp.head(path).headers["Last-Modified"]
    for known in (md5(DATA), f'"{md5(DATA)}"', same):
        headers = {"Range": "bytes=1-2", "If-Range": known, "If-None-Match": "x"}
        assert testapp.get(path, headers=headers, status=206).body == DATA[1:3]
    for other in (md5(b"other"), f'W/"{md5(DATA)}"', "*", "Sat, 29 Oct 1994 19:43:31 GMT"):
        for asked in ("bytes=1-2", f"bytes={SIZE}-"):
            assert testapp.get(path, headers={"Range": asked, "If-Range": other}, status=200).body == DATA


# The bytes on their way out


@file_store_only
@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1])
def test_a_part_of_a_damaged_file_is_not_sent(
    size: int, path: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S16: also where the part itself would be there."""
    os.truncate(file_of(installation), size)
    answer = testapp.get(path, headers={"Range": "bytes=0-0"}, status=500)
    assert "Content-Range" not in answer.headers


@file_store_only
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


@pytest.mark.parametrize(
    ("headers", "status", "data"),
    [({"Range": "bytes=7-100006"}, b"206 Partial Content", DATA[7:100_007]), ({"If-None-Match": "*"}, b"304 ", b"")],
    ids=["a part", "known"],
)
def test_a_server_that_knows_no_lengths_sends_no_more_than_the_part(
    headers: dict[str, str], status: bytes, data: bytes, path: str, installation: "Installation"
) -> None:
    environ = Request.blank(path, {"REMOTE_ADDR": "127.0.0.1"}, headers=headers).environ
    sent, said = io.BytesIO(), io.StringIO()
    PlainHandler(io.BytesIO(), sent, said, environ).run(installation.wsgi)
    head, _, body = sent.getvalue().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert (body, said.getvalue()) == (data, "")


# /images/<id>/file/<any name>: the same data at a URL whose ending tools can go by


@COLLECTIONS
@pytest.mark.parametrize(
    "name", ["x.qcow2", "members", "file", "...", "a%20b.iso", "%C3%A9.raw", "x;y=z", "@x", "n" * 2000]
)
def test_any_name_leads_to_the_data(name: str, collection: str, path: str, testapp: TestApp) -> None:
    answer = testapp.get(f"{collection}/{id_of(path)}/file/{name}?any=query", status=200)
    assert answer.body == DATA
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Ubuntu 24.04.qcow2"'
    assert image_headers(answer) == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Range": "bytes=5-9"}, 206),
        ({"Range": f"bytes={SIZE}-"}, 416),
        ({"Range": "bytes=5-9", "If-Range": md5(b"other")}, 200),
        ({"If-None-Match": f'"{md5(DATA)}"'}, 304),
        ({"If-Match": md5(b"other")}, 412),
    ],
)
def test_ranges_and_conditions_are_those_of_the_image(
    headers: dict[str, str], status: int, path: str, testapp: TestApp
) -> None:
    file, whole = (testapp.get(each, headers=headers, status=status) for each in (f"{path}/file/x", path))
    assert file.body == whole.body
    kept = {name: value for name, value in whole.headers.items() if not name.startswith("x-image-meta-")}
    assert {**file.headers, OWN: ""} == {**kept, OWN: ""}
    if not headers:
        headed = testapp.head(f"{path}/file/x")
        assert ({**headed.headers, OWN: ""}, headed.body) == ({**kept, OWN: ""}, b"")


@pytest.mark.parametrize("status", ["queued", "saving", "killed", "pending_delete", "deactivated", "deleted"])
def test_an_image_without_readable_data_has_no_file(
    status: str, testapp: TestApp, installation: "Installation"
) -> None:
    """HEAD too: at the image's own path it tells what is known, and here is nothing to tell."""
    image = add_row(installation, status=status, size=5, deleted=status == "deleted")
    for method in ("GET", "HEAD"):
        testapp.request(f"/images/{image}/file/x", method=method, status=404)
    testapp.head(f"/images/{image}", status=200)


@pytest.mark.parametrize(("identity", "status"), [(ALICE, 200), (ADMIN, 200), (BOB, 404), (NOBODY, 404)])
def test_who_may_see_the_image_may_have_its_file(identity: Any, status: int, installation: "Installation") -> None:
    image = id_of(upload(installation.client(ALICE), b"bytes", name="f17"))
    for path in (f"/images/{image}", f"/images/{image}/file/x"):
        installation.client(identity).get(path, status=status)
        installation.client(identity).head(path, status=status)


@COLLECTIONS
@pytest.mark.parametrize(
    "rest",
    [
        *("/file", "/file/", "/file/x/", "/file/x/y", "/file/x/members", "/files/x", "/File/x"),
        *("/file//x", "/file/.", "/file/..", "/file/../x", "/file/@@x"),
        *("/file/a%2fb", "/file/a%5Cb", "/file/a%00", "/file/a%0D%0Ab"),
    ],
)
def test_every_other_path_is_not_there(
    rest: str, collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S26."""
    image = id_of(upload(testapp))
    before = stored(installation)
    for method in ("GET", "PUT", "DELETE", "POST"):
        answer = testapp.request(f"{collection}/{image}{rest}", method=method, status=404)
        assert error_of(answer) == "There is nothing at this path."
    assert stored(installation) == before
