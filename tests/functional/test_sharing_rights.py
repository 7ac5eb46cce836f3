"""Who may share, and see what is shared: v1, "Who may", row by row. The identities are made by the tests."""

from typing import TYPE_CHECKING, NamedTuple

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, add_row, data_headers, error_of, insert_rows, stored
from pyrimage.catalogue.records import Identity
from pyrimage.models import MemberRow

if TYPE_CHECKING:
    from conftest import Installation

SHARER = Identity(user="eve", project="tenant-s", roles=frozenset({"member"}))
STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
HOMELESS = Identity(user="dave", roles=frozenset({"member"}))

CALLERS = {
    "owner": ALICE,
    "member": BOB,
    "sharer": SHARER,
    "stranger": STRANGER,
    "homeless": HOMELESS,
    "admin": ADMIN,
    "nobody": NOBODY,
}
IMAGES = {
    "public": {"owner": "tenant-a", "is_public": True},
    "private": {"owner": "tenant-a", "is_public": False},
    "nobody's": {"owner": "", "is_public": False},
}

# For each image and request what the callers are answered, in the order of CALLERS; "other" is another member.
TABLE = """
public    HEAD    image           200 200 200 200 200 200 200
public    GET     image           200 200 200 200 200 200 200
public    PUT     image           200 403 403 403 403 200 403
public    DELETE  image           200 403 403 403 403 200 403
public    GET     members         200 200 200 200 200 200 200
public    HEAD    members         200 200 200 200 200 200 200
public    PUT     members         204 404 204 404 404 204 403
public    PUT     members/new     204 404 204 404 404 204 403
public    PUT     members/other   204 404 204 404 404 204 403
public    DELETE  members/other   204 404 204 404 404 204 403
private   HEAD    image           200 200 200 404 404 200 404
private   GET     image           200 200 200 404 404 200 404
private   PUT     image           200 403 403 404 404 200 404
private   DELETE  image           200 403 403 404 404 200 404
private   GET     members         200 200 200 404 404 200 404
private   HEAD    members         200 200 200 404 404 200 404
private   PUT     members         204 404 204 404 404 204 404
private   PUT     members/new     204 404 204 404 404 204 404
private   PUT     members/other   204 404 204 404 404 204 404
private   DELETE  members/other   204 404 204 404 404 204 404
nobody's  HEAD    image           404 200 200 404 404 200 404
nobody's  GET     image           404 200 200 404 404 200 404
nobody's  PUT     image           404 403 403 404 404 200 404
nobody's  DELETE  image           404 403 403 404 404 200 404
nobody's  GET     members         404 200 200 404 404 200 404
nobody's  PUT     members         404 404 204 404 404 204 404
nobody's  PUT     members/new     404 404 204 404 404 204 404
nobody's  DELETE  members/other   404 404 204 404 404 204 404
"""


class Row(NamedTuple):
    image: str
    method: str
    place: str
    caller: str
    status: int

    @property
    def body(self) -> bytes:
        """Return a body that changes something."""
        if self.method != "PUT" or self.place == "image":
            return b""
        return b'{"memberships": []}' if self.place == "members" else b'{"member": {"can_share": true}}'


ROWS = [
    Row(image, method, place, caller, int(status))
    for image, method, place, *statuses in map(str.split, TABLE.strip().splitlines())
    for caller, status in zip(CALLERS, statuses, strict=True)
]


def shared_image(installation: "Installation", kind: str = "private") -> str:
    """Make an empty image that three projects are members of, one of which may share it; return its path."""
    image_id = add_row(installation, id="f17", status="active", **IMAGES[kind])
    names = ("tenant-b", "tenant-s", "other")
    insert_rows(installation, *(MemberRow(image_id=image_id, member=n, can_share=n == "tenant-s") for n in names))
    return f"/v1/images/{image_id}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(map(str, row)))
def test_what_each_caller_is_answered_and_that_a_refusal_changes_nothing_s10(
    row: Row, installation: "Installation"
) -> None:
    path = shared_image(installation, row.image)
    before = stored(installation)
    app = installation.client(CALLERS[row.caller])
    app.request(path + f"/{row.place}".removesuffix("/image"), method=row.method, body=row.body, status=row.status)
    assert (stored(installation) == before) is (row.status >= 400 or row.method in ("GET", "HEAD"))


@pytest.mark.parametrize("kind", ["public", "private"])
@pytest.mark.parametrize("place", ["members/new", "members"])
def test_why_is_told_to_those_who_see_the_image(place: str, kind: str, installation: "Installation") -> None:
    path = f"{shared_image(installation, kind)}/{place}"
    assert error_of(installation.client(BOB).put(path, status=404)) == (
        "Only the owner of image f17, and members that can share it, may change its members."
    )


def test_whether_an_image_is_not_visible_or_not_there_is_not_told(installation: "Installation") -> None:
    shared_image(installation)
    app = installation.client(STRANGER)
    for rest in ("members", "members/tenant-c"):
        for method in ("GET", "PUT", "DELETE", "POST"):
            answers = [
                app.request(f"/v1/images/{image_id}/{rest}", method=method, status=404) for image_id in ("f17", "f18")
            ]
            assert error_of(answers[0]) == error_of(answers[1])


@pytest.mark.parametrize("caller", ["member", "sharer"])
@pytest.mark.parametrize("kind", IMAGES)
def test_a_member_removes_itself_and_stays_out_until_it_is_added_again_s4(
    kind: str, caller: str, installation: "Installation"
) -> None:
    path, member = shared_image(installation, kind), CALLERS[caller]
    app, admin = installation.client(member), installation.client(ADMIN)
    own = f"{path}/members/{member.project}"
    app.delete(own, status=204)
    app.head(path, status=200 if kind == "public" else 404)
    assert app.get(f"/v1/shared-images/{member.project}").json == {"shared_images": []}
    if kind != "public":
        assert app.get("/v1/images").json == {"images": []}
    app.put(own, status=404)
    admin.put(own, status=204)
    app.head(path, status=200)
    assert app.get(f"/v1/shared-images/{member.project}").json == {
        "shared_images": [{"image_id": "f17", "can_share": False}]
    }


@pytest.mark.parametrize("caller", ["owner", "stranger"])
def test_who_is_no_member_cannot_remove_itself(caller: str, installation: "Installation") -> None:
    path, identity = shared_image(installation, "public"), CALLERS[caller]
    before = stored(installation)
    message = error_of(installation.client(identity).delete(f"{path}/members/{identity.project}", status=404))
    assert message == f"'{identity.project}' is not a member of image f17."
    assert stored(installation) == before


def test_a_member_that_may_not_share_any_more_shares_no_more(installation: "Installation") -> None:
    path = shared_image(installation)
    sharer = installation.client(SHARER)
    sharer.put(f"{path}/members/one", status=204)
    installation.client(ALICE).put_json(f"{path}/members/tenant-s", {"member": {"can_share": False}}, status=204)
    sharer.put(f"{path}/members/two", status=404)
    sharer.get(path, status=200)


def test_to_share_one_image_is_no_right_to_share_another(installation: "Installation") -> None:
    shared_image(installation)
    add_row(installation, id="other", owner="tenant-a", is_public=True)
    insert_rows(installation, MemberRow(image_id="other", member="tenant-s", can_share=False))
    installation.client(SHARER).put("/v1/images/other/members/new", status=404)


def test_a_member_does_no_more_than_see_the_image_s1(installation: "Installation") -> None:
    path = shared_image(installation)
    before = stored(installation)
    for identity in (BOB, SHARER):
        app = installation.client(identity)
        app.put(path, b"bytes", headers=data_headers(), status=403)
        app.delete(path, status=403)
    assert stored(installation) == before


# Of whose project the list is asked, and what the callers are answered, in the order of CALLERS.
LISTS = {
    "tenant-a": (200, 403, 403, 403, 403, 200, 403),
    "tenant-b": (403, 200, 403, 403, 403, 200, 403),
    "tenant-s": (403, 403, 200, 403, 403, 200, 403),
    "tenant-c": (403, 403, 403, 200, 403, 200, 403),
    "TENANT-B": (403, 403, 403, 403, 403, 200, 403),
    "unknown": (403, 403, 403, 403, 403, 200, 403),
}


@pytest.mark.parametrize(
    ("project", "caller", "status"),
    [
        (project, caller, status)
        for project, statuses in LISTS.items()
        for caller, status in zip(CALLERS, statuses, strict=True)
    ],
)
def test_what_is_shared_with_a_project_is_for_it_and_for_administrators_s10(
    project: str, caller: str, status: int, installation: "Installation"
) -> None:
    shared_image(installation)
    answer = installation.client(CALLERS[caller]).get(f"/v1/shared-images/{project}", status=status)
    if status == 403:
        assert "a project itself, and administrators" in error_of(answer)
    else:
        assert [each["image_id"] for each in answer.json["shared_images"]] == (
            ["f17"] if project in ("tenant-b", "tenant-s") else []
        )


# How many SELECTs a request below an image costs; the first finds the image, the last does what is asked.
SELECTS = [
    *((caller, "GET", "members", 2) for caller in ("owner", "member", "sharer", "admin")),
    *((caller, "PUT", "members/other", 2) for caller in ("owner", "admin")),
    ("sharer", "PUT", "members/other", 3),  # whether it may share
    ("member", "PUT", "members/other", 2),  # likewise, and it may not
    ("member", "DELETE", "members/tenant-b", 1),
    ("sharer", "DELETE", "members/other", 2),
    ("stranger", "PUT", "members/other", 1),
    *((caller, "HEAD", "", 1) for caller in CALLERS),
]


@pytest.mark.parametrize(("caller", "method", "place", "count"), SELECTS)
def test_whether_the_caller_may_share_is_asked_once_at_most_and_below_members_alone(
    caller: str, method: str, place: str, count: int, installation: "Installation", statements: list[str]
) -> None:
    path = shared_image(installation)
    statements.clear()
    installation.client(CALLERS[caller]).request(f"{path}/{place}".rstrip("/"), method=method, status="*")
    assert len([each for each in statements if each.lstrip().startswith("SELECT")]) == count
