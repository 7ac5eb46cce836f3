"""The life of an image: made, filled, read. How it changes and ends: test_changes.py and test_deletion.py."""

from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import CHUNKED, add_row, data_headers, detail, error_of, md5, meta, reserve, send_chunked, sha256, upload
from pyrimage.catalogue.records import EMPTY

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"*" * 5120


def test_uploaded_bytes_come_back(testapp: TestApp) -> None:
    path = upload(testapp, DATA, name="f17")
    assert testapp.head(path).headers["x-image-meta-status"] == "active"
    assert testapp.get(path).body == DATA


def test_an_upload_is_hashed_and_measured(testapp: TestApp) -> None:
    made = testapp.post("/images", DATA, headers=data_headers(name="f17")).json["image"]
    assert made["checksum"] == "c2e5db72bd7fd153f53ede5da5a06de3"  # the guide's own example
    assert made["sha256"] == sha256(DATA)
    assert made["size"] == 5120


def test_content_length_is_the_size_header(testapp: TestApp) -> None:
    path = upload(testapp, DATA, name="f17")
    for answer in (testapp.get(path), testapp.head(path)):
        assert answer.headers["Content-Length"] == answer.headers["x-image-meta-size"] == "5120"


def test_etag_is_the_checksum_header_wherever_there_is_one(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", DATA, headers=data_headers(name="f17"))
    path = f"/v1/images/{made.json['image']['id']}"
    for answer in (made, testapp.get(path), testapp.head(path), testapp.put(path, headers=meta(name="f18"))):
        assert answer.headers["ETag"] == answer.headers["x-image-meta-checksum"] == md5(DATA)


def test_an_image_without_checksum_has_no_etag(testapp: TestApp) -> None:
    assert "ETag" not in testapp.head(reserve(testapp, name="f17")).headers


def test_bytes_go_out_as_an_attachment_that_no_browser_interprets(testapp: TestApp) -> None:
    """S33."""
    path = upload(testapp, b"<script>", name='<script> "f17"', disk_format="raw")
    for answer in (testapp.get(path), testapp.get(path, headers={"Range": "bytes=1-"}), testapp.head(path)):
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="<script> _f17_.raw"')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_image_without_data_is_no_attachment(testapp: TestApp) -> None:
    assert "Content-Disposition" not in testapp.head(reserve(testapp, name="f17")).headers


def test_post_tells_the_image_as_headers_and_as_json(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", DATA, headers=data_headers(name="f17", properties={"os": "linux"}))
    assert made.headers["Content-Type"].startswith("application/json")
    assert made.json["image"]["properties"] == {"os": made.headers["x-image-meta-property-os"]} == {"os": "linux"}
    assert made.json["image"]["id"] == made.headers["x-image-meta-id"]


def test_post_without_data_reserves_a_queued_image(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17", size=5120)
    assert testapp.head(path).headers["x-image-meta-status"] == "queued"
    assert testapp.head(path).headers["x-image-meta-size"] == "5120"


def test_a_queued_image_has_no_bytes_to_read(testapp: TestApp) -> None:
    assert "queued" in error_of(testapp.get(reserve(testapp, name="f17"), status=404))


@pytest.mark.parametrize("status", ["queued", "saving", "killed", "pending_delete"])
def test_an_image_without_readable_bytes_can_be_looked_at(status: str, installation: "Installation") -> None:
    app, path = installation.client(), f"/v1/images/{add_row(installation, status=status)}"
    assert app.head(path).headers["x-image-meta-status"] == status
    app.get(path, status=404)


def test_size_zero_without_data_makes_an_empty_image(testapp: TestApp, installation: "Installation") -> None:
    made = testapp.post("/images", headers=meta(name="nothing", size=0), status=201).json["image"]
    assert (made["status"], made["checksum"], made["sha256"]) == ("active", EMPTY.checksum, EMPTY.sha256)
    assert testapp.get(f"/v1/images/{made['id']}").body == b""
    assert installation.blobs_on_disk() == []


def test_chunks_without_a_byte_make_an_empty_image(testapp: TestApp, installation: "Installation") -> None:
    made = send_chunked(testapp, "POST", "/v1/images", b"", data_headers(name="nothing"), status=201).json["image"]
    assert (made["status"], made["checksum"]) == ("active", EMPTY.checksum)
    assert installation.blobs_on_disk() == []


def test_a_chunked_body_is_stored_whole(testapp: TestApp) -> None:
    made = send_chunked(testapp, "POST", "/v1/images", DATA, data_headers(name="f17"), status=201).json["image"]
    assert testapp.get(f"/v1/images/{made['id']}").body == DATA


def test_put_uploads_into_a_queued_image(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    assert testapp.put(path, DATA, headers=data_headers(), status=200).json["image"]["status"] == "active"
    assert testapp.get(path).body == DATA


def test_put_of_chunks_uploads_into_a_queued_image(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    send_chunked(testapp, "PUT", path, DATA, data_headers(), status=200)
    assert testapp.get(path).body == DATA


def test_put_of_size_zero_leaves_an_image_queued(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    assert testapp.put(path, headers=meta(size=0)).json["image"]["status"] == "queued"  # clients echo what they saw


@pytest.mark.parametrize(
    ("announced", "wrong"),
    [({"size": 5}, "size"), ({"checksum": md5(b"other")}, "checksum"), ({"sha256": sha256(b"other")}, "sha256")],
)
def test_what_was_announced_when_reserving_holds_for_the_upload(
    announced: dict[str, Any], wrong: str, testapp: TestApp
) -> None:
    path = reserve(testapp, name="f17", **announced)
    assert f"x-image-meta-{wrong}" in error_of(testapp.put(path, DATA, headers=data_headers(), status=400))
    assert testapp.head(path).headers["x-image-meta-status"] == "queued"


def test_what_was_announced_when_reserving_holds_for_chunks(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17", size=6)
    assert "6 bytes" in error_of(send_chunked(testapp, "PUT", path, b"short", data_headers(), status=400))
    assert "6 bytes" in error_of(send_chunked(testapp, "PUT", path, b"too long", data_headers(), status=400))
    send_chunked(testapp, "PUT", path, b"right!", data_headers(), status=200)


def test_an_upload_may_announce_something_else_than_the_reservation(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17", size=5, checksum=md5(b"other"), sha256=sha256(b"other"))
    own = {"size": len(DATA), "checksum": md5(DATA), "sha256": sha256(DATA)}
    assert testapp.put(path, DATA, headers=data_headers(**own), status=200).json["image"]["status"] == "active"


def test_digests_may_be_announced_in_capitals(testapp: TestApp) -> None:
    digests = {"checksum": md5(DATA).upper(), "sha256": sha256(DATA).upper()}
    made = testapp.post("/v1/images", DATA, headers=data_headers(name="f17", **digests), status=201).json["image"]
    assert made["checksum"] == md5(DATA)


def test_a_failed_upload_leaves_its_reason_until_one_succeeds(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17")
    assert detail(testapp, path)["last_error"] is None
    refused = testapp.put(path, DATA, headers=data_headers(checksum=md5(b"other")), status=400)
    assert detail(testapp, path)["last_error"] == error_of(refused)
    testapp.put(path, DATA, headers=data_headers(), status=200)
    assert detail(testapp, path)["last_error"] is None


def test_a_failed_upload_leaves_the_reservation_as_it_was(testapp: TestApp) -> None:
    path = reserve(testapp, name="f17", size=len(DATA), properties={"os": "linux"})
    before = detail(testapp, path)
    testapp.put(path, DATA, headers=data_headers(name="f18", checksum=md5(b"x"), properties={"a": "b"}), status=400)
    assert {**detail(testapp, path), "last_error": None} == before


def test_a_failed_upload_leaves_no_bytes(testapp: TestApp, installation: "Installation") -> None:
    testapp.put(reserve(testapp, name="f17"), DATA, headers=data_headers(checksum=md5(b"x")), status=400)
    assert installation.blobs_on_disk() == []


def test_an_upload_that_succeeds_leaves_one_file_and_no_claim(testapp: TestApp, installation: "Installation") -> None:
    testapp.post("/v1/images", DATA, headers=data_headers(name="f17"))
    assert len(installation.blobs_on_disk()) == 1
    with installation.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM claims").scalar() == 0


def test_a_body_of_length_zero_is_no_data(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", b"", headers=data_headers(name="f17"), status=201).json["image"]
    assert made["status"] == "queued"


def test_the_mark_of_chunks_belongs_to_the_server(testapp: TestApp) -> None:
    headers = {f"X-{name.replace('.', '-')}": "1" for name in CHUNKED} | {"pyrimage.chunked": "1"}
    made = testapp.post("/v1/images", headers={**headers, **meta(name="f17")}, status=201).json["image"]
    assert made["status"] == "queued"
