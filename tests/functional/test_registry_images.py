"""The registry's images: JSON in and out, and the same rules as at the API. Source: v1, "Registry API"."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, error_of, stored
from pyrimage.catalogue.records import Identity, utcnow
from registries import DATA_FACTS, NO_DATA, Registry, blob_of

if TYPE_CHECKING:
    from conftest import Installation

IN_DETAIL = {
    *("id", "name", "disk_format", "container_format", "size", "checksum", "sha256", "status", "is_public"),
    *("protected", "deleted", "owner", "min_disk", "min_ram", "created_at", "updated_at", "deleted_at"),
    *("activated_at", "last_error", "properties", "location", "location_data"),
}
IN_BRIEF = {"id", "name", "disk_format", "container_format", "size", "checksum"}
EVERYTHING: dict[str, Any] = {
    "name": "Fedora \u00e9 \U0001f600",
    "disk_format": "qcow2",
    "container_format": "bare",
    "is_public": True,
    "protected": True,
    "owner": "tenant-x",
    "min_disk": 10,
    "min_ram": 512,
    "created_at": "2011-09-22T19:57:47.000001",
    "updated_at": "2011-09-23T19:57:47.999999",
    "properties": {"os_type": "linux", "empty": ""},
}


# Lists


@pytest.mark.parametrize("path", ["/", "/images", "/images/"])
def test_a_brief_list_holds_what_glances_does(path: str, registry: Registry) -> None:
    made = registry.add(name="f17", is_public=True)
    assert registry.ask("GET", path, status=200).json == {"images": [{name: made[name] for name in IN_BRIEF}]}


def test_a_detailed_list_holds_what_one_image_does(registry: Registry) -> None:
    made = registry.upload(**EVERYTHING)
    assert registry.ask("GET", "/images/detail").json == {"images": [made]}
    assert registry.ask("GET", f"/images/{made['id']}").json == {"image": made}
    assert set(made) == IN_DETAIL


def test_a_list_is_filtered_sorted_and_paged_as_at_the_api(registry: Registry) -> None:
    for number in range(5):
        registry.add(id=f"i{number}", name="f17", size=number, is_public=True, properties={"odd": str(number % 2)})
    registry.add(id="other", name="f18", is_public=True)
    query = "/images?name=f17&size_min=1&property-odd=1&sort_key=size&sort_dir=asc&limit=1"
    assert [each["id"] for each in registry.ask("GET", query).json["images"]] == ["i1"]
    assert [each["id"] for each in registry.ask("GET", f"{query}&marker=i1").json["images"]] == ["i3"]
    assert "limit" in error_of(registry.ask("GET", "/images?limit=-1", status=400))


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"live"}),
        ("&deleted=false", {"live"}),
        ("&deleted=true", {"gone"}),
        ("&changes-since=2000-01-01", {"live", "gone", "killed"}),
        ("&changes-since=2000-01-01&deleted=False", {"live"}),
        ("&changes-since=2000-01-01&deleted=1", {"gone"}),
    ],
)
def test_an_administrator_may_ask_for_deleted_images(query: str, shown: set[str], registry: Registry) -> None:
    for name in ("live", "gone"):
        registry.add(id=name, is_public=True)
    registry.add(id="killed", is_public=True, status="killed")
    registry.ask("DELETE", "/images/gone", status=200)
    found = registry.ask("GET", f"/images/detail?is_public=none{query}", status=200).json["images"]
    assert {image["id"] for image in found} == shown


def test_a_page_of_deleted_images_goes_on_behind_its_marker(registry: Registry) -> None:
    for number in range(3):
        registry.add(id=f"i{number}")
    for number in range(3):
        registry.ask("DELETE", f"/images/i{number}")
    query = "/images?is_public=none&deleted=true&sort_key=updated_at&limit=2"
    assert [image["id"] for image in registry.ask("GET", query).json["images"]] == ["i2", "i1"]
    assert [image["id"] for image in registry.ask("GET", f"{query}&marker=i1").json["images"]] == ["i0"]


def test_only_an_administrators_word_for_deleted_images_counts(registry: Registry) -> None:
    registry.by(ALICE).add(id="f17")
    registry.by(ALICE).ask("DELETE", "/images/f17", status=200)
    assert registry.by(ALICE).ask("GET", "/images?deleted=true").json == {"images": []}
    assert "true or false" in error_of(registry.by(ALICE).ask("GET", "/images?deleted=x", status=400))


def test_the_api_has_no_filter_for_deleted_images(registry: Registry, installation: "Installation") -> None:
    registry.add(id="f17", is_public=True)
    registry.ask("DELETE", "/images/f17")
    assert installation.client().get("/v1/images?deleted=true").json == {"images": []}


# One image


def test_a_record_comes_back_as_it_was_sent_to_the_microsecond(registry: Registry) -> None:
    made = registry.upload(**EVERYTHING)
    assert {name: made[name] for name in EVERYTHING} == EVERYTHING
    assert {name: made[name] for name in DATA_FACTS} == DATA_FACTS
    assert made["status"] == "active"
    [place] = made["location_data"]
    assert place == {"url": made["location"], "store": "file", "key": place["key"], "owned": True}
    assert made["location"].startswith("file:///")
    assert made["location"].endswith(place["key"])


def test_an_image_without_bytes_is_queued_and_has_no_location(registry: Registry) -> None:
    made = registry.by(ALICE).add(size=5)
    assert (made["status"], made["size"], made["location"], made["location_data"]) == ("queued", 5, None, [])
    assert made["owner"] == "tenant-a"


def test_what_is_not_there_or_not_visible_is_404(registry: Registry) -> None:
    made = registry.by(ALICE).add()
    told = [
        error_of(registry.by(BOB).ask(method, f"/images/{each}", {"image": {}}, status=404))
        for method in ("GET", "PUT", "DELETE")
        for each in (made["id"], "none", "-1", "x" * 65)
    ]
    assert len(set(told)) == 1


def test_an_empty_image_needs_no_claim(registry: Registry) -> None:
    sent = {"image": {"name": "empty"}, "blob": {**NO_DATA, "location": None, "claim": None}}
    made = registry.by(ALICE).ask("POST", "/images", sent, 200).json["image"]
    assert (made["status"], made["size"], made["checksum"]) == ("active", 0, NO_DATA["checksum"])
    assert made["location_data"] == []


def test_null_clears_what_can_be_cleared(registry: Registry) -> None:
    made = registry.add(**{**EVERYTHING, "protected": False})
    nulls = dict.fromkeys(("name", "disk_format", "container_format", "owner", "min_disk", "is_public"))
    changed = registry.ask("PUT", f"/images/{made['id']}", {"image": nulls}, 200).json["image"]
    assert {name: changed[name] for name in nulls} == {**nulls, "min_disk": 0, "is_public": False}
    assert changed["properties"] == EVERYTHING["properties"]


def test_a_change_keeps_what_is_not_sent_properties_too(registry: Registry) -> None:
    made = registry.add(**{**EVERYTHING, "protected": False})
    sent = {"image": {"min_ram": 1, "properties": {"new": "1"}}}
    changed = registry.ask("PUT", f"/images/{made['id']}", sent, 200).json["image"]
    times = {"updated_at": changed["updated_at"]}
    expected = {**made, **times, "min_ram": 1, "properties": {**EVERYTHING["properties"], "new": "1"}}
    assert changed == expected
    assert registry.ask("GET", f"/images/{made['id']}").json["image"] == expected


@pytest.mark.parametrize(("word", "kept"), [("true", False), ("True", False), ("false", True)])
def test_properties_go_where_a_header_says_so(word: str, kept: bool, registry: Registry) -> None:
    made = registry.add(properties={"old": "1"})
    sent, header = {"image": {"properties": {"new": "1"}}}, {"X-Glance-Registry-Purge-Props": word}
    changed = registry.ask("PUT", f"/images/{made['id']}", sent, 200, header).json["image"]
    assert changed["properties"] == ({"old": "1", "new": "1"} if kept else {"new": "1"})


def test_an_image_can_be_sent_back_whole(registry: Registry) -> None:
    made = registry.by(ALICE).upload(properties={"a": "b"})
    changed = registry.by(ALICE).ask("PUT", f"/images/{made['id']}", {"image": made}, 200).json["image"]
    assert {**changed, "updated_at": None} == {**made, "updated_at": None}


def test_a_state_that_is_not_met_is_a_conflict(registry: Registry) -> None:
    made = registry.add()
    path = f"/images/{made['id']}"
    assert registry.ask("PUT", path, {"image": {"name": "x"}, "from_state": "queued"}, 200).json["image"]["name"] == "x"
    message = error_of(registry.ask("PUT", path, {"image": {"name": "y"}, "from_state": "saving"}, 409))
    assert "is queued, and not saving" in message
    assert registry.ask("GET", path).json["image"]["name"] == "x"


def test_a_deletion_answers_with_the_image_and_what_is_left_of_it(registry: Registry) -> None:
    made = registry.by(ALICE).upload()
    answer = registry.by(ALICE).ask("DELETE", f"/images/{made['id']}", status=200).json
    gone = answer["image"]
    assert (gone["status"], gone["deleted"], gone["location_data"]) == ("deleted", True, [])
    assert gone["deleted_at"] == gone["updated_at"]
    assert answer["garbage"] == [{"store": "file", "key": made["location_data"][0]["key"]}]
    assert registry.ask("POST", "/claims/garbage", status=200).json == {"garbage": answer["garbage"]}
    registry.by(ALICE).ask("GET", f"/images/{made['id']}", status=404)
    assert registry.ask("GET", f"/images/{made['id']}", status=200).json["image"] == gone
    assert error_of(registry.ask("PUT", f"/images/{made['id']}", {"image": {}}, 403))
    registry.ask("DELETE", f"/images/{made['id']}", status=404)


def test_nobody_adds_nothing(registry: Registry, installation: "Installation") -> None:
    before = stored(installation)
    error_of(registry.by(NOBODY).ask("POST", "/images", {"image": {}}, 403))
    assert stored(installation) == before


def test_an_administrator_may_name_the_owner_and_a_user_may_not(registry: Registry) -> None:
    assert registry.by(ADMIN).add(owner="tenant-x")["owner"] == "tenant-x"
    assert registry.by(ALICE).add(owner="tenant-x")["owner"] == "tenant-a"


# Times


def test_the_times_that_an_api_server_made_are_kept(registry: Registry) -> None:
    now = utcnow().isoformat(timespec="microseconds")
    made = registry.by(ALICE).add(created_at=now, updated_at=now)
    assert (made["created_at"], made["updated_at"]) == (now, now)
    later = utcnow().isoformat(timespec="microseconds")
    changed = registry.by(ALICE).ask("PUT", f"/images/{made['id']}", {"image": {"updated_at": later}}).json["image"]
    assert (changed["created_at"], changed["updated_at"]) == (now, later)


def test_a_time_that_an_api_server_made_does_not_go_back(registry: Registry) -> None:
    """Its clock may be behind another's."""
    now = utcnow()
    made = registry.by(ALICE).add(updated_at=now.isoformat())
    sent = {"image": {"updated_at": (now - timedelta(seconds=5)).isoformat()}}
    changed = registry.by(ALICE).ask("PUT", f"/images/{made['id']}", sent, 200).json["image"]
    assert changed["updated_at"] == (now + timedelta(microseconds=1)).isoformat(timespec="microseconds")
    assert registry.ask("GET", f"/images/{made['id']}").json["image"] == changed


@pytest.mark.parametrize("moment", ["2011-09-22T19:57:47", "2999-01-01"])
def test_a_user_makes_no_image_of_another_time(moment: str, registry: Registry) -> None:
    """S7."""
    made = registry.by(ALICE).add(created_at=moment, updated_at=moment)
    registry.by(ALICE).ask("PUT", f"/images/{made['id']}", {"image": {"updated_at": moment}}, 200)
    found = registry.ask("GET", f"/images/{made['id']}").json["image"]
    assert not {found["created_at"][:4], found["updated_at"][:4]} & {"2011", "2999"}


def test_an_upload_may_have_begun_long_ago(registry: Registry) -> None:
    made = registry.by(ALICE).upload(created_at="2011-09-22T19:57:47", updated_at="2011-09-22T19:57:47")
    assert made["created_at"] == "2011-09-22T19:57:47.000000"
    assert not made["updated_at"].startswith("2011")


def test_bytes_are_of_the_time_that_their_server_tells_of_now(registry: Registry) -> None:
    now = utcnow().isoformat(timespec="microseconds")
    assert registry.by(ALICE).upload(activated_at=now)["activated_at"] == now
    queued = registry.by(ALICE).add(activated_at=now)
    assert queued["activated_at"] is None
    sent = {"image": {"activated_at": now}, "blob": blob_of(registry.by(ALICE).claim(queued["id"]))}
    filled = registry.by(ALICE).ask("PUT", f"/images/{queued['id']}", sent, 200).json["image"]
    assert filled["activated_at"] == now


@pytest.mark.parametrize("moment", ["2011-09-22T19:57:47", "2999-01-01", None])
@pytest.mark.parametrize("caller", [ADMIN, ALICE])
def test_nobody_gives_bytes_another_time(caller: Identity, moment: str | None, registry: Registry) -> None:
    before = utcnow().isoformat(timespec="microseconds")
    made = registry.by(caller).upload(activated_at=moment)
    sent = {"image": {**made, "activated_at": moment}}  # a whole image, sent back
    changed = registry.by(caller).ask("PUT", f"/images/{made['id']}", sent, 200).json["image"]
    assert before <= made["activated_at"] == changed["activated_at"] <= utcnow().isoformat(timespec="microseconds")
