"""The tables of v1, "Operations": POST and PUT. Where both take data, both are asked."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from factories import OCTETS, add_row, insert_rows, md5, meta
from faults import hinder, raising
from pyrimage.catalogue.records import utcnow
from pyrimage.models import ClaimRow
from tables import (
    DATA,
    Case,
    Step,
    Table,
    active,
    ask,
    case,
    cases_of,
    check,
    check_listed,
    deleted,
    nothing,
    queued,
    row,
    send,
    tell,
)

if TYPE_CHECKING:
    from conftest import Installation

LOCATION = {"x-image-meta-location": "http://example.org/x"}
COPY_FROM = {"x-glance-api-copy-from": "http://example.org/x"}
KEEP = {"x-glance-registry-purge-props": "false"}
PROPERTIES = {"a": "1", "b": "2"}
LATER = "Locations and copies come with the stores that can read them; until then each of them is 400."


def claimed(installation: "Installation") -> str:
    """Leave a queued image into which somebody else uploads."""
    image, lease = add_row(installation, owner="tenant-a"), utcnow() + timedelta(minutes=1)
    claim = ClaimRow(
        key=f"{image}.0", image_id=image, store="file", owner="", state="live", lease=lease, server="other:1"
    )
    insert_rows(installation, claim)
    return image


def denied(installation: "Installation") -> str:
    """Put a file in the place of a directory of the store."""
    (installation.datadir / "staging").write_text("")
    return queued()(installation)


def troubled(installation: "Installation") -> str:
    """Let a store fail in a way that nobody foresaw."""
    hinder(installation).before["finish"] = raising(ZeroDivisionError())
    return queued()(installation)


def both(status: int, body: bytes = DATA, sent: dict[str, str] | None = None, **more: Any) -> list[Step]:
    """Send the same with a POST and into the queued image that is there."""
    fields = {"name": "f17", **more.pop("fields", {})}
    sent = {"Content-Type": OCTETS, **meta(**fields), **(sent or {})}
    return [ask(what, status, body=body, sent=sent, **more) for what in ("POST /images", "PUT /images/{image}")]


KINDS = {
    "with a body": case(
        nothing,
        send("POST /images", 201, fields={"name": "f17"}, image={"status": "active", "size": "5", "name": "f17"}),
    ),
    "none of them (reservation)": case(
        nothing, tell("POST /images", 201, {"name": "f17"}, image={"status": "queued", "size": "0"})
    ),
    '201 with {"image": detail}, Location, ETag': case(
        nothing,
        send(
            "POST /images",
            201,
            fields={"name": "f17", "id": "made"},
            headers={"Content-Type": "application/json", "Location": "{url}/made", "ETag": md5(DATA)},
            holds={"id": "made", "status": "active", "checksum": md5(DATA), "owner": "tenant-a", "properties": {}},
        ),
        ask("GET /images/made", 200, gives=DATA),
    ),
    "a body is present if Content-Length > 0": case(
        queued(),
        send("POST /images", 201, b"x", fields={"name": "f17"}, image={"status": "active"}),
        send("POST /images", 201, b"", fields={"name": "f17"}, image={"status": "queued"}),
        send("PUT /images/{image}", 200, b"", image={"status": "queued"}),
        send("PUT /images/{image}", 200, b"x", image={"status": "active"}),
    ),
    "a body is present if Transfer-Encoding is set": case(
        queued(),
        send("POST /images", 201, fields={"name": "f17"}, chunked=True, image={"status": "active", "size": "5"}),
        send("PUT /images/{image}", 200, chunked=True, image={"status": "active", "size": "5"}),
    ),
}
KINDS_OTHERWISE = {
    "x-image-meta-location": LATER,
    "x-glance-api-copy-from": LATER,
    "copy-from answers 201 while still queued": LATER,
    "order: then the row, then the data": "The row is written last, so that no lock is held while bytes come.",
    "a refusal after the row leaves a queued or killed record behind": (
        "Nothing stays: the cases of every refusal compare all that is stored."
    ),
}
KINDS_ELSEWHERE = {
    "an empty chunked body": "functional/test_images.py::test_chunks_without_a_byte_make_an_empty_image",
}

ERRORS = {
    "field invalid: 400": case(queued(), *both(400, fields={"min_ram": "x"}, says="x-image-meta-min-ram")),
    "unknown header: 400": case(queued(), *both(400, fields={"no_such_thing": "x"}, says="x-image-meta-no-such-thing")),
    "unknown store: 400": case(queued(), *both(400, fields={"store": "swift"}, says="x-image-meta-store")),
    "unusable location or scheme: 400": case(
        queued(),
        *both(400, b"", fields={"location": "file:///etc/passwd"}, says="x-image-meta-location"),
        *both(400, b"", fields={"location": "gopher://example.org/x"}, says="x-image-meta-location"),
    ),
    "empty location or copy-from: 400": case(
        queued(),
        *both(400, b"", fields={"location": ""}, says="x-image-meta-location"),
        *both(400, b"", {"x-glance-api-copy-from": ""}, says="x-glance-api-copy-from"),
    ),
    "two sources at once: 400": case(
        queued(),
        *both(400, sent=LOCATION, says="x-image-meta-location"),
        *both(400, sent=COPY_FROM, says="x-glance-api-copy-from"),
        *both(400, b"", LOCATION | COPY_FROM, says="x-glance-api-copy-from"),
    ),
    "body without application/octet-stream: 400": case(
        queued(), *both(400, sent={"Content-Type": "text/plain"}, says="Content-Type")
    ),
    "declared size differs from the data: 400, bytes removed": case(
        queued(),
        *both(400, fields={"size": 6}, says="x-image-meta-size"),
        *both(400, fields={"size": 6}, chunked=True, says="6 bytes"),
        *both(400, fields={"size": 4}, chunked=True, says="4 bytes"),
    ),
    "declared checksum differs from the data: 400, bytes removed": case(
        queued(), *both(400, fields={"checksum": md5(b"other")}, says="x-image-meta-checksum")
    ),
    "Content-Length or declared size above image_size_cap: up front": case(
        queued(),
        *both(413, says="pyrimage.image_size_cap"),
        *both(413, fields={"size": 5}, chunked=True, says="pyrimage.image_size_cap"),
        settings={"image_size_cap": "4"},
    ),
    "above image_size_cap, found while streaming: 413": case(
        queued(), *both(413, chunked=True, says="pyrimage.image_size_cap"), settings={"image_size_cap": "4"}
    ),
    "storage quota exceeded: 413, bytes removed": case(
        queued(),
        *both(413, says="pyrimage.user_storage_quota"),
        *both(413, chunked=True, says="pyrimage.user_storage_quota"),
        settings={"user_storage_quota": "4"},
    ),
    "more than image_property_quota properties: 413": case(
        queued(),
        *both(413, b"", fields={"properties": PROPERTIES}, says="pyrimage.image_property_quota"),
        *both(413, fields={"properties": PROPERTIES}, says="pyrimage.image_property_quota"),
        settings={"image_property_quota": "1"},
    ),
    "id taken: 409": case(
        active(id="taken"),
        *(send("POST /images", 409, data, fields={"name": "f17", "id": "taken"}) for data in (b"", DATA)),
    ),
    "read-only caller: 403": case(
        queued(is_public=True), *both(403, by="nobody"), *both(403, b"", by="nobody"), *both(403, by="stranger")[1:]
    ),
    "is_public without right: 403": case(
        queued(),
        *both(403, fields={"is_public": True}, says="pyrimage.publicize_image"),
        *both(403, b"", fields={"is_public": True}, says="pyrimage.publicize_image"),
        settings={"publicize_image": "admin"},
    ),
    "store denies writing: 503": case(denied, *both(503, headers={"Retry-After": "5"}), settings={}),
    "client disconnected: 400": case(queued(), *both(400, b"byte", length=5, says="5 bytes")),
    "anything else: 500": case(troubled, *both(500), settings={}),
}
ERRORS_OTHERWISE = {
    "declared size or checksum differs from the data: image killed": "It stays queued, or is not there.",
    "Content-Length or declared size above image_size_cap: 400": "413, as for what is found while streaming.",
    "the streaming check runs only when no size is declared": "It always runs: declared sizes are no way past the cap.",
    "declared size differs from a location's real size: 409": LATER,
    "location or copy-from source not found: 404": LATER,
    "protected property: 403": "There are no rules for properties.",
    "store not writable (misconfigured at start): 410": "503, with a time to come back: our fault, not a loss.",
    "store full: 413": "507: our fault; 413 is for caps and quotas.",
    "image deleted meanwhile: 412": "409: no precondition was sent.",
    "token expired meanwhile: 401": "Tokens come with the modes of identity that have them.",
    "anything else: D 400": "Our faults are never 4xx.",
}
ERRORS_ELSEWHERE = {
    "store full": "atomicity/test_failures.py::test_post_leaves_nothing_when_the_store_fails",
    "image deleted meanwhile": (
        "atomicity/test_claims.py::test_upload_into_an_image_that_is_deleted_meanwhile_leaves_nothing"
    ),
}

PUT = {
    '200 with {"image": detail} and ETag': case(
        active(name="f17"),
        tell("PUT /images/{image}", 200, {}, headers={"ETag": md5(DATA)}, holds={"name": "f17", "status": "active"}),
    ),
    "only fields sent are changed": case(
        active(name="f17", disk_format="raw", protected=True, min_disk=7, properties=PROPERTIES),
        tell(
            "PUT /images/{image}",
            200,
            {"min_ram": 5},
            sent=KEEP,
            holds={"name": "f17", "disk_format": "raw", "protected": True, "min_disk": 7, "min_ram": 5, "size": 5},
        ),
        ask("GET /images/{image}", 200, gives=DATA, image={"property_a": "1", "name": "f17", "min_ram": "5"}),
    ),
    "properties: by default the set sent replaces the stored set": case(
        active(properties=PROPERTIES),
        tell(
            "PUT /images/{image}", 200, {"properties": {"b": "3", "c": ""}}, holds={"properties": {"b": "3", "c": ""}}
        ),
        ask("HEAD /images/{image}", 200, image={"property_a": None, "property_b": "3", "property_c": ""}),
    ),
    "properties: a PUT without any property header removes all": case(
        active(properties=PROPERTIES),
        tell("PUT /images/{image}", 200, {"name": "f18"}, holds={"properties": {}}),
        ask("HEAD /images/{image}", 200, image={"property_a": None, "property_b": None}),
    ),
    "properties: with purge-props: false they are added or overwritten and nothing is removed": case(
        active(properties=PROPERTIES),
        tell("PUT /images/{image}", 200, {"properties": {"b": "3", "c": "4"}}, sent=KEEP),
        ask("HEAD /images/{image}", 200, image={"property_a": "1", "property_b": "3", "property_c": "4"}),
    ),
    "properties: when a body is uploaded in the same PUT nothing is removed either": case(
        queued(properties=PROPERTIES),
        send("PUT /images/{image}", 200, fields={"properties": {"b": "3"}}),
        ask("GET /images/{image}", 200, gives=DATA, image={"property_a": "1", "property_b": "3"}),
    ),
    **{
        f"data only while queued: body otherwise 409: {status}": case(
            row(status=status), send("PUT /images/{image}", 409, says=status)
        )
        for status in ("active", "saving", "killed", "pending_delete", "deactivated")
    },
    "data only while queued: copy-from otherwise 400": case(
        active(), tell("PUT /images/{image}", 400, {}, sent=COPY_FROM, says="x-glance-api-copy-from")
    ),
    "formats missing in row and request: 400, where a setting requires them": case(
        queued(disk_format="raw"),
        send("PUT /images/{image}", 400, says="pyrimage.require_formats"),
        send("PUT /images/{image}", 200, fields={"container_format": "bare"}),
        settings={"require_formats": "true"},
    ),
    "404 unknown": case(nothing, tell("PUT /images/{image}", 404, {"name": "x"}), send("PUT /images/{image}", 404)),
    "404 invisible": case(
        queued(),
        tell("PUT /images/{image}", 404, {"name": "x"}, by="stranger"),
        send("PUT /images/{image}", 404, by="stranger"),
    ),
    "403 deleted image (admin)": case(
        deleted,
        tell("PUT /images/{image}", 403, {"name": "x"}, by="admin", says="deleted"),
        tell("PUT /images/{image}", 404, {"name": "x"}),
    ),
    "403 immutable field": case(
        active(),
        tell("PUT /images/{image}", 403, {"id": "other"}, says="x-image-meta-id"),
        tell("PUT /images/{image}", 403, {"status": "queued"}, by="admin", says="x-image-meta-status"),
    ),
    "403 not the owner of a visible image": case(
        active(is_public=True), tell("PUT /images/{image}", 403, {"name": "x"}, by="stranger", says="not yours")
    ),
    "409 lost race": case(claimed, send("PUT /images/{image}", 409, says="Another upload")),
}
PUT_OTHERWISE = {
    "data only while queued: location otherwise 400": "Clients send whole images back: it is ignored then.",
    "formats missing in row and request: 400": "Formats are optional, as in the guide, unless a setting asks.",
}
PUT_ELSEWHERE = {
    "python-glanceclient always sends purge-props": (
        "system/test_glanceclient.py::test_update_keeps_the_properties_unless_they_are_purged"
    ),
    "updated_at changes on any success, also if only properties changed": (
        "functional/test_changes.py::test_every_change_moves_updated_at_alone"
    ),
}

TABLES = {
    "POST /images": Table(KINDS, KINDS_OTHERWISE, KINDS_ELSEWHERE),
    "errors": Table(ERRORS, ERRORS_OTHERWISE, ERRORS_ELSEWHERE),
    "PUT /images/{id}": Table(PUT, PUT_OTHERWISE, PUT_ELSEWHERE),
}


@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])
