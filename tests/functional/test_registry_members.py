"""Sharing over the registry: as at the API, but for 403 where a caller sees the image and may not share it."""

from typing import Any

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, error_of
from pyrimage.catalogue.records import Identity
from registries import Registry

CAROL = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))


@pytest.fixture
def members(registry: Registry) -> str:
    """The path of the members of an image of Alice's that Bob may see."""
    path = f"/images/{registry.by(ALICE).add()['id']}/members"
    registry.by(ALICE).ask("PUT", f"{path}/tenant-b", status=204)
    return path


def names(registry: Registry, path: str) -> dict[str, bool]:
    found = registry.ask("GET", path, status=200).json["members"]
    return {each["member_id"]: each["can_share"] for each in found}


def test_members_are_listed_added_changed_replaced_and_removed(registry: Registry, members: str) -> None:
    alice = registry.by(ALICE)
    assert names(registry, members) == {"tenant-b": False}
    alice.ask("PUT", f"{members}/tenant-b", {"member": {"can_share": True}}, 204)
    assert names(registry.by(BOB), members) == {"tenant-b": True}
    alice.ask("PUT", members, {"memberships": [{"member_id": "tenant-b"}, {"member_id": "proj\u00e9t"}]}, 204)
    assert names(registry, members) == {"proj\u00e9t": False, "tenant-b": True}
    alice.ask("DELETE", f"{members}/proj\u00e9t", status=204)
    alice.ask("DELETE", f"{members}/proj\u00e9t", status=404)
    assert names(registry, members) == {"tenant-b": True}


def test_what_is_shared_is_for_the_project_and_administrators(registry: Registry, members: str) -> None:
    image_id = members.split("/")[2]
    shared = {"shared_images": [{"image_id": image_id, "can_share": False}]}
    for caller in (BOB, ADMIN):
        assert registry.by(caller).ask("GET", "/shared-images/tenant-b", status=200).json == shared
    error_of(registry.by(ALICE).ask("GET", "/shared-images/tenant-b", status=403))


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        *(("PUT", "/{}", value) for value in (None, {"member": {"can_share": True}})),
        ("PUT", "", {"memberships": []}),
        ("DELETE", "/tenant-b", None),
    ],
)
def test_who_may_not_share_is_told_403_if_it_sees_the_image(
    method: str, path: str, value: Any, registry: Registry, members: str
) -> None:
    registry.by(ALICE).ask("PUT", f"{members}/tenant-d", status=204)
    target = members + path.replace("tenant-b", "tenant-d").format("tenant-c")
    before = names(registry, members)
    for caller, status in ((BOB, 403), (CAROL, 404), (NOBODY, 404)):
        error_of(registry.by(caller).ask(method, target, value, status))
    registry.ask("PUT", f"/images/{members.split('/')[2]}", {"image": {"is_public": True}}, 200)
    for caller in (CAROL, NOBODY):
        error_of(registry.by(caller).ask(method, target, value, 403))
    assert names(registry, members) == before


def test_a_member_that_can_share_shares_and_each_removes_itself(registry: Registry, members: str) -> None:
    registry.by(ALICE).ask("PUT", f"{members}/tenant-b", {"member": {"can_share": True}}, 204)
    registry.by(BOB).ask("PUT", f"{members}/tenant-c", status=204)
    registry.by(CAROL).ask("DELETE", f"{members}/tenant-c", status=204)
    assert list(names(registry, members)) == ["tenant-b"]


@pytest.mark.parametrize("word", ["true", "True", 1])
def test_glances_words_say_whether_a_member_can_share(word: Any, registry: Registry, members: str) -> None:
    registry.by(ALICE).ask("PUT", f"{members}/tenant-c", {"member": {"can_share": word}}, 204)
    assert names(registry, members)["tenant-c"] is True
    registry.by(ALICE).ask("PUT", members, {"memberships": [{"member_id": "tenant-c", "can_share": "false"}]}, 204)
    assert names(registry, members) == {"tenant-c": False}


@pytest.mark.parametrize("value", [b"x", [], {"member": 5}, {"member": {"can_share": "maybe"}}])
def test_json_of_another_form_is_refused(value: Any, registry: Registry, members: str) -> None:
    assert "body" in error_of(registry.by(ALICE).ask("PUT", f"{members}/tenant-b", value, 400))
