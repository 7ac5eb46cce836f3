"""The life of an image beside what the model and the documentation show: its uploads, conflicts and end."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import (
    CHUNKED,
    add_row,
    data_headers,
    detail,
    error_of,
    insert_rows,
    md5,
    meta,
    reserve,
    send_chunked,
    stored,
    upload,
)
from faults import hinder, raising
from pyrimage.catalogue.records import EMPTY, utcnow
from pyrimage.errors import StoreUnavailable
from pyrimage.models import ClaimRow

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
