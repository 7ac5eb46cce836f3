"""Who may do what, beside the tables of docs/permissions.md, which test_permissions_page.py tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from default_catalogue import sql_catalogue_only
from factories import (
    ADMIN,
    ALICE,
    BOB,
    NOBODY,
    READER,
    add_row,
    data_headers,
    error_of,
    image_headers,
    insert_rows,
    meta,
    reserve,
    stored,
    upload,
)
from permissions import HOMELESS, SHARER, STRANGER
from pyrimage.catalogue.records import Identity
from pyrimage.models import MemberRow

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

CALLERS = {
    "owner": ALICE,
    "member": BOB,
    "sharer": SHARER,
    "stranger": STRANGER,
    "homeless": HOMELESS,
    "reader": READER,
    "admin": ADMIN,
    "nobody": NOBODY,
}
IMAGES = {
    "public": {"owner": "tenant-a", "is_public": True},
    "private": {"owner": "tenant-a", "is_public": False},
    "nobody's": {"owner": "", "is_public": False},
}


def shared_image(installation: "Installation", kind: str = "private", status: str = "active") -> str:
    """Make an image that three projects are members of, one of which may share it; return its path."""
    image_id = add_row(installation, id="f17", status=status, **IMAGES[kind])
    names = ("tenant-b", "tenant-s", "other")
    insert_rows(installation, *(MemberRow(image_id=image_id, member=n, can_share=n == "tenant-s") for n in names))
    return f"/v1/images/{image_id}"


# Images


def test_a_refused_deletion_leaves_the_bytes(installation: "Installation") -> None:
    """S1."""
    for is_public in (True, False):
        path = upload(installation.client(ALICE), name="f17", is_public=is_public)
        for caller in (BOB, STRANGER, HOMELESS, READER):
            status = 403 if is_public or caller == READER else 404
            installation.client(caller).delete(path, status=status)
        installation.client(NOBODY).delete(path, status=401 if is_public else 404)
        assert installation.client(ALICE).get(path).body == b"bytes"


def test_an_image_without_owner_is_not_that_of_a_project_called_none(installation: "Installation") -> None:
    """S10."""
    path = f"/v1/images/{add_row(installation, is_public=True)}"
    caller = Identity(user="eve", project="None", roles=frozenset({"member"}))
    for method in ("PUT", "DELETE"):
        installation.client(caller).request(path, method=method, status=403)


WORDS = ["queued", "active", "saving", "killed", "deleted", "pending_delete", "deactivated"]


@pytest.mark.parametrize("status", ["queued", "active", "deactivated", "pending_delete", "deleted"])
@pytest.mark.parametrize("caller", ["owner", "admin"])
def test_nobody_sets_a_status(caller: str, status: str, installation: "Installation") -> None:
    """S2."""
    path = f"/v1/images/{add_row(installation, status=status, owner='tenant-a', deleted=status == 'deleted')}"
    before, app = stored(installation), installation.client(CALLERS[caller])
    for word in WORDS:
        if word != status:
            refusal = 404 if status == "deleted" and caller == "owner" else 403
            app.put(path, headers=meta(status=word), status=refusal)
    assert stored(installation) == before
    made = app.post("/v1/images", headers=meta(status=status), status=201).json["image"]
    assert made["status"] == "queued"
    made = app.post("/v1/images", b"bytes", headers=data_headers(status=status), status=201).json["image"]
    assert made["status"] == "active"


FOREIGN = {
    **dict.fromkeys(("created_at", "updated_at", "deleted_at"), "2001-01-01T00:00:00"),
    "owner": "tenant-b",
    "deleted": "True",
    "uri": "http://example.org/",
    "virtual_size": "1",
}


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_a_user_sets_neither_owner_nor_times_nor_deleted(data: bytes, installation: "Installation") -> None:
    """S11."""
    app = installation.client(ALICE)
    made = app.post("/v1/images", data, headers=data_headers(name="f17", **FOREIGN), status=201).json["image"]
    changed = app.put(f"/v1/images/{made['id']}", headers=meta(**FOREIGN), status=200).json["image"]
    for image in (made, changed):
        assert {name for name, value in FOREIGN.items() if str(image.get(name)) == value} == set()
        assert (image["owner"], image["deleted"], image["deleted_at"]) == ("tenant-a", False, None)
    assert [image["id"] for image in app.get("/v1/images").json["images"]] == [made["id"]]


@pytest.mark.parametrize("collection", ["/images", "/v1/images"])
def test_a_location_is_for_administrators(collection: str, installation: "Installation") -> None:
    """S43."""
    owner = installation.client(ALICE)
    made = owner.post(collection, b"bytes", headers=data_headers(name="f17", is_public=True))
    path = f"{collection}/{made.json['image']['id']}"
    lists = [owner.get(collection), owner.get(f"{collection}/detail")]
    for answer in [made, owner.head(path), owner.get(path), owner.put(path), *lists]:
        assert "location" not in image_headers(answer)
        assert '"location"' not in answer.text
    seen = installation.client(ADMIN).head(path).headers["x-image-meta-location"]
    assert seen.startswith(("file:///", "s3+http://", "swift+http://"))
    assert "@" not in seen


def test_where_administrators_publish_nobody_else_does(install_with: Install) -> None:
    """S5."""
    installation = install_with(publicize_image="admin")
    owner, admin = installation.client(ALICE), installation.client(ADMIN)
    path = reserve(owner)
    before = stored(installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        for data in (b"", b"bytes"):
            sent: dict[str, Any] = {"method": method, "body": data, "headers": data_headers(is_public=True)}
            assert "pyrimage.publicize_image" in error_of(owner.request(target, **sent, status=403))
    assert stored(installation) == before
    admin.post("/v1/images", headers=meta(is_public=True), status=201)
    admin.put(path, b"bytes", headers=data_headers(is_public=True), status=200)
    # The owner of a public image may change it, and hide it.
    assert owner.put(path, headers=meta(name="f18", is_public=True)).json["image"]["name"] == "f18"
    owner.put(path, headers=meta(is_public=False), status=200)
    owner.put(path, headers=meta(is_public=True), status=403)


def test_a_quota_is_the_projects_whoever_makes_its_images(install_with: Install) -> None:
    """S38: its users count together, and what administrators give it, too; so do all images without owner."""
    installation = install_with(user_image_quota="1", user_storage_quota="5")
    other = Identity(user="zoe", project="tenant-a", roles=frozenset({"member"}))
    upload(installation.client(ALICE))
    upload(installation.client(BOB))
    upload(installation.client(HOMELESS))
    before = stored(installation)
    asked = [(other, {}), (ADMIN, {"owner": "tenant-a"}), (ADMIN, {}), (HOMELESS, {}), (BOB, {})]
    for caller, fields in asked:
        for data in (b"", b"b"):
            installation.client(caller).post("/v1/images", data, headers=data_headers(**fields), status=413)
    assert stored(installation) == before


# Sharing


@pytest.mark.parametrize("kind", ["public", "private"])
@pytest.mark.parametrize("place", ["members/new", "members"])
def test_why_is_told_to_those_who_see_the_image(place: str, kind: str, installation: "Installation") -> None:
    path = f"{shared_image(installation, kind)}/{place}"
    assert error_of(installation.client(BOB).put(path, status=404)) == (
        "Only the owner of image f17, and members that can share it, may change its members."
    )


@pytest.mark.parametrize("caller", ["member", "sharer"])
@pytest.mark.parametrize("kind", IMAGES)
def test_a_member_removes_itself_and_stays_out_until_it_is_added_again(
    kind: str, caller: str, installation: "Installation"
) -> None:
    """S4."""
    path, member = shared_image(installation, kind), CALLERS[caller]
    app, admin = installation.client(member), installation.client(ADMIN)
    own = f"{path}/members/{member.project}"
    app.delete(own, status=204)
    app.head(path, status=200 if kind == "public" else 404)
    assert app.get(f"/v1/shared-images/{member.project}").json == {"shared_images": []}
    app.put(own, status=404)
    admin.put(own, status=204)
    app.head(path, status=200)
    shared = {"shared_images": [{"image_id": "f17", "can_share": False}]}
    assert app.get(f"/v1/shared-images/{member.project}").json == shared


# How many SELECTs a request below an image costs; the first finds the image, the last does what is asked.
SELECTS = [
    *((caller, "GET", "/members", 2) for caller in ("owner", "member", "sharer", "admin")),
    ("admin", "PUT", "/members/other", 2),
    ("owner", "PUT", "/members/other", 3),  # whether it is still the owner, when the image is locked
    ("sharer", "PUT", "/members/other", 4),  # whether it may share, and again when the image is locked
    ("member", "PUT", "/members/other", 2),  # whether it may share, and it may not
    ("member", "DELETE", "/members/tenant-b", 1),
    ("sharer", "DELETE", "/members/other", 3),
    ("stranger", "PUT", "/members/other", 1),
    *((caller, "HEAD", "", 1) for caller in CALLERS),
]


@sql_catalogue_only
@pytest.mark.parametrize(("caller", "method", "place", "count"), SELECTS)
def test_whether_the_caller_may_share_is_asked_below_members_alone(
    caller: str, method: str, place: str, count: int, installation: "Installation", statements: list[str]
) -> None:
    path = shared_image(installation)
    statements.clear()
    installation.client(CALLERS[caller]).request(path + place, method=method, status="*")
    assert len([each for each in statements if each.lstrip().startswith("SELECT")]) == count


@pytest.mark.parametrize("caller", ["member", "stranger", "reader", "nobody"])
@pytest.mark.parametrize(("method", "place"), [("PUT", "/members"), ("PUT", "/members/x"), ("DELETE", "/members/x")])
def test_who_may_not_share_locks_nothing(
    caller: str, method: str, place: str, installation: "Installation", statements: list[str]
) -> None:
    path = upload(installation.client(ALICE), is_public=True)
    installation.client(ALICE).put(f"{path}/members/tenant-b")
    statements.clear()
    installation.client(CALLERS[caller]).request(path + place, method=method, status=[401, 403, 404])
    assert statements
    assert [each for each in statements if not each.lstrip().startswith("SELECT")] == []
