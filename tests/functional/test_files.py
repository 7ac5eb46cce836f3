"""``/images/<id>/file/<any name>``: the data of an image at a URL whose ending tools can go by."""

from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ADMIN, ALICE, BOB, NOBODY, add_row, error_of, id_of, image_headers, md5, reserve, stored, upload

if TYPE_CHECKING:
    from conftest import Installation

DATA = bytes(range(250))
COLLECTIONS = pytest.mark.parametrize("collection", ["/images", "/v1/images", "/v1.1/images"])


@pytest.fixture
def image(testapp: TestApp) -> str:
    """The id of an image with data."""
    return id_of(upload(testapp, DATA, name="Ubuntu 24.04", disk_format="qcow2", properties={"os": "linux"}))


@COLLECTIONS
@pytest.mark.parametrize(
    "name", ["x.qcow2", "x", "members", "file", "...", "a%20b.iso", "%C3%A9.raw", "x;y=z", "~", "@x", "n" * 2000]
)
def test_any_name_leads_to_the_data(name: str, collection: str, image: str, testapp: TestApp) -> None:
    answer = testapp.get(f"{collection}/{image}/file/{name}?any=query", status=200)
    assert answer.body == DATA
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Ubuntu 24.04.qcow2"'
    assert (answer.headers["ETag"], answer.headers["Accept-Ranges"]) == (md5(DATA), "bytes")
    assert image_headers(answer) == {}


@COLLECTIONS
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Range": "bytes=5-9"}, 206),
        ({"Range": "bytes=-1", "If-Range": md5(DATA)}, 206),
        ({"Range": "bytes=5-9", "If-Range": md5(b"other")}, 200),
        ({"Range": "bytes=250-"}, 416),
        ({"If-None-Match": f'"{md5(DATA)}"'}, 304),
        ({"If-None-Match": md5(b"other")}, 200),
    ],
)
def test_ranges_and_conditions_are_those_of_the_image(
    headers: dict[str, str], status: int, collection: str, image: str, testapp: TestApp
) -> None:
    file = testapp.get(f"{collection}/{image}/file/x", headers=headers, status=status)
    whole = testapp.get(f"{collection}/{image}", headers=headers, status=status)
    assert file.body == whole.body
    ours = ("x-image-meta-", "x-openstack-request-id")
    assert dict(file.headers) == {
        **{name: value for name, value in whole.headers.items() if not name.startswith(ours)},
        "x-openstack-request-id": file.headers["x-openstack-request-id"],
    }


@COLLECTIONS
def test_head_is_get_without_the_bytes(collection: str, image: str, testapp: TestApp) -> None:
    path = f"{collection}/{image}/file/x"
    got, headed = testapp.get(path), testapp.head(path, status=200)
    assert (headed.body, headed.headers["Content-Length"]) == (b"", "250")
    own = "x-openstack-request-id"
    assert {**got.headers, own: ""} == {**headed.headers, own: ""}


@pytest.mark.parametrize("status", ["queued", "saving", "killed", "pending_delete", "deactivated"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_image_without_readable_data_has_no_file(
    method: str, status: str, testapp: TestApp, installation: "Installation"
) -> None:
    """HEAD too: at the image's own path it tells what is known, and here is nothing to tell."""
    image = add_row(installation, status=status, size=5)
    testapp.request(f"/images/{image}/file/x", method=method, status=404)
    testapp.head(f"/images/{image}", status=200)


def test_a_deleted_image_has_no_file(image: str, testapp: TestApp) -> None:
    testapp.delete(f"/images/{image}")
    testapp.head(f"/images/{image}", status=200)  # to an administrator
    testapp.head(f"/images/{image}/file/x", status=404)


def test_an_empty_image_has_an_empty_file(testapp: TestApp) -> None:
    answer = testapp.get(f"/images/{id_of(reserve(testapp, size=0, name='f17'))}/file/x.raw", status=200)
    assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")


@pytest.mark.parametrize(("identity", "status"), [(ALICE, 200), (ADMIN, 200), (BOB, 404), (NOBODY, 404)])
def test_who_may_see_the_image_may_have_its_file(identity: Any, status: int, installation: "Installation") -> None:
    image = id_of(upload(installation.client(ALICE), DATA, name="f17"))
    for path in (f"/images/{image}", f"/images/{image}/file/x"):
        installation.client(identity).get(path, status=status)
        installation.client(identity).head(path, status=status)


@COLLECTIONS
@pytest.mark.parametrize(
    "path",
    [
        *("/file", "/file/", "/file/x/", "/file/x/y", "/file/x/members", "/files/x", "/File/x"),
        *("/file//x", "/file/.", "/file/..", "/file/../x", "/file/@@x"),
        *("/file/a%2fb", "/file/a%5Cb", "/file/a%00", "/file/a%0D%0Ab"),
    ],
)
def test_every_other_path_is_not_there(
    path: str, collection: str, image: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S26."""
    before = stored(installation)
    for method in ("GET", "PUT", "DELETE", "POST"):
        answer = testapp.request(f"{collection}/{image}{path}", method=method, status=404)
        assert error_of(answer) == "There is nothing at this path."
    assert stored(installation) == before


def test_a_file_is_found_with_the_one_select_of_its_image(image: str, testapp: TestApp, statements: list[str]) -> None:
    testapp.head(f"/images/{image}")
    asked = len(statements)
    statements.clear()
    testapp.head(f"/images/{image}/file/x")
    assert len(statements) == asked
