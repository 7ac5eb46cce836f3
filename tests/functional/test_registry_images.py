"""The registry's images: JSON in and out, the same rules as at the API, and nobody's word for what bytes are there.

What the answers look like is printed in docs/registry-api.md; that nothing is lost: conformance/test_registry.py.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, error_of, stored
from pyrimage.catalogue.records import Identity, utcnow
from registries import NO_DATA, Registry, blob_of, fresh_key

if TYPE_CHECKING:
    from conftest import Installation

PURGE = {"X-Glance-Registry-Purge-Props": "true"}
EVERYTHING: dict[str, Any] = {
    "name": "Fedora \u00e9 \U0001f600",
    "disk_format": "qcow2",
    "container_format": "bare",
    "is_public": True,
    "owner": "tenant-x",
    "min_disk": 10,
    "min_ram": 512,
    "created_at": "2011-09-22T19:57:47.000001",
    "updated_at": "2011-09-23T19:57:47.999999",
    "properties": {"os_type": "linux", "empty": ""},
}

# Lists


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["live"]),
        ("&deleted=false", ["live"]),
        ("&deleted=true", ["gone", "lost"]),
        ("&deleted=true&limit=1&marker=gone", ["lost"]),
        ("&changes-since=2000-01-01", ["gone", "killed", "live", "lost"]),
        ("&changes-since=2000-01-01&deleted=False", ["live"]),
        ("&changes-since=2000-01-01&deleted=1", ["gone", "lost"]),
    ],
)
def test_an_administrator_may_ask_for_deleted_images(
    query: str, shown: list[str], registry: Registry, installation: "Installation"
) -> None:
    for name in ("live", "gone", "lost"):
        registry.add(id=name, is_public=True)
    registry.add(id="killed", is_public=True, status="killed")
    for name in ("gone", "lost"):
        registry.ask("DELETE", f"/images/{name}", status=200)
    path = f"/images/detail?is_public=none&sort_key=id&sort_dir=asc{query}"
    assert [image["id"] for image in registry.ask("GET", path, status=200).json["images"]] == shown
    # Nobody else's word counts, and the API has no such filter.
    for app in (registry.by(ALICE), registry.by(NOBODY)):
        assert [image["id"] for image in app.ask("GET", "/images?deleted=true").json["images"]] == ["live"]
        assert "true or false" in error_of(app.ask("GET", "/images?deleted=x", status=400))
    assert [image["id"] for image in installation.client().get("/images?deleted=true").json["images"]] == ["live"]


# One image


def test_an_image_without_bytes_is_queued_or_empty_and_has_no_location(registry: Registry) -> None:
    made = registry.by(ALICE).add(size=5, owner="tenant-x")
    assert (made["status"], made["size"], made["location"], made["location_data"]) == ("queued", 5, None, [])
    assert made["owner"] == "tenant-a"
    sent = {"image": {"name": "empty"}, "blob": {**NO_DATA, "location": None, "claim": None}}  # needs no claim
    made = registry.by(ALICE).ask("POST", "/images", sent, 200).json["image"]
    assert (made["status"], made["checksum"], made["location_data"]) == ("active", NO_DATA["checksum"], [])
    sent = {"image": {}, "blob": {**NO_DATA, "location": None, "claim": None}}
    queued = registry.by(ALICE).add()
    assert "body.blob.claim" in error_of(registry.by(ALICE).ask("PUT", f"/images/{queued['id']}", sent, 400))


def test_a_change_keeps_what_is_not_sent_and_null_clears(registry: Registry) -> None:
    made = registry.add(**EVERYTHING)
    path = f"/images/{made['id']}"
    sent = {"image": {"min_ram": 1, "properties": {"new": "1"}}}
    changed = registry.ask("PUT", path, sent, 200, {**PURGE, "X-Glance-Registry-Purge-Props": "false"}).json["image"]
    times = {"updated_at": changed["updated_at"]}
    expected = {**made, **times, "min_ram": 1, "properties": {**EVERYTHING["properties"], "new": "1"}}
    assert changed == expected
    assert registry.ask("GET", path).json["image"] == expected
    nulls = dict.fromkeys(("name", "disk_format", "container_format", "owner", "min_disk", "is_public"))
    changed = registry.ask("PUT", path, {"image": nulls}, 200).json["image"]
    assert {name: changed[name] for name in nulls} == {**nulls, "min_disk": 0, "is_public": False}
    assert changed["properties"] == expected["properties"]
    changed = registry.ask("PUT", path, {"image": {"properties": {"last": "1"}}}, 200, PURGE).json["image"]
    assert changed["properties"] == {"last": "1"}
    again = registry.ask("PUT", path, {"image": changed}, 200).json["image"]  # whole, as it was told
    assert {**again, "updated_at": None} == {**changed, "updated_at": None}


# Times


def test_the_times_that_an_api_server_made_are_kept_and_do_not_go_back(registry: Registry) -> None:
    """Its clock may be behind another's."""
    alice, now = registry.by(ALICE), utcnow()
    sent = now.isoformat(timespec="microseconds")
    made = alice.add(created_at=sent, updated_at=sent)
    assert (made["created_at"], made["updated_at"]) == (sent, sent)
    for seconds, kept in ((5, now + timedelta(seconds=5)), (1, now + timedelta(seconds=5, microseconds=1))):
        moment = (now + timedelta(seconds=seconds)).isoformat()
        changed = alice.ask("PUT", f"/images/{made['id']}", {"image": {"updated_at": moment}}).json["image"]
        assert (changed["created_at"], changed["updated_at"]) == (sent, kept.isoformat(timespec="microseconds"))
        assert registry.ask("GET", f"/images/{made['id']}").json["image"] == changed


@pytest.mark.parametrize("moment", ["2011-09-22T19:57:47", "2999-01-01"])
def test_a_user_makes_no_image_of_another_time(moment: str, registry: Registry) -> None:
    """S7. But an upload may have begun long ago."""
    made = registry.by(ALICE).add(created_at=moment, updated_at=moment)
    registry.by(ALICE).ask("PUT", f"/images/{made['id']}", {"image": {"updated_at": moment}}, 200)
    found = registry.ask("GET", f"/images/{made['id']}").json["image"]
    uploaded = registry.by(ALICE).upload(created_at=moment, updated_at=moment)
    for time in (found["created_at"], found["updated_at"], uploaded["updated_at"]):
        assert not time.startswith(("2011", "2999"))
    assert uploaded["created_at"].startswith("2011") is moment.startswith("2011")


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


# Status: nothing is active without its bytes

WORDS = ["queued", "saving", "active", "killed", "deactivated", "pending_delete", "deleted", "ACTIVE", "", "nonsense"]


@pytest.mark.parametrize("word", WORDS)
def test_a_user_sets_no_status_and_an_administrator_killed_alone(word: str, registry: Registry) -> None:
    """S2."""
    alice, good = registry.by(ALICE), word in ("", "queued", "killed")
    assert alice.add(status=word)["status"] == "queued"
    registry.ask("POST", "/images", {"image": {"status": word}}, 200 if good else 400)
    for made in (alice.add(), alice.upload()):
        path, sent = f"/images/{made['id']}", {"image": {"status": word, "name": "x"}}
        same, queued = word in ("", made["status"]), made["status"] == "queued"
        alice.ask("PUT", path, sent, 200 if same else 403)
        registry.ask("PUT", path, sent, 200 if same or (queued and word == "killed") else 403)
        status = registry.ask("GET", path).json["image"]["status"]
        assert status == ("killed" if queued and word == "killed" else made["status"])
        if status == "killed":  # out of which nothing leads
            registry.ask("PUT", path, {"image": {"status": "queued"}}, 403)
            registry.claim(made["id"], status=409)


# Uploads


def test_an_upload_into_a_queued_image_makes_it_active_and_ends_its_claim(registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add()
    claim = alice.claim(queued["id"])
    sent = {"image": {"status": "active"}, "from_state": "queued", "blob": blob_of(claim)}
    made = alice.ask("PUT", f"/images/{queued['id']}", sent, 200).json["image"]
    assert (made["status"], made["location_data"][0]["key"]) == ("active", claim["key"])
    assert registry.ask("POST", "/claims/expired", {"grace": 0}).json == {"claims": []}
    assert error_of(alice.ask("PUT", f"/images/{queued['id']}", sent, 409))


@pytest.mark.parametrize(("header", "kept"), [({}, {"a": "b", "c": "d"}), (PURGE, {"c": "d"})])
def test_the_header_alone_says_which_properties_an_upload_removes(
    header: dict[str, str], kept: dict[str, str], registry: Registry
) -> None:
    """An API server whose client registers a location replaces the properties with the same request."""
    queued = registry.add(properties={"a": "b"})
    sent = {"image": {"properties": {"c": "d"}}, "blob": blob_of(registry.claim(queued["id"]))}
    made = registry.ask("PUT", f"/images/{queued['id']}", sent, 200, header).json["image"]
    assert made["properties"] == kept == registry.ask("GET", f"/images/{queued['id']}").json["image"]["properties"]


SLASHED = {"store": "file", "key": "f17/0123456789abcdef"}
LIES: dict[str, dict[str, Any]] = {
    "another key": {"location": {"store": "file", "key": fresh_key("f17")}},
    "another store": {"location": {"store": "s3"}},
    "another claim": {"claim": fresh_key("f17")},
    "no claim": {"claim": None},
    "no location": {"location": None},
    "a key that the store does not make": {"location": SLASHED, "claim": SLASHED["key"]},
    "no size": {"size": None},
    "a digest that is none": {"checksum": "x"},
}


@pytest.mark.parametrize("lie", LIES)
def test_bytes_lie_only_where_their_claim_says(lie: str, registry: Registry, installation: "Installation") -> None:
    """S20: nobody can record the place of other bytes."""
    claim = registry.by(ALICE).claim()
    blob = {**blob_of(claim), **LIES[lie]}
    if lie == "another store":
        blob["location"] = {"store": "s3", "key": claim["key"]}
    before = stored(installation)
    sent = {"image": {"id": claim["image_id"]}, "blob": blob}
    assert "body.blob." in error_of(registry.by(ALICE).ask("POST", "/images", sent, 400))
    assert stored(installation) == before


def test_a_blob_is_that_of_its_image_owner_and_claim(registry: Registry, installation: "Installation") -> None:
    """S20: not even the owner of both images may exchange their bytes."""
    claim = registry.by(ALICE).claim()
    before = stored(installation)
    for caller, image_id, size in ((ALICE, "other", 5), (BOB, claim["image_id"], 5), (ALICE, claim["image_id"], 6)):
        sent = {"image": {"id": image_id}, "blob": blob_of(claim, size=size)}
        answer = registry.by(caller).ask("POST", "/images", sent, 409)
        assert answer.headers["X-Pyrimage-Error"] == "UploadEnded"
    assert stored(installation) == before


@pytest.mark.parametrize("announced", [{"size": 6}, {"checksum": "7" * 32}, {"sha256": "7" * 64}])
def test_other_bytes_than_were_announced_are_refused(announced: dict[str, Any], registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add(**announced)
    claim = alice.claim(queued["id"])
    answer = alice.ask("PUT", f"/images/{queued['id']}", {"image": {}, "blob": blob_of(claim)}, 400)
    assert answer.headers["X-Pyrimage-Error"] == "DataMismatch"
    assert next(iter(announced)) in error_of(answer)


# Requests that are not understood: JSON is read as JSON

NO_TEXT: list[Any] = [5, {}, True, "a\r\nb", "\x00", "\udfff"]
BAD_FIELDS: list[tuple[list[str], list[Any]]] = [
    (["id", "name", "owner", "status", "disk_format", "checksum"], [5, True, 1.5, [], {}]),
    (["size", "min_disk", "min_ram"], ["5", True, 1.0, -1, 2**63, [], {}]),
    (["is_public", "protected"], ["true", 1, 0, [], {}]),
    (["created_at", "updated_at", "activated_at"], ["yesterday", 5, "1899-12-31T23:59:59", True]),
    (["properties"], ["x", None, [], 5, *({"a": value} for value in NO_TEXT)]),
    (["properties"], [{key: "x"} for key in ("", "A", "a-b", "\u00e9", "a\n", "a" * 256)]),
    (["name"], ["a\nb", "\x00", "\x7f", "\ud800", "x" * 256]),
    (["id"], ["detail", "a/b", "-1", "x" * 65, "a b"]),
    (["checksum", "sha256", "disk_format", "container_format"], ["5" * 31, "g" * 64]),
    (["min_ram"], [2**31]),
    (["color", "uid"], ["file", None]),
]


@pytest.mark.parametrize(("fields", "values"), BAD_FIELDS)
def test_a_field_of_another_form_is_refused_by_its_place(
    fields: list[str], values: list[Any], registry: Registry, installation: "Installation"
) -> None:
    before = stored(installation)
    for field in fields:
        for value in values:
            message = error_of(registry.ask("POST", "/images", {"image": {field: value}}, 400))
            assert "body.image." in message
            assert field in message
    assert stored(installation) == before


def test_all_that_is_wrong_is_told_at_once(registry: Registry) -> None:
    image = {"size": "5", "is_public": 1, "disk_format": "floppy", "color": "red", "properties": {"A": "x"}}
    message = error_of(registry.ask("POST", "/images", {"image": image, "blob": {"size": "x"}}, 400))
    named = ("image.size", "image.is_public", "image.disk_format", "color", "properties", "blob.size", "blob.claim")
    assert [each for each in named if each not in message] == []
    for body in (b"", b"x", b"[]", b"{}", b'{"image": []}', b'{"image": null}', b'{"image": "x"}'):
        assert "body" in error_of(registry.ask("POST", "/images", body, 400))


ALLOWED = {
    "/": "GET, HEAD",
    "/images": "GET, HEAD, POST",
    "/images/detail": "GET, HEAD",
    "/healthcheck": "GET, HEAD",
    "/images/f17": "GET, HEAD, PUT, DELETE",
    "/images/f17/members": "GET, HEAD, PUT",
    "/images/f17/members/tenant-b": "PUT, DELETE",
    "/shared-images/tenant-b": "GET, HEAD",
    **{f"/claims/{name}": "POST" for name in ("begin", "reserve", "renew", "end", "expired", "seize")},
    **{f"/claims/{name}": "POST" for name in ("is_located", "garbage", "forget_garbage")},
}
NOT_THERE = [
    *(
        "/v1/images",
        "/versions",
        "/claims",
        "/claims/",
        "/claims/x",
        "/claims/garbage/",
        "/claims/garbage/x",
        "/x",
        "//",
    ),
    *("/images/f17/x", "/images/f17/", "/images/f17/file", "/images/f17/file/x", "/images/detail/", "/images/detail/x"),
    *("/shared-images", f"/shared-images/{'x' * 256}", f"/images/f17/members/{'x' * 256}", "/images/f17/members/b/x"),
]


def test_paths_and_methods_are_told_as_at_the_api(registry: Registry) -> None:
    registry.add(id="f17")
    for path, methods in ALLOWED.items():
        answer = registry.ask("PATCH", path, status=405)
        assert answer.headers["Allow"] == methods
        assert error_of(answer)
    for path in NOT_THERE:
        answer = registry.ask("GET", path, status=404)
        assert error_of(answer)
        assert answer.headers["x-openstack-request-id"].startswith("req-")
