"""The life of an image beside what the model and the documentation show: its uploads, conflicts and end."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import (
    ADMIN,
    ALICE,
    BOB,
    CHUNKED,
    add_row,
    data_headers,
    detail,
    error_of,
    id_of,
    insert_rows,
    md5,
    meta,
    reserve,
    send_chunked,
    sha256,
    stored,
    upload,
)
from faults import hinder, raising
from pyrimage.catalogue.records import EMPTY, utcnow
from pyrimage.errors import StoreUnavailable
from pyrimage.models import ClaimRow, MemberRow

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"*" * 5120

# Uploads


def test_bytes_go_out_as_an_attachment_that_no_browser_interprets(testapp: TestApp) -> None:
    """S33."""
    path = upload(testapp, b"<script>", name='<script> "f17"', disk_format="raw")
    for answer in (testapp.get(path), testapp.get(path, headers={"Range": "bytes=1-"}), testapp.head(path)):
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="<script> _f17_.raw"')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Disposition" not in testapp.head(reserve(testapp, name="f17")).headers


def test_an_empty_image_asks_no_store(own_installation: "Installation", committing_app: TestApp) -> None:
    hinder(own_installation).before["open_reader"] = raising(StoreUnavailable("away"))
    reserved = committing_app.post("/images", headers=meta(name="nothing", size=0), status=201)
    chunked = send_chunked(committing_app, "POST", "/images", b"", data_headers(name="nothing"), status=201)
    for made in (reserved.json["image"], chunked.json["image"]):
        assert (made["status"], made["checksum"], made["sha256"]) == ("active", EMPTY.checksum, EMPTY.sha256)
        assert committing_app.get(f"/v1/images/{made['id']}").body == b""
    assert own_installation.stored_keys() == []


def test_what_was_announced_when_reserving_holds_for_the_upload(testapp: TestApp) -> None:
    for announced in ({"size": 5}, {"checksum": md5(b"other")}, {"sha256": sha256(b"other")}):
        path = reserve(testapp, name="f17", **announced)
        wrong = f"x-image-meta-{next(iter(announced))}"
        assert wrong in error_of(testapp.put(path, DATA, headers=data_headers(), status=400))
    path = reserve(testapp, name="f17", size=6)
    for data in (b"short", b"too long"):
        assert "6 bytes" in error_of(send_chunked(testapp, "PUT", path, data, data_headers(), status=400))
    send_chunked(testapp, "PUT", path, b"right!", data_headers(), status=200)


def test_a_failed_upload_leaves_its_reason_until_one_succeeds_and_nothing_else(
    testapp: TestApp, installation: "Installation"
) -> None:
    path = reserve(testapp, name="f17", size=len(DATA), properties={"os": "linux"})
    before = detail(testapp, path)
    wrong = data_headers(name="f18", checksum=md5(b"other"), properties={"a": "b"})
    message = error_of(testapp.put(path, DATA, headers=wrong, status=400))
    assert detail(testapp, path) == {**before, "last_error": message}
    assert "x-image-meta-last_error" not in testapp.head(path.removeprefix("/v1")).headers  # but in JSON alone
    assert installation.stored_keys() == []
    testapp.put(path, DATA, headers=data_headers(), status=200)
    assert detail(testapp, path)["last_error"] is None


def test_the_mark_of_chunks_belongs_to_the_server(testapp: TestApp) -> None:
    headers = {f"X-{name.replace('.', '-')}": "1" for name in CHUNKED} | {"pyrimage.chunked": "1"}
    made = testapp.post("/v1/images", headers={**headers, **meta(name="f17")}, status=201).json["image"]
    assert made["status"] == "queued"


# Conflicts: nothing changes


def claim(installation: "Installation", image_id: str, lease: int = 60) -> None:
    """Record an upload by another server."""
    key, until = f"{image_id}.0123456789abcdef", utcnow() + timedelta(seconds=lease)
    more = {"store": "file", "owner": "", "state": "live", "server": "other:1", "lease": until}
    insert_rows(installation, ClaimRow(key=key, image_id=image_id, **more))


@pytest.mark.parametrize("data", [b"", DATA])
@pytest.mark.parametrize("taken_by", ["image", "deleted image", "upload"])
def test_a_taken_id_is_a_conflict(taken_by: str, data: bytes, testapp: TestApp, installation: "Installation") -> None:
    """S14: the id of a deleted image stays taken."""
    if taken_by == "upload":
        claim(installation, "taken")
    else:
        path = upload(testapp, name="f17", id="taken")
        if taken_by == "deleted image":
            testapp.delete(path)
    before = stored(installation)
    assert "taken" in error_of(testapp.post("/v1/images", data, headers=data_headers(id="taken"), status=409))
    assert stored(installation) == before


def test_the_claim_of_a_dead_server_is_not_in_the_way(testapp: TestApp, installation: "Installation") -> None:
    claim(installation, "dead", lease=-3600)
    testapp.put(reserve(testapp, id="dead"), DATA, headers=data_headers(), status=200)
    assert installation.rows(ClaimRow) == 0


def test_a_second_upload_into_one_image_is_a_conflict(testapp: TestApp, installation: "Installation") -> None:
    path = reserve(testapp, id="busy")
    claim(installation, "busy")
    before = stored(installation)
    assert "busy" in error_of(testapp.put(path, DATA, headers=data_headers(), status=409))
    assert stored(installation) == before


@pytest.mark.parametrize("status", ["active", "saving", "killed", "pending_delete", "deactivated"])
def test_an_image_that_is_not_queued_takes_no_data_and_only_an_active_one_gives_some(
    status: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S12. The conflict is told before the headers are judged."""
    path = f"/v1/images/{add_row(installation, status=status)}"
    before = stored(installation)
    assert status in error_of(testapp.put(path, DATA, headers=data_headers(size="x"), status=409))
    assert stored(installation) == before
    assert testapp.head(path, status=200).headers["x-image-meta-status"] == status
    if status == "active":
        testapp.get(path, status=200)
    else:
        assert status in error_of(testapp.get(path, status=404))
    testapp.delete(path, status=200)


# Deletion


def test_the_bytes_go_and_the_row_stays_for_administrators(installation: "Installation") -> None:
    owner, admin, member = (installation.client(identity) for identity in (ALICE, ADMIN, BOB))
    path, kept = upload(owner, name="f17", is_public=True), upload(owner, b"kept", name="f17")
    insert_rows(installation, MemberRow(image_id=id_of(path), member="tenant-b", can_share=False))
    assert owner.delete(path, status=200).body == b""
    after = stored(installation)
    assert (len(after["images"]), len(after["image_locations"]), len(after["stored"])) == (2, 1, 1)
    assert owner.get(kept).body == b"kept"
    for app in (owner, member):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            app.request(path, method=method, status=404)
    assert [image["id"] for image in owner.get("/v1/images").json["images"]] == [id_of(kept)]
    assert member.get("/v1/images").json == {"images": []}
    for word in ("None", "True", "False"):
        shown = admin.get(f"/v1/images/detail?is_public={word}").json["images"]
        assert [image["id"] for image in shown] == ([id_of(kept)] if word != "True" else [])
    headers = admin.head(path).headers
    assert (headers["x-image-meta-deleted"], headers["x-image-meta-status"]) == ("True", "deleted")
    assert headers["x-image-meta-deleted_at"] >= headers["x-image-meta-created_at"]
    assert "x-image-meta-location" not in headers
    assert "deleted" in error_of(admin.get(path, status=404))
    admin.delete(path, status=404)


@pytest.mark.parametrize("image_id", ["none", "-1", "00000000-0000-0000-0000-000000000000", "a" * 65, "%20", ""])
@pytest.mark.parametrize("collection", ["/images", "/v1/images"])
def test_an_image_that_is_not_there_cannot_be_deleted(collection: str, image_id: str, testapp: TestApp) -> None:
    testapp.delete(f"{collection}/{image_id}", status=404)


def test_a_stranger_is_told_that_a_private_image_is_not_there(installation: "Installation") -> None:
    """S1."""
    path, stranger = upload(installation.client(ALICE), name="f17"), installation.client(BOB)
    told: list[Any] = [error_of(stranger.delete(each, status=404)) for each in (path, "/v1/images/none")]
    assert told[0] == told[1]
