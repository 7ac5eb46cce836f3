"""DELETE: the image goes at once, its row stays, its bytes follow."""

from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import (
    ADMIN,
    ALICE,
    BOB,
    add_row,
    data_headers,
    error_of,
    id_of,
    insert_rows,
    meta,
    reserve,
    stored,
    upload,
)
from pyrimage.catalogue.records import Identity
from pyrimage.models import MemberRow

if TYPE_CHECKING:
    from conftest import Installation

BOTH = ["/images", "/v1/images"]


@pytest.mark.parametrize("collection", BOTH)
def test_a_deletion_is_answered_with_200_and_nothing(collection: str, testapp: TestApp) -> None:
    answer = testapp.delete(f"{collection}/{id_of(upload(testapp, name='f17'))}", status=200)
    assert answer.body == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_deleted_image_is_not_there_for_its_owner(method: str, installation: "Installation") -> None:
    owner = installation.client(ALICE)
    path = upload(owner, name="f17", is_public=True)
    owner.delete(path)
    owner.request(path, method=method, status=404)


def test_an_administrator_sees_that_an_image_is_deleted(testapp: TestApp) -> None:
    path = upload(testapp, name="f17")
    testapp.delete(path)
    headers = testapp.head(path).headers
    assert (headers["x-image-meta-deleted"], headers["x-image-meta-status"]) == ("True", "deleted")
    assert headers["x-image-meta-deleted_at"] >= headers["x-image-meta-created_at"]
    assert "x-image-meta-location" not in headers
    assert "deleted" in error_of(testapp.get(path, status=404))


def test_a_second_deletion_finds_nothing(testapp: TestApp) -> None:
    path = upload(testapp, name="f17")
    testapp.delete(path)
    testapp.delete(path, status=404)


@pytest.mark.parametrize("is_public", ["None", "True", "False"])
def test_a_deleted_image_is_in_no_list(is_public: str, testapp: TestApp) -> None:
    for publicity in ("true", "false"):
        testapp.delete(upload(testapp, name="f17", is_public=publicity))
    assert testapp.get(f"/v1/images?is_public={is_public}").json == {"images": []}
    assert testapp.get(f"/v1/images/detail?is_public={is_public}").json == {"images": []}


def test_the_bytes_go_and_the_row_stays(testapp: TestApp, installation: "Installation") -> None:
    testapp.delete(upload(testapp, name="f17"))
    after = stored(installation)
    assert (len(after["images"]), after["image_locations"], after["files"]) == (1, [], [])


@pytest.mark.parametrize("status", ["queued", "saving", "active", "killed"])
def test_an_image_of_any_status_can_be_deleted(status: str, testapp: TestApp, installation: "Installation") -> None:
    testapp.delete(f"/v1/images/{add_row(installation, status=status)}", status=200)


def test_a_deleted_image_is_not_there_for_its_members(installation: "Installation") -> None:
    path = upload(installation.client(ALICE), name="f17")
    insert_rows(installation, MemberRow(image_id=id_of(path), member="tenant-b", can_share=False))
    member = installation.client(BOB)
    member.head(path, status=200)
    installation.client(ALICE).delete(path)
    member.head(path, status=404)
    assert member.get("/v1/images").json == {"images": []}


@pytest.mark.parametrize("identity", [ADMIN, ALICE])
def test_a_protected_image_is_deleted_by_nobody(identity: Identity, installation: "Installation") -> None:
    path = upload(installation.client(ALICE), name="f17", protected=True)
    before = stored(installation)
    app = installation.client(identity)
    assert "x-image-meta-protected" in error_of(app.delete(path, status=403))
    assert stored(installation) == before


def test_a_protection_that_is_lifted_protects_no_more(installation: "Installation") -> None:
    owner = installation.client(ALICE)
    path = upload(owner, name="f17", protected=True)
    owner.put(path, headers=meta(protected="false"))
    owner.delete(path, status=200)


def test_a_protected_image_can_still_be_changed(testapp: TestApp) -> None:
    path = reserve(testapp, protected=True)
    assert testapp.put(path, b"bytes", headers=data_headers(name="f18")).json["image"]["status"] == "active"


def test_bytes_that_are_gone_already_hinder_no_deletion(testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    for name in installation.blobs_on_disk():
        (installation.datadir / name).unlink()
    testapp.delete(path, status=200)
    assert stored(installation)["image_locations"] == []


def test_one_deletion_leaves_other_images_alone(testapp: TestApp) -> None:
    kept, gone = upload(testapp, b"kept", name="f17"), upload(testapp, b"gone", name="f17")
    testapp.delete(gone)
    assert testapp.get(kept).body == b"kept"


@pytest.mark.parametrize("image_id", ["none", "-1", "00000000-0000-0000-0000-000000000000", "a" * 65, "%20", ""])
@pytest.mark.parametrize("collection", BOTH)
def test_an_image_that_is_not_there_cannot_be_deleted(collection: str, image_id: str, testapp: TestApp) -> None:
    testapp.delete(f"{collection}/{image_id}", status=404)


def test_a_stranger_is_told_that_a_private_image_is_not_there(installation: "Installation") -> None:
    """S1."""
    path = upload(installation.client(ALICE), name="f17")
    stranger = installation.client(BOB)
    told = error_of(stranger.delete(path, status=404))
    assert told == error_of(stranger.delete("/v1/images/none", status=404))
