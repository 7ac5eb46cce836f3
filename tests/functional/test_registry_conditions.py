"""What a server that asks the registry expects an image to be still: nothing is changed that it did not judge."""

from typing import TYPE_CHECKING, Any

import pytest

from factories import ALICE, error_of, stored
from registries import Registry

if TYPE_CHECKING:
    from conftest import Installation

IMAGE: dict[str, Any] = {
    "name": "f17",
    "disk_format": "raw",
    "size": 5,
    "checksum": "5" * 32,
    "is_public": True,
    "owner": "tenant-a",
    "min_ram": 512,
}
OTHERS: dict[str, Any] = {
    "name": "f18",
    "disk_format": None,
    "container_format": "bare",
    "size": 0,
    "checksum": None,
    "sha256": "6" * 64,
    "is_public": False,
    "protected": True,
    "owner": None,
    "min_ram": None,
    "min_disk": 1,
}


def test_an_image_that_is_as_expected_is_changed(registry: Registry) -> None:
    path = f"/images/{registry.add(**IMAGE)['id']}"
    nulls = dict.fromkeys(("container_format", "sha256", "protected", "min_disk"))
    sent = {"image": {"name": "f18"}, "from_state": "queued", "expected": {**IMAGE, **nulls}}
    assert registry.ask("PUT", path, sent, 200).json["image"]["name"] == "f18"


@pytest.mark.parametrize("field", OTHERS)
def test_an_image_that_is_another_than_expected_stays(
    field: str, registry: Registry, installation: "Installation"
) -> None:
    path = f"/images/{registry.add(**IMAGE)['id']}"
    before = stored(installation)
    sent = {"image": {"name": "x"}, "expected": {field: OTHERS[field]}}
    answer = registry.ask("PUT", path, sent, 409)
    assert answer.headers["X-Pyrimage-Error"] == "Conflict"
    assert f"body.expected.{field}" in error_of(answer)
    assert stored(installation) == before


def test_only_what_can_change_can_be_expected(registry: Registry) -> None:
    path = f"/images/{registry.add()['id']}"
    bad: list[Any] = [{"status": "queued"}, {"id": "x"}, {"location": None}, {"size": "5"}, [], None]
    for expected in bad:
        assert "body.expected" in error_of(registry.ask("PUT", path, {"image": {}, "expected": expected}, 400))


def test_a_deleted_image_is_not_in_the_state_that_was_expected(registry: Registry) -> None:
    path = f"/images/{registry.add()['id']}"
    registry.ask("DELETE", path, status=200)
    registry.ask("PUT", path, {"image": {}, "from_state": "queued"}, 409)
    registry.ask("PUT", path, {"image": {}}, 403)


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        *(("", 200, None), ("from_state=active&protected=false&owner=tenant-a", 200, None)),
        *((f"protected={word}", 200, None) for word in ("", "0")),
        *(("from_state=queued", 412, "PreconditionFailed"), ("from_state=", 200, None)),
        *(("owner=", 409, "Conflict"), ("owner=tenant-b&from_state=queued", 409, "Conflict")),
        *(("protected=true", 409, "Conflict"), ("protected=x", 400, "Invalid"), ("owner=%ff", 400, "Invalid")),
    ],
)
def test_an_image_is_deleted_if_it_is_what_was_judged(
    query: str, status: int, kind: str | None, registry: Registry, installation: "Installation"
) -> None:
    made = registry.by(ALICE).upload()
    before = stored(installation)
    answer = registry.ask("DELETE", f"/images/{made['id']}?{query}", status=status)
    assert answer.headers.get("X-Pyrimage-Error") == kind
    if status == 200:
        assert answer.json["garbage"] == [{"store": "file", "key": made["location_data"][0]["key"]}]
    else:
        assert error_of(answer)
        assert stored(installation) == before


def test_a_deleted_image_is_gone_whatever_was_expected(registry: Registry) -> None:
    made = registry.by(ALICE).upload()
    registry.ask("DELETE", f"/images/{made['id']}", status=200)
    for query in ("", "from_state=active&protected=true&owner=x"):
        registry.ask("DELETE", f"/images/{made['id']}?{query}", status=404)
