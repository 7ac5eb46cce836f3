"""Members and shared images as JSON. Who may: test_permissions.py."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from factories import BOB, detail, error_of, send_chunked, stored, upload, wire

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]


@pytest.fixture
def path(testapp: TestApp) -> str:
    """The path of an image that nobody shares."""
    return upload(testapp, name="f17", id="f17")


def members_of(app: TestApp, path: str) -> dict[str, bool]:
    members = app.get(f"{path}/members", status=200).json["members"]
    return {each["member_id"]: each["can_share"] for each in members}


def put(app: TestApp, path: str, member: str, can_share: bool | None = None, **expected: Any) -> Any:
    """Make a member; without ``can_share`` there is no body."""
    if can_share is None:
        return app.put(f"{path}/members/{member}", **expected)
    return app.put_json(f"{path}/members/{member}", {"member": {"can_share": can_share}}, **expected)


def test_a_body_needs_no_content_type_and_may_come_in_chunks(testapp: TestApp, path: str) -> None:
    body = b'{"member": {"can_share": true}}'
    testapp.put(f"{path}/members/plain", body, headers={"Content-Type": "text/plain"}, status=204)
    send_chunked(testapp, "PUT", f"{path}/members/chunked", body, {}, status=204)
    send_chunked(testapp, "PUT", f"{path}/members/empty", b"", {}, status=204)
    assert members_of(testapp, path) == {"chunked": True, "empty": False, "plain": True}


def test_a_list_that_is_sent_back_changes_nothing(testapp: TestApp, path: str, installation: "Installation") -> None:
    shown = detail(testapp, path)
    for member, can_share in {"one": True, "two": False}.items():
        put(testapp, path, member, can_share)
    before = stored(installation)
    told = testapp.get(f"{path}/members").json["members"]
    testapp.put_json(f"{path}/members", {"memberships": told}, status=204)
    after = stored(installation)
    assert {**after, "images": None} == {**before, "images": None}  # whose row counts that it was locked
    assert detail(testapp, path) == shown  # sharing is no change of the image


NAMES = ["0", "detail", "members", "n" * 255, "a b", "a;b", "a?b#c", "%41", "für", "\U0001f600", "é" * 255]


@pytest.mark.parametrize("name", NAMES)
def test_a_member_may_have_any_name_that_a_path_can_hold(name: str, testapp: TestApp, path: str) -> None:
    """S4."""
    testapp.put(f"{path}/members/{quote(name)}", status=204)
    assert members_of(testapp, path) == {name: False}
    assert testapp.get(f"/v1/shared-images/{quote(name)}").json["shared_images"][0]["image_id"] == "f17"
    testapp.put_json(f"{path}/members", {"memberships": [{"member_id": name, "can_share": True}]}, status=204)
    assert members_of(testapp, path) == {name: True}
    testapp.delete(f"{path}/members/{quote(name)}", status=204)
    assert members_of(testapp, path) == {}


@pytest.mark.parametrize(
    "name", [".", "..", "@@b", "a\\b", "a\nb", "\x00", "\x7f", "\x85", "n" * 256, "a/b"], ids=ascii
)
def test_another_name_is_no_members(name: str, testapp: TestApp, path: str, installation: "Installation") -> None:
    """S4: nor does a body make it one."""
    before = stored(installation)
    for place in ("/v1/images/f17/members/", "/v1/shared-images/"):
        for method in ("GET", "PUT", "DELETE"):
            answer = testapp.request("/", method=method, environ={"PATH_INFO": wire(place + name)}, status=404)
            assert error_of(answer) == "There is nothing at this path."
    for bad in (name, "", "\ud800"):
        sent = {"memberships": [{"member_id": "tenant-c"}, {"member_id": bad}]}
        assert "body.memberships.1.member_id" in error_of(testapp.put_json(f"{path}/members", sent, status=400))
    assert stored(installation) == before


TWICE = b'{"memberships": [{"member_id": "b"}, {"member_id": "b"}]}'
BAD_BODIES = [
    b"x",
    b"[]",
    b"{}",
    b'{"memberships": null}',
    b'{"member": null}',
    b'{"member": {"can_share": "maybe"}}',
    TWICE,
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_bad_body_is_refused_by_its_place_and_nothing_stored(
    body: bytes, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    put(testapp, path, "tenant-b", can_share=True)
    before = stored(installation)
    for place in ("members", "members/tenant-b", "members/tenant-c"):
        chunked = send_chunked(testapp, "PUT", f"{path}/{place}", body, {}, status=400)
        for answer in (chunked, testapp.put(f"{path}/{place}", body, status=400)):
            assert error_of(answer).startswith("body")
    assert "body.memberships" in error_of(testapp.put(f"{path}/members", status=400))  # none is no list
    assert stored(installation) == before


class Endless(io.RawIOBase):
    """A body that never ends."""

    def read(self, size: int = -1) -> bytes:
        return b" " * size


@pytest.mark.parametrize("announced", [{"CONTENT_LENGTH": str(2**40)}, {"pyrimage.chunked": True}], ids=str)
def test_a_body_without_end_is_cut_off(
    announced: dict[str, Any], testapp: TestApp, path: str, installation: "Installation"
) -> None:
    """S38."""
    before = stored(installation)
    for place in ("members", "members/tenant-b"):
        environ = {"wsgi.input": Endless(), **announced}
        answer = testapp.request(f"{path}/{place}", method="PUT", environ=environ, status=413)
        assert "1048576 bytes" in error_of(answer)
    assert stored(installation) == before


def test_an_image_that_is_not_there_is_shared_with_nobody(
    testapp: TestApp, path: str, installation: "Installation"
) -> None:
    for each in (path, upload(testapp, id="kept")):
        put(testapp, each, "tenant-b")
    testapp.delete(path)
    before = stored(installation)
    for collection in ("/images", "/v1/images"):
        for image_id in ("f17", "unknown", "detail", "-1"):
            for place, method in [
                (p, m) for p in ("members", "members/tenant-b") for m in ("GET", "PUT", "DELETE", "POST")
            ]:
                testapp.request(f"{collection}/{image_id}/{place}", method=method, status=404)
    assert stored(installation) == before
    testapp.head(path, status=200)  # though an administrator sees it
    for app in (testapp, installation.client(BOB)):
        shared = app.get("/v1/shared-images/tenant-b").json["shared_images"]
        assert shared == [{"image_id": "kept", "can_share": False}]


def test_the_quota_is_told_with_its_setting_and_never_counts_a_member_twice(install_with: Install) -> None:
    """S38."""
    app = install_with(image_member_quota="2").client()
    path = upload(app)
    put(app, path, "one")
    put(app, path, "two")
    assert "pyrimage.image_member_quota" in error_of(put(app, path, "three", status=413))
    sent = [{"member_id": name} for name in ("one", "two", "three")]
    assert "pyrimage.image_member_quota" in error_of(app.put_json(f"{path}/members", {"memberships": sent}, status=413))
    put(app, path, "two", can_share=True, status=204)
    app.put_json(f"{path}/members", {"memberships": sent[:2]}, status=204)
    assert members_of(app, path) == {"one": False, "two": True}
    app.delete(f"{path}/members/one")
    put(app, path, "three", status=204)
    put(app, upload(app), "three", status=204)
