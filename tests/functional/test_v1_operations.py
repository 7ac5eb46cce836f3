"""The tables of v1, "Operations": lists, HEAD, GET, DELETE and what lies elsewhere."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from factories import ALICE, add_row, id_of, md5, reserve
from faults import hinder, raising
from pyrimage.catalogue.records import EMPTY, utcnow
from pyrimage.errors import StoreUnavailable
from tables import DATA, Case, Table, active, ask, case, cases_of, check, check_listed, deleted, nothing, row, tell

if TYPE_CHECKING:
    from conftest import Installation

BRIEF = {"id", "uri", "name", "disk_format", "container_format", "size", "checksum"}
DETAIL = BRIEF | {
    *("status", "is_public", "protected", "deleted", "owner", "min_disk", "min_ram"),
    *("created_at", "updated_at", "deleted_at", "properties"),
}
GLANCES = {*DETAIL, "virtual_size"}
OURS = {*DETAIL, "sha256", "last_error"}
STATUSES = ("queued", "saving", "active", "killed", "pending_delete", "deactivated")
DATALESS = ("queued", "saving", "killed", "pending_delete")
WRONG_IDS = ("new", "-1", "71c675ab-d94f-49cd-a114-e12490b328d9x", "71c675ab-d94f-49cd-a114-e12490b328dg")


def two_images(installation: "Installation") -> str:
    now = utcnow()
    add_row(installation, id="old", is_public=True, created_at=now - timedelta(hours=1))
    return add_row(installation, id="new", is_public=True, created_at=now)


def empty_beside_a_store_that_is_away(installation: "Installation") -> str:
    hinder(installation).before["open_reader"] = raising(StoreUnavailable("away"))
    return id_of(reserve(installation.client(ALICE), size=0))


def without_its_bytes(installation: "Installation") -> str:
    image = active()(installation)
    for name in installation.blobs_on_disk():
        (installation.datadir / name).unlink()
    return image


LISTS = {
    'GET /images: 200 {"images": [brief, ...]}, newest first': case(
        two_images, ask("GET /images", 200, listed=["new", "old"], keys=BRIEF)
    ),
    "GET / is the same": case(
        two_images, ask("GET /", 200, listed=["new", "old"], keys=BRIEF), below=["/v1", "/v1.0", "/v1.1"]
    ),
    "GET /images: 400 for a bad parameter": case(
        nothing, *(ask(f"GET /images?{bad}", 400, says=bad[:4]) for bad in ("limit=x", "is_public=maybe"))
    ),
    'GET /images: nothing visible: {"images": []}': case(
        row(), ask("GET /images", 200, by="stranger", gives={"images": []})
    ),
    "other methods on /images but POST: 405 with Allow": case(
        nothing,
        *(
            ask(f"{method} /images", 405, headers={"Allow": "GET, HEAD, POST"})
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS")
        ),
    ),
    'GET /images/detail: 200 {"images": [detail, ...]}': case(
        two_images,
        ask("GET /images/detail", 200, listed=["new", "old"], keys=GLANCES),
        below=["/v1"],
    ),
    "GET /images/detail: more below no version": case(
        two_images, ask("GET /images/detail", 200, listed=["new", "old"], keys=OURS), below=[""]
    ),
    "/images/detail, other methods: 405, Allow: GET, HEAD": case(
        nothing,
        *(
            ask(f"{method} /images/detail", 405, headers={"Allow": "GET, HEAD"})
            for method in ("POST", "PUT", "DELETE", "PATCH")
        ),
    ),
}
LISTS_OTHERWISE = {
    "HEAD /images: 405": "HEAD is allowed wherever GET is, so Allow names it too.",
    "HEAD /images/detail: 405": "HEAD is allowed wherever GET is.",
}

HEAD = {
    "200, no body, fields as headers": case(
        active(name="f17", min_ram=5, properties={"os": "linux"}),
        ask(
            "HEAD /images/{image}",
            200,
            gives=b"",
            image={"name": "f17", "size": "5", "min_ram": "5", "is_public": "False", "property_os": "linux"},
        ),
    ),
    **{
        f"any status may be looked at: {status}": case(
            row(status=status), ask("HEAD /images/{image}", 200, image={"status": status})
        )
        for status in STATUSES
    },
    "404: unknown": case(nothing, ask("HEAD /images/{image}", 404)),
    "404: not visible": case(active(), ask("HEAD /images/{image}", 404, by="stranger")),
    "404: deleted": case(deleted, ask("HEAD /images/{image}", 404)),
    "an admin sees deleted ones: x-image-meta-deleted: True, status deleted": case(
        deleted, ask("HEAD /images/{image}", 200, by="admin", image={"deleted": "True", "status": "deleted"})
    ),
    "ids of the wrong form (new, -1, 37 characters, a bad hex digit) are 404, not 400": case(
        nothing, *(ask(f"{method} /images/{bad}", 404) for bad in WRONG_IDS for method in ("HEAD", "GET", "DELETE"))
    ),
}

GET = {
    "active: 200, fields as headers, bytes; length = size": case(
        active(name="f17"),
        ask(
            "GET /images/{image}",
            200,
            gives=DATA,
            headers={"Content-Length": "5", "Content-Type": "application/octet-stream", "ETag": md5(DATA)},
            image={"size": "5", "name": "f17", "status": "active", "checksum": md5(DATA)},
        ),
    ),
    "size 0: 200, empty, store not asked": case(
        empty_beside_a_store_that_is_away,
        ask("GET /images/{image}", 200, gives=b"", image={"size": "0", "checksum": EMPTY.checksum}),
        settings={},
    ),
    **{
        f"queued, saving, killed, pending, deleted: 404: {status}": case(
            row(status=status), ask("GET /images/{image}", 404, says=status), ask("HEAD /images/{image}", 200)
        )
        for status in DATALESS
    },
    "queued, saving, killed, pending, deleted: 404: deleted": case(
        deleted, ask("GET /images/{image}", 404), ask("GET /images/{image}", 404, by="admin", says="deleted")
    ),
}
GET_OTHERWISE = {
    "deactivated: 403": "404 as for all that is not active: no call of v1 makes an image so, nor does ours.",
    "row there, bytes gone from the store: 404": "500: lost bytes are our fault, not the caller's.",
    "location's server unreachable: 503": "Registered locations come with the stores that can read them.",
    "store cannot read, or unknown scheme: 400": "503: a store that is not configured is our fault.",
    "store reports another length than the row": "500 before the first byte: such a file is never served.",
    "no Range, no conditional requests: both are ignored": "They are answered.",
    "the policy for downloading is checked before 404 is told": "There are no policies but the ACLs.",
}
GET_ELSEWHERE = {
    "store fails or ends early in mid-stream: the connection must break": (
        "atomicity/test_downloads.py::test_body_that_ends_early_is_an_error_and_no_end"
    )
}

DELETE = {
    "200 with an empty body": case(
        active(),
        ask("DELETE /images/{image}", 200, gives=b""),
        ask("HEAD /images/{image}", 200, by="admin", image={"status": "deleted"}),
    ),
    **{
        f"works in any live status, queued and killed included: {status}": case(
            row(status=status), ask("DELETE /images/{image}", 200), ask("HEAD /images/{image}", 404)
        )
        for status in ("queued", "saving", "active", "killed")
    },
    "404: unknown": case(nothing, ask("DELETE /images/{image}", 404)),
    "404: invisible": case(active(), ask("DELETE /images/{image}", 404, by="stranger")),
    "404: already deleted (admin too)": case(
        deleted, *(ask("DELETE /images/{image}", 404, by=caller) for caller in ("owner", "admin"))
    ),
    "403: protected": case(
        active(protected=True),
        *(ask("DELETE /images/{image}", 403, by=caller, says="protected") for caller in ("owner", "admin")),
        tell("PUT /images/{image}", 200, {"protected": False}),
        ask("DELETE /images/{image}", 200),
    ),
    "403: not the owner of a public image": case(
        active(is_public=True), ask("DELETE /images/{image}", 403, by="stranger", says="not yours")
    ),
    "403: read-only, a public image": case(active(is_public=True), ask("DELETE /images/{image}", 403, by="nobody")),
    "bytes already gone from the store: still 200": case(
        without_its_bytes, ask("DELETE /images/{image}", 200), ask("HEAD /images/{image}", 404)
    ),
}
DELETE_OTHERWISE = {
    "403: read-only, a private image": "404: what is not visible and what is not there are one answer.",
    "403: pending_delete": "Nothing sets that status yet; it comes with deletion later.",
    "409 the store says the data is in use": "The file store never says so; it comes with other stores.",
    "if the store fails, Q restores the previous status": (
        "200: the row is deleted and committed, the bytes are garbage that a scrub finishes."
    ),
    "bytes already gone from the store: logged": "Deleting what is not there is success, and S3 would not even tell.",
}
DELETE_ELSEWHERE = {
    "the row is changed before the bytes are touched": (
        "atomicity/test_cleaning.py::test_bytes_are_there_until_the_deletion_is_committed"
    )
}

OTHER_PATHS = {
    "/images/{id} with another method: 405 Allow: GET, HEAD, PUT, DELETE": case(
        active(),
        *(
            ask(f"{method} /images/{{image}}", 405, headers={"Allow": "GET, HEAD, PUT, DELETE"})
            for method in ("POST", "PATCH", "OPTIONS")
        ),
    ),
    "unknown path 404": case(
        active(), *(ask(f"GET {path}", 404) for path in ("/nothing", "/images/{image}/x", "/images/detail/x"))
    ),
    "a method HTTP does not commonly know: 501": case(
        nothing, *(ask(f"{method} /images", 501, says=method) for method in ("BREW", "get"))
    ),
    "/images.xml, /images/detail.json, /images/new: 404": case(
        nothing, *(ask(f"GET {path}", 404) for path in ("/images.xml", "/images/detail.json", "/images/new"))
    ),
    "/versions below /v1: 404": case(nothing, ask("GET /versions", 404), below=["/v1", "/v1.0", "/v1.1"]),
    "trailing slash: /images/ is taken as /images": case(
        two_images,
        ask("GET /images/", 200, listed=["new", "old"], keys=BRIEF),
        tell("POST /images/", 201, {"name": "f17"}),
    ),
    "404 for DELETE /images/": case(nothing, ask("DELETE /images/", 404)),
}
OTHER_PATHS_OTHERWISE = {
    "all may also answer 401 (no or bad identity)": "It comes with the modes of identity that ask for one.",
    "all may also answer 403 (policy)": "There are no policies but the ACLs.",
    "with the cache filter: /cached_images, /queued_images": "There is no cache, so there is nothing at these paths.",
    "trailing slash: Q answers 404": "A collection answers with and without one, as the guide has it.",
}

OTHER_PATHS_ELSEWHERE = {
    "all may also answer 500": "functional/test_errors.py::test_a_refused_statement_is_our_fault_and_tells_no_sql",
    "all may also answer 503": "atomicity/test_failures.py::test_post_leaves_nothing_when_the_database_is_busy",
}

TABLES = {
    "GET /images, GET /images/detail": Table(LISTS, LISTS_OTHERWISE),
    "HEAD /images/{id}": Table(HEAD),
    "GET /images/{id}": Table(GET, GET_OTHERWISE, GET_ELSEWHERE),
    "DELETE /images/{id}": Table(DELETE, DELETE_OTHERWISE, DELETE_ELSEWHERE),
    "elsewhere": Table(OTHER_PATHS, OTHER_PATHS_OTHERWISE, OTHER_PATHS_ELSEWHERE),
}


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])
