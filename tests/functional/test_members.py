"""Members and shared images as JSON. Who may: test_sharing_rights.py."""

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from factories import ALICE, BOB, detail, error_of, id_of, send_chunked, stored, upload, wire

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]
BOTH = ["/images", "/v1/images"]


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


@pytest.mark.parametrize("version", ["", "/v1", "/v1.0", "/v1.1"])
def test_the_whole_way_of_sharing(version: str, testapp: TestApp, installation: "Installation") -> None:
    image_id = id_of(upload(installation.client(ALICE), name="f17"))
    owner, member, members = (
        installation.client(ALICE),
        installation.client(BOB),
        f"{version}/images/{image_id}/members",
    )
    member.head(f"{version}/images/{image_id}", status=404)
    assert owner.get(members, status=200).json == {"members": []}
    owner.put(f"{members}/tenant-b", status=204)
    owner.put_json(f"{members}/tenant-c", {"member": {"can_share": True}}, status=204)
    assert owner.get(members).json == {
        "members": [{"member_id": "tenant-b", "can_share": False}, {"member_id": "tenant-c", "can_share": True}]
    }
    assert member.get(f"{version}/images/{image_id}", status=200).body == b"bytes"
    assert [each["id"] for each in member.get(f"{version}/images").json["images"]] == [image_id]
    shared = {"shared_images": [{"image_id": image_id, "can_share": False}]}
    assert member.get(f"{version}/shared-images/tenant-b", status=200).json == shared
    assert testapp.get(f"{version}/shared-images/tenant-b", status=200).json == shared
    owner.delete(f"{members}/tenant-b", status=204)
    member.head(f"{version}/images/{image_id}", status=404)
    assert member.get(f"{version}/shared-images/tenant-b").json == {"shared_images": []}
    owner.put_json(members, {"memberships": [{"member_id": "tenant-b", "can_share": True}]}, status=204)
    assert members_of(owner, f"{version}/images/{image_id}") == {"tenant-b": True}


def test_an_answer_without_content_announces_none(testapp: TestApp, path: str) -> None:
    for answer in (
        put(testapp, path, "tenant-b", status=204),
        testapp.put_json(f"{path}/members", {"memberships": [{"member_id": "tenant-b"}]}, status=204),
        testapp.delete(f"{path}/members/tenant-b", status=204),
    ):
        assert answer.body == b""
        assert not {"content-type", "content-length"} & {name.lower() for name in answer.headers}


@pytest.mark.parametrize("before", [None, False, True])
@pytest.mark.parametrize("body", [b"", b'{"member": {}}', b'{"member": {"can_share": false}}'])
def test_what_a_put_does_not_say_stays(body: bytes, before: bool | None, testapp: TestApp, path: str) -> None:
    put(testapp, path, "tenant-b", before)
    testapp.put(f"{path}/members/tenant-b", body, status=204)
    assert members_of(testapp, path) == {"tenant-b": bool(before) and b"can_share" not in body}


def test_a_body_needs_no_content_type_and_may_come_in_chunks(testapp: TestApp, path: str) -> None:
    body = b'{"member": {"can_share": true}}'
    testapp.put(f"{path}/members/plain", body, headers={"Content-Type": "text/plain"}, status=204)
    send_chunked(testapp, "PUT", f"{path}/members/chunked", body, {}, status=204)
    send_chunked(testapp, "PUT", f"{path}/members/empty", b"", {}, status=204)
    assert members_of(testapp, path) == {"chunked": True, "empty": False, "plain": True}


def test_a_replacement_says_who_shall_be_and_keeps_what_it_does_not_say(testapp: TestApp, path: str) -> None:
    for member, can_share in {"kept": True, "set": True, "gone": True}.items():
        put(testapp, path, member, can_share)
    sent = [{"member_id": "kept"}, {"member_id": "set", "can_share": False}, {"member_id": "new"}]
    testapp.put_json(f"{path}/members", {"memberships": sent}, status=204)
    assert members_of(testapp, path) == {"kept": True, "set": False, "new": False}
    testapp.put_json(f"{path}/members", {"memberships": []}, status=204)
    assert members_of(testapp, path) == {}


def test_a_list_that_is_sent_back_changes_nothing(testapp: TestApp, path: str, installation: "Installation") -> None:
    for member, can_share in {"one": True, "two": False}.items():
        put(testapp, path, member, can_share)
    before, shown = stored(installation), detail(testapp, path)
    told = testapp.get(f"{path}/members").json["members"]
    testapp.put_json(f"{path}/members", {"memberships": told}, status=204)
    after = stored(installation)
    assert {**after, "images": None} == {**before, "images": None}  # whose row counts that it was locked
    assert detail(testapp, path) == shown


def test_sharing_is_no_change_of_the_image(testapp: TestApp, path: str) -> None:
    before = detail(testapp, path)
    put(testapp, path, "tenant-b")
    testapp.put_json(f"{path}/members", {"memberships": []})
    assert detail(testapp, path) == before


def test_an_image_of_any_kind_may_be_shared(testapp: TestApp, installation: "Installation") -> None:
    paths = [upload(testapp, is_public=True), upload(testapp, protected=True), upload(testapp)]
    for path in paths:
        put(testapp, path, "tenant-b", status=204)
    shared = installation.client(BOB).get("/v1/shared-images/tenant-b").json["shared_images"]
    assert {each["image_id"] for each in shared} == {id_of(path) for path in paths}
    installation.client(BOB).head(paths[2], status=200)


PLAIN_NAMES = ["tenant-b", "0", "detail", "members", "n" * 255]
NAMES = [*PLAIN_NAMES, "a b", "a;b", "a?b#c", "%41", "für", "日本", "\U0001f600", "é" * 255]


@pytest.mark.parametrize("name", NAMES)
def test_a_member_may_have_any_name_that_a_path_can_hold_s4(
    name: str, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    testapp.put(f"{path}/members/{quote(name)}", status=204)
    assert members_of(testapp, path) == {name: False}
    assert testapp.get(f"/v1/shared-images/{quote(name)}").json["shared_images"][0]["image_id"] == "f17"
    testapp.put_json(f"{path}/members", {"memberships": [{"member_id": name, "can_share": True}]}, status=204)
    assert members_of(testapp, path) == {name: True}
    testapp.delete(f"{path}/members/{quote(name)}", status=204)
    assert members_of(testapp, path) == {}


NO_NAMES = [".", "..", "@@b", "a\\b", "a\nb", "\x00", "\x7f", "\x85", "n" * 256, "a/b"]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
@pytest.mark.parametrize("place", ["/v1/images/f17/members/", "/v1/shared-images/"])
def test_a_name_that_cannot_be_a_members_is_not_there(
    place: str, name: str, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    before = stored(installation)
    for method in ("GET", "PUT", "DELETE"):
        answer = testapp.request("/", method=method, environ={"PATH_INFO": wire(place + name)}, status=404)
        assert error_of(answer) == "There is nothing at this path."
    assert stored(installation) == before


@pytest.mark.parametrize("name", ["", *NO_NAMES, "\ud800"], ids=ascii)
def test_nor_does_a_body_make_it_one_s4(name: str, testapp: TestApp, path: str, installation: "Installation") -> None:
    put(testapp, path, "tenant-b")
    before = stored(installation)
    sent = {"memberships": [{"member_id": "tenant-c"}, {"member_id": name}]}
    assert "body.memberships.1.member_id" in error_of(testapp.put_json(f"{path}/members", sent, status=400))
    assert stored(installation) == before


BAD_BODIES = [b"x", b"[]", b"{}", b'{"memberships": null}', b'{"member": null}', b'{"member": {"can_share": "maybe"}}']


@pytest.mark.parametrize("body", [*BAD_BODIES, b'{"memberships": [{"member_id": "b"}, {"member_id": "b"}]}'])
@pytest.mark.parametrize("place", ["members", "members/tenant-b", "members/tenant-c"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bad_body_is_refused_by_its_place_and_nothing_stored(
    chunked: bool, place: str, body: bytes, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    put(testapp, path, "tenant-b", can_share=True)
    before = stored(installation)
    if chunked:
        answer = send_chunked(testapp, "PUT", f"{path}/{place}", body, {}, status=400)
    else:
        answer = testapp.put(f"{path}/{place}", body, status=400)
    assert error_of(answer).startswith("body")
    assert stored(installation) == before


def test_a_replacement_needs_a_body(testapp: TestApp, path: str) -> None:
    put(testapp, path, "tenant-b")
    assert "body.memberships" in error_of(testapp.put(f"{path}/members", status=400))
    assert members_of(testapp, path) == {"tenant-b": False}


def endless() -> io.RawIOBase:
    """A body that never ends."""

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b" " * size

    return Endless()


@pytest.mark.parametrize("place", ["members", "members/tenant-b"])
@pytest.mark.parametrize("announced", [{"CONTENT_LENGTH": str(2**40)}, {"pyrimage.chunked": True}], ids=str)
def test_a_body_without_end_is_cut_off_s38(
    announced: dict[str, Any], place: str, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    before = stored(installation)
    environ = {"wsgi.input": endless(), **announced}
    answer = testapp.request(f"{path}/{place}", method="PUT", environ=environ, status=413)
    assert "1048576 bytes" in error_of(answer)
    assert stored(installation) == before


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
ALLOWED = {
    "/images/f17/members": ["GET", "HEAD", "PUT"],
    "/images/f17/members/tenant-b": ["PUT", "DELETE"],
    "/shared-images/tenant-b": ["GET", "HEAD"],
}


@pytest.mark.parametrize("version", ["", "/v1"])
@pytest.mark.parametrize("place", ALLOWED)
@pytest.mark.parametrize("method", METHODS)
def test_each_place_knows_its_methods(method: str, place: str, version: str, testapp: TestApp, path: str) -> None:
    answer = testapp.request(version + place, method=method, expect_errors=True)
    assert (answer.status_int == 405) is (method not in ALLOWED[place])
    if answer.status_int == 405:
        assert answer.headers["Allow"] == ", ".join(ALLOWED[place])


def test_a_head_of_a_list_is_its_get_without_a_body(testapp: TestApp, path: str) -> None:
    put(testapp, path, "tenant-b")
    for place in (f"{path}/members", "/v1/shared-images/tenant-b"):
        head, got = testapp.head(place, status=200), testapp.get(place)
        assert (head.body, head.headers["Content-Length"]) == (b"", str(len(got.body)))
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert got.content_type == "application/json"


def test_the_collection_answers_with_a_slash_at_its_end(testapp: TestApp, path: str) -> None:
    assert testapp.get(f"{path}/members/", status=200).json == {"members": []}
    testapp.put_json(f"{path}/members/", {"memberships": []}, status=204)


BEHIND_ONE = ["/members/b/", "/members/b/c", "/members/b/members", "/members//b"]
OTHER_PATHS = [*BEHIND_ONE, "/Members", "/member", "/members.json"]


@pytest.mark.parametrize("rest", OTHER_PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_paths_are_not_there(
    method: str, rest: str, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    put(testapp, path, "b")
    before = stored(installation)
    environ = {"PATH_INFO": path + rest}
    message = error_of(testapp.request("/", method=method, environ=environ, status=404))
    assert message == "There is nothing at this path."
    assert stored(installation) == before


@pytest.mark.parametrize("place", ["members", "members/tenant-b"])
@pytest.mark.parametrize("collection", BOTH)
def test_an_image_that_is_not_there_has_no_members(
    collection: str, place: str, testapp: TestApp, path: str, installation: "Installation"
) -> None:
    put(testapp, path, "tenant-b")
    testapp.delete(path)
    before = stored(installation)
    for image_id in ("f17", "unknown", "detail", "-1"):
        for method in ("GET", "PUT", "DELETE", "POST"):
            testapp.request(f"{collection}/{image_id}/{place}", method=method, status=404)
    assert stored(installation) == before
    testapp.head(path, status=200)  # though an administrator sees it


def test_what_is_deleted_is_shared_with_nobody(testapp: TestApp, path: str, installation: "Installation") -> None:
    kept = upload(testapp, id="kept")
    for each in (path, kept):
        put(testapp, each, "tenant-b")
    testapp.delete(path)
    for app in (testapp, installation.client(BOB)):
        shared = app.get("/v1/shared-images/tenant-b").json["shared_images"]
        assert shared == [{"image_id": "kept", "can_share": False}]


@pytest.mark.parametrize("member", ["never", "TENANT-B"])
def test_who_is_no_member_cannot_be_removed(member: str, testapp: TestApp, path: str) -> None:
    put(testapp, path, "tenant-b")
    assert error_of(testapp.delete(f"{path}/members/{member}", status=404)) == (
        f"'{member}' is not a member of image f17."
    )
    assert members_of(testapp, path) == {"tenant-b": False}


def test_with_whom_nothing_is_shared_the_list_is_empty(testapp: TestApp) -> None:
    assert testapp.get("/v1/shared-images/unknown", status=200).json == {"shared_images": []}


def test_the_quota_is_told_with_its_setting_and_never_counts_a_member_twice_s38(install_with: Install) -> None:
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


def test_without_a_quota_there_is_no_limit(testapp: TestApp, path: str) -> None:
    names = [f"tenant-{number:04}" for number in range(2000)]
    testapp.put_json(f"{path}/members", {"memberships": [{"member_id": name} for name in names]}, status=204)
    put(testapp, path, "one more", status=204)
    assert list(members_of(testapp, path)) == ["one more", *names]


def test_a_quota_of_zero_shares_nothing(install_with: Install) -> None:
    app = install_with(image_member_quota="0").client()
    path = upload(app)
    put(app, path, "tenant-b", status=413)
    app.put(f"{path}/members", json.dumps({"memberships": []}), status=204)
