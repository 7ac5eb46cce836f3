"""Who may do what. Here the identities are made by the tests; how mode ``none`` makes them: test_door.py."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from factories import (
    ADMIN,
    ALICE,
    BOB,
    NOBODY,
    OCTETS,
    add_row,
    data_headers,
    detail,
    error_of,
    id_of,
    image_headers,
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

STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
HOMELESS = Identity(user="dave", roles=frozenset({"member"}))
CALLERS = {"owner": ALICE, "member": BOB, "stranger": STRANGER, "homeless": HOMELESS, "admin": ADMIN, "nobody": NOBODY}

# v1, "Who may"; what is visible and not permitted is 403, what is not visible 404.
ANSWERS = {
    "public": {
        "GET": {"owner": 200, "member": 200, "stranger": 200, "homeless": 200, "admin": 200, "nobody": 200},
        "PUT": {"owner": 200, "member": 403, "stranger": 403, "homeless": 403, "admin": 200, "nobody": 403},
    },
    "private": {
        "GET": {"owner": 200, "member": 200, "stranger": 404, "homeless": 404, "admin": 200, "nobody": 404},
        "PUT": {"owner": 200, "member": 403, "stranger": 404, "homeless": 404, "admin": 200, "nobody": 404},
    },
}
SAME = {"GET": ["GET", "HEAD"], "PUT": ["PUT", "DELETE"]}
MATRIX = [
    (visibility, method, caller, status)
    for visibility, rights in ANSWERS.items()
    for right, statuses in rights.items()
    for method in SAME[right]
    for caller, status in statuses.items()
]


def shared_image(installation: "Installation", **fields: Any) -> str:
    """Make an image of Alice's that Bob's project is a member of; return its path."""
    path = upload(installation.client(ALICE), name="f17", **fields)
    insert_rows(installation, MemberRow(image_id=id_of(path), member="tenant-b", can_share=True))
    return path


@pytest.mark.parametrize(("visibility", "method", "caller", "status"), MATRIX)
def test_what_each_caller_may_do_with_an_image(
    visibility: str, method: str, caller: str, status: int, installation: "Installation"
) -> None:
    path = shared_image(installation, is_public=visibility == "public")
    installation.client(CALLERS[caller]).request(path, method=method, status=status)


@pytest.mark.parametrize("visibility", ["public", "private"])
@pytest.mark.parametrize("caller", ["member", "stranger", "homeless", "nobody"])
def test_a_refused_deletion_leaves_row_and_bytes(caller: str, visibility: str, installation: "Installation") -> None:
    """S1."""
    path = shared_image(installation, is_public=visibility == "public")
    before = stored(installation)
    installation.client(CALLERS[caller]).delete(path, status=[403, 404])
    assert stored(installation) == before
    assert installation.client(ALICE).get(path).body == b"bytes"


@pytest.mark.parametrize("visibility", ["public", "private"])
@pytest.mark.parametrize("caller", ["member", "stranger", "homeless", "nobody"])
def test_a_refused_upload_leaves_the_image_queued(caller: str, visibility: str, installation: "Installation") -> None:
    path = reserve(installation.client(ALICE), name="f17", is_public=visibility == "public")
    insert_rows(installation, MemberRow(image_id=id_of(path), member="tenant-b", can_share=True))
    before = stored(installation)
    installation.client(CALLERS[caller]).put(path, b"bytes", headers=data_headers(), status=[403, 404])
    assert stored(installation) == before


def test_not_visible_and_not_there_are_the_same_answer(installation: "Installation") -> None:
    stranger, path = installation.client(STRANGER), upload(installation.client(ALICE), name="f17")
    for method in ("GET", "PUT", "DELETE", "POST", "PATCH"):
        told = [error_of(stranger.request(each, method=method, status=404)) for each in (path, "/v1/images/none")]
        assert told[0] == told[1]


@pytest.mark.parametrize("caller", ["owner", "member", "stranger", "homeless", "nobody"])
def test_a_private_image_without_owner_is_for_administrators(caller: str, installation: "Installation") -> None:
    """S10."""
    path = f"/v1/images/{add_row(installation)}"
    installation.client(CALLERS[caller]).head(path, status=404)
    installation.client(ADMIN).head(path, status=200)


@pytest.mark.parametrize(("caller", "status"), [("owner", 201), ("homeless", 201), ("admin", 201), ("nobody", 403)])
@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_who_may_add_an_image(data: bytes, caller: str, status: int, installation: "Installation") -> None:
    app = installation.client(CALLERS[caller])
    app.post("/v1/images", data, headers=data_headers(name="f17"), status=status)
    assert len(stored(installation)["images"]) == (status == 201)


def test_an_image_belongs_to_the_project_that_added_it(installation: "Installation") -> None:
    assert detail(installation.client(ADMIN), reserve(installation.client(ALICE)))["owner"] == "tenant-a"


@pytest.mark.parametrize("word", ["queued", "active", "saving", "killed", "deleted", "pending_delete", "deactivated"])
@pytest.mark.parametrize("caller", ["owner", "admin"])
@pytest.mark.parametrize("status", ["queued", "active", "deactivated", "pending_delete", "deleted"])
def test_no_change_sets_a_status(status: str, caller: str, word: str, installation: "Installation") -> None:
    """S2."""
    path = f"/v1/images/{add_row(installation, status=status, owner='tenant-a', deleted=status == 'deleted')}"
    before = stored(installation)["images"]
    answer = installation.client(CALLERS[caller]).put(path, headers=meta(status=word), expect_errors=True)
    [row], [row_before] = stored(installation)["images"], before
    assert {**row._mapping, "updated_at": None} == {**row_before._mapping, "updated_at": None}
    if word != status:
        assert answer.status_int == (404 if status == "deleted" and caller == "owner" else 403)


@pytest.mark.parametrize("word", ["queued", "active", "saving", "killed", "deleted", "pending_delete", "deactivated"])
@pytest.mark.parametrize("caller", ["owner", "admin"])
def test_a_new_image_takes_no_status(caller: str, word: str, installation: "Installation") -> None:
    """S2."""
    app = installation.client(CALLERS[caller])
    assert app.post("/v1/images", headers=meta(status=word), status=201).json["image"]["status"] == "queued"
    made = app.post("/v1/images", b"bytes", headers=data_headers(status=word), status=201).json["image"]
    assert made["status"] == "active"


FOREIGN = {
    "owner": "tenant-b",
    "created_at": "2001-01-01T00:00:00",
    "updated_at": "2001-01-01T00:00:00",
    "deleted_at": "2001-01-01T00:00:00",
    "deleted": "True",
    "uri": "http://example.org/",
    "virtual_size": "1",
}


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_a_user_sets_neither_owner_nor_times_nor_deleted(data: bytes, installation: "Installation") -> None:
    """S11."""
    app = installation.client(ALICE)
    made = app.post("/v1/images", data, headers=data_headers(name="f17", **FOREIGN), status=201).json["image"]
    assert {name for name, value in FOREIGN.items() if str(made.get(name)) == value} == set()
    assert (made["owner"], made["deleted"], made["deleted_at"]) == ("tenant-a", False, None)
    assert [image["id"] for image in app.get("/v1/images").json["images"]] == [made["id"]]


def test_a_user_cannot_give_an_image_away(installation: "Installation") -> None:
    """S11."""
    path = reserve(installation.client(ALICE))
    changed = installation.client(ALICE).put(path, headers=meta(owner="tenant-b"), status=200).json["image"]
    assert changed["owner"] == "tenant-a"


@pytest.mark.parametrize(("sent", "owner"), [("tenant-b", "tenant-b"), ("", None), ("None", None)])
def test_an_administrator_sets_the_owner(sent: str, owner: str | None, installation: "Installation") -> None:
    app = installation.client(ADMIN)
    assert app.post("/v1/images", headers=meta(owner=sent)).json["image"]["owner"] == owner
    path = reserve(installation.client(ALICE))
    assert app.put(path, headers=meta(owner=sent)).json["image"]["owner"] == owner


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_an_administrator_sets_the_times_of_a_new_image(data: bytes, installation: "Installation") -> None:
    times = {"created_at": "2001-01-01T00:00:00", "updated_at": "2001-01-02T01:00:00+01:00"}
    made = installation.client(ADMIN).post("/v1/images", data, headers=data_headers(**times)).json["image"]
    assert (made["created_at"], made["updated_at"]) == ("2001-01-01T00:00:00", "2001-01-02T00:00:00")


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
    assert seen.startswith("file:///")
    assert "@" not in seen


Install = Callable[..., "Installation"]


@pytest.mark.parametrize(("caller", "status"), [("owner", 403), ("admin", 201)])
@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_where_administrators_publish_nobody_else_adds_a_public_image(
    data: bytes, caller: str, status: int, install_with: Install
) -> None:
    """S5."""
    installation = install_with(publicize_image="admin")
    app = installation.client(CALLERS[caller])
    answer = app.post("/v1/images", data, headers={"Content-Type": OCTETS, **meta(is_public=True)}, status=status)
    if status == 403:
        assert "pyrimage.publicize_image" in error_of(answer)
        assert stored(installation)["images"] == []


@pytest.mark.parametrize(("caller", "status"), [("owner", 403), ("admin", 200)])
def test_where_administrators_publish_nobody_else_makes_an_image_public(
    caller: str, status: int, install_with: Install
) -> None:
    """S5."""
    installation = install_with(publicize_image="admin")
    path = reserve(installation.client(ALICE))
    app = installation.client(CALLERS[caller])
    for data in (b"", b"bytes"):
        answer = app.put(path, data, headers=data_headers(is_public=True), status=status)
        assert status == 200 or "pyrimage.publicize_image" in error_of(answer)
    assert detail(installation.client(ADMIN), path)["is_public"] is (status == 200)


def test_where_administrators_publish_the_owner_of_a_public_image_may_change_it(install_with: Install) -> None:
    installation = install_with(publicize_image="admin")
    path = f"/v1/images/{add_row(installation, owner='tenant-a', is_public=True)}"
    owner = installation.client(ALICE)
    assert owner.put(path, headers=meta(name="f18", is_public=True)).json["image"]["name"] == "f18"
    owner.put(path, headers=meta(is_public=False), status=200)
    owner.put(path, headers=meta(is_public=True), status=403)


def test_otherwise_the_owner_publishes(installation: "Installation") -> None:
    owner = installation.client(ALICE)
    assert owner.put(reserve(owner), headers=meta(is_public=True)).json["image"]["is_public"] is True
