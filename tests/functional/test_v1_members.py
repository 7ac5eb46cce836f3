"""The table of v1, "Members"."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from factories import ALICE, insert_rows
from pyrimage.models import MemberRow
from tables import Case, Step, Table, active, ask, case, cases_of, check, check_listed, nothing

if TYPE_CHECKING:
    from conftest import Installation

MEMBERS = "/images/{image}/members"
BOBS = f"{MEMBERS}/tenant-b"
CAROLS = f"{MEMBERS}/tenant-c"


def shared(can_share: bool = False, **fields: Any) -> Callable[["Installation"], str]:
    """Make an image of Alice's that Bob's project is a member of."""

    def make(installation: "Installation") -> str:
        image = active(**fields)(installation)
        insert_rows(installation, MemberRow(image_id=image, member="tenant-b", can_share=can_share))
        return image

    return make


def deleted(installation: "Installation") -> str:
    image = shared(is_public=True)(installation)
    installation.client(ALICE).delete(f"/v1/images/{image}")
    return image


def put(path: str, status: int, body: Any = None, **more: Any) -> Step:
    """PUT this JSON; without a body if that is None."""
    sent = {} if body is None else {"Content-Type": "application/json"}
    gives = {"gives": b""} if status == 204 else {}
    return ask(
        f"PUT {path}", status, body=b"" if body is None else json.dumps(body).encode(), sent=sent, **gives, **more
    )


def lists(**members: bool) -> Step:
    """Ask for the members: these, and whether they may share; ``_`` is a hyphen."""
    items = [{"member_id": name.replace("_", "-"), "can_share": can_share} for name, can_share in members.items()]
    return ask(f"GET {MEMBERS}", 200, gives={"members": items})


def memberships(*items: dict[str, Any]) -> dict[str, Any]:
    return {"memberships": list(items)}


BOB, CAROL = {"member_id": "tenant-b"}, {"member_id": "tenant-c"}
MAY, MAY_NOT = {"member": {"can_share": True}}, {"member": {"can_share": False}}

OPERATIONS = {
    'GET /images/{id}/members: 200 {"members": [{"member_id": "...", "can_share": false}, ...]}': case(
        shared(),
        lists(tenant_b=False),
        ask(f"GET {MEMBERS}", 200, by="member", gives={"members": [{"member_id": "tenant-b", "can_share": False}]}),
        ask(f"GET {MEMBERS}", 200, by="admin", headers={"Content-Type": "application/json"}),
    ),
    "PUT /images/{id}/members: 204; the list replaces all": case(
        shared(),
        put(MEMBERS, 204, memberships(CAROL)),
        lists(tenant_c=False),
        put(MEMBERS, 204, memberships()),
        lists(),
    ),
    "PUT /images/{id}/members: missing can_share keeps the old value, false for a new one": case(
        shared(can_share=True),
        put(MEMBERS, 204, memberships(BOB, CAROL)),
        lists(tenant_b=True, tenant_c=False),
        put(MEMBERS, 204, memberships({**BOB, "can_share": False}, {**CAROL, "can_share": True})),
        lists(tenant_b=False, tenant_c=True),
    ),
    "PUT /images/{id}/members/{member}: 204; adds or changes": case(
        active(),
        put(BOBS, 204, MAY),
        lists(tenant_b=True),
        put(CAROLS, 204),
        lists(tenant_b=True, tenant_c=False),
        put(BOBS, 204, MAY_NOT),
        lists(tenant_b=False, tenant_c=False),
    ),
    "PUT /images/{id}/members/{member}: without body an existing one is left alone": case(
        shared(can_share=True), put(BOBS, 204), lists(tenant_b=True)
    ),
    "DELETE /images/{id}/members/{member}: 204": case(
        shared(), ask(f"DELETE {BOBS}", 204, gives=b""), lists(), ask("GET /images/{image}", 404, by="member")
    ),
    "DELETE /images/{id}/members/{member}: not a member: 404": case(
        shared(), ask(f"DELETE {CAROLS}", 404, says="'tenant-c' is not a member")
    ),
    "GET /images/{id}/members/{member}: 405": case(
        shared(), ask(f"GET {BOBS}", 405, headers={"Allow": "PUT, DELETE"}), ask(f"HEAD {BOBS}", 405)
    ),
    'GET /shared-images/{member}: 200 {"shared_images": [{"image_id": "...", "can_share": false}, ...]}': case(
        shared(id="one", can_share=True),
        *(
            ask(
                "GET /shared-images/tenant-b",
                200,
                by=caller,
                gives={"shared_images": [{"image_id": "one", "can_share": True}]},
            )
            for caller in ("member", "admin")
        ),
    ),
    "GET /shared-images/{member}: unknown member: empty list": case(
        shared(), ask("GET /shared-images/unknown", 200, by="admin", gives={"shared_images": []})
    ),
}
OPERATIONS_OTHERWISE = {
    "DELETE /images/{id}/members/{member}: not a member: D 204": "404, as in Queens.",
    "GET /shared-images/{member}: any method answers": "GET and HEAD do; others are 405, as everywhere.",
    "GET /shared-images/{member} answers anyone": "The project itself and administrators alone (S10).",
}


def everything(status: int, **more: Any) -> list[Step]:
    """Ask for every operation on the members of an image; all are answered alike."""
    return [
        ask(f"GET {MEMBERS}", status, **more),
        put(MEMBERS, status, memberships(CAROL), **more),
        put(CAROLS, status, **more),
        ask(f"DELETE {BOBS}", status, **more),
    ]


ERRORS = {
    "image unknown: 404": case(nothing, *everything(404)),
    "image invisible: 404": case(shared(), *everything(404, by="stranger"), *everything(404, by="nobody")),
    "image deleted: 404": case(deleted, *everything(404), *everything(404, by="admin")),
    "caller visible but not allowed to share: 404": case(
        shared(is_public=True),
        *everything(404, by="stranger")[1:],
        put(MEMBERS, 404, memberships(CAROL), by="member"),
        put(CAROLS, 404, by="member"),
        put(BOBS, 404, MAY, by="member"),
    ),
    "malformed JSON or missing key 400": case(
        shared(),
        ask(f"PUT {MEMBERS}", 400, body=b"{", says="JSON"),
        ask(f"PUT {BOBS}", 400, body=b"{", says="JSON"),
        put(MEMBERS, 400, {}, says="memberships"),
        put(MEMBERS, 400, says="memberships"),
        put(MEMBERS, 400, memberships({"can_share": True}), says="member_id"),
        put(MEMBERS, 400, memberships({**BOB, "can_share": "maybe"}), says="can_share"),
        put(BOBS, 400, {}, says="member"),
        put(BOBS, 400, {"member": {"can_share": 2}}, says="can_share"),
    ),
    "over image_member_quota 413": case(
        shared(),
        put(CAROLS, 413, says="pyrimage.image_member_quota"),
        put(MEMBERS, 413, memberships(BOB, CAROL), says="pyrimage.image_member_quota"),
        put(BOBS, 204, MAY),
        put(MEMBERS, 204, memberships(CAROL)),
        lists(tenant_c=False),
        settings={"image_member_quota": "1"},
    ),
    "read-only 403": case(shared(is_public=True), *everything(403, by="nobody")[1:]),
    "a member deleted and added again is the same record": case(
        shared(can_share=True), ask(f"DELETE {BOBS}", 204), put(BOBS, 204), lists(tenant_b=False)
    ),
    "deleting an image deletes its memberships": case(
        deleted, ask("GET /shared-images/tenant-b", 200, by="member", gives={"shared_images": []})
    ),
    "members may exist on public images": case(
        active(is_public=True), put(BOBS, 204), ask(f"GET {MEMBERS}", 200, by="stranger"), lists(tenant_b=False)
    ),
}
ERRORS_OTHERWISE = {
    "over image_member_quota: adding counts existing + 1, also when the member is already there": (
        "Adding a member again adds none."
    ),
    "caller without tenant who is not admin 401": "404 as for all who may not share; 401 is for credentials.",
    "read-only 403: a private image": "404: what is not visible and what is not there are one answer.",
    "deleting an image deletes its memberships: from the database": (
        "They stay as rows that no answer shows, so that the image may still be its members' marker."
    ),
}

TABLES = {
    "operation": Table(OPERATIONS, OPERATIONS_OTHERWISE),
    "errors": Table(ERRORS, ERRORS_OTHERWISE),
}


@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])
