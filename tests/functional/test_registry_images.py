"""The registry's images: JSON in and out, and the same rules as at the API. Source: v1, "Registry API"."""

from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, error_of, stored
from pyrimage.records import utcnow
from registries import DATA_FACTS, NO_DATA, Registry, blob_of, fresh_key

if TYPE_CHECKING:
    from conftest import Installation

IN_DETAIL = {
    *("id", "name", "disk_format", "container_format", "size", "checksum", "sha256", "status", "is_public"),
    *("protected", "deleted", "owner", "min_disk", "min_ram", "created_at", "updated_at", "deleted_at"),
    *("last_error", "properties", "location", "location_data"),
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


# Times


def test_the_times_that_an_api_server_made_are_kept(registry: Registry) -> None:
    now = utcnow().isoformat(timespec="microseconds")
    made = registry.by(ALICE).add(created_at=now, updated_at=now)
    assert (made["created_at"], made["updated_at"]) == (now, now)
    later = utcnow().isoformat(timespec="microseconds")
    changed = registry.by(ALICE).ask("PUT", f"/images/{made['id']}", {"image": {"updated_at": later}}).json["image"]
    assert (changed["created_at"], changed["updated_at"]) == (now, later)


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


# Status: S2


WORDS = ["queued", "saving", "active", "killed", "deactivated", "pending_delete", "deleted", "ACTIVE", "", "nonsense"]


@pytest.mark.parametrize("word", WORDS)
def test_a_users_new_image_is_queued_whatever_it_says(word: str, registry: Registry) -> None:
    """S2."""
    assert registry.by(ALICE).add(status=word)["status"] == "queued"


@pytest.mark.parametrize("word", WORDS)
def test_a_user_changes_no_status(word: str, registry: Registry) -> None:
    """S2."""
    alice = registry.by(ALICE)
    for made in (alice.add(), alice.upload()):
        expected = 200 if word in ("", made["status"]) else 403
        alice.ask("PUT", f"/images/{made['id']}", {"image": {"status": word, "name": "x"}}, expected)
        assert registry.ask("GET", f"/images/{made['id']}").json["image"]["status"] == made["status"]


@pytest.mark.parametrize("word", WORDS)
def test_an_administrator_writes_killed_and_no_other_status(word: str, registry: Registry) -> None:
    """S2: nothing is active without its bytes."""
    good = ("", "queued", "killed")
    registry.ask("POST", "/images", {"image": {"status": word}}, 200 if word in good else 400)
    queued, active = registry.add(), registry.upload()
    registry.ask("PUT", f"/images/{queued['id']}", {"image": {"status": word}}, 200 if word in good else 403)
    registry.ask("PUT", f"/images/{active['id']}", {"image": {"status": word}}, 200 if word in ("", "active") else 403)
    statuses = {registry.ask("GET", f"/images/{made['id']}").json["image"]["status"] for made in (queued, active)}
    assert statuses == {"killed" if word == "killed" else "queued", "active"}


def test_nothing_leads_out_of_killed(registry: Registry) -> None:
    """S2."""
    made = registry.add(status="killed")
    registry.ask("PUT", f"/images/{made['id']}", {"image": {"status": "queued"}}, 403)
    registry.claim(made["id"], status=409)


# JSON is read as JSON

NO_TEXT: list[Any] = [5, True, 1.5, [], {}]
NO_NUMBER: list[Any] = ["5", True, 1.0, -1, 2**63, [], {}]
NO_FLAG: list[Any] = ["true", 1, 0, [], {}]
NO_TIME: list[Any] = ["yesterday", 5, "1899-12-31T23:59:59", True]
NO_PROPERTIES: list[Any] = ["x", None, [], 5, {"a": None}, {"a": 5}, {"a": {}}, {"a": True}]


BAD_FIELDS: list[tuple[str, Any]] = [
    *((name, value) for name in ("name", "owner", "status", "disk_format", "checksum", "id") for value in NO_TEXT),
    *((name, value) for name in ("size", "min_disk", "min_ram") for value in NO_NUMBER),
    *((name, value) for name in ("is_public", "protected") for value in NO_FLAG),
    *((name, value) for name in ("created_at", "updated_at") for value in NO_TIME),
    *(("properties", value) for value in NO_PROPERTIES),
    *(("properties", {key: "x"}) for key in ("", "A", "a-b", "\u00e9", "a\n", "a" * 256)),
    *(("name", value) for value in ("a\nb", "\x00", "\x7f", "\ud800", "x" * 256)),
    *(("properties", {"a": value}) for value in ("a\r\nb", "\x00", "\udfff")),
    *(("id", value) for value in ("detail", "a/b", "-1", "x" * 65, "a b")),
    *(("checksum", "5" * 31), ("sha256", "g" * 64), ("min_ram", 2**31)),
    *(("disk_format", "floppy"), ("container_format", "box"), ("color", "red"), ("store", "file"), ("uid", None)),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_field_of_another_form_is_refused_by_its_place(
    field: str, value: Any, registry: Registry, installation: "Installation"
) -> None:
    before = stored(installation)
    message = error_of(registry.ask("POST", "/images", {"image": {field: value}}, 400))
    assert "body.image." in message
    assert field in message
    assert stored(installation) == before


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"image": []}', b'{"image": null}', b'{"image": "x"}'])
def test_a_body_without_an_image_is_refused(body: bytes, registry: Registry) -> None:
    assert "body" in error_of(registry.ask("POST", "/images", body, 400))


def test_all_that_is_wrong_is_told_at_once(registry: Registry) -> None:
    image = {"size": "5", "is_public": 1, "disk_format": "floppy", "color": "red", "properties": {"A": "x"}}
    message = error_of(registry.ask("POST", "/images", {"image": image, "blob": {"size": "x"}}, 400))
    named = ("image.size", "image.is_public", "image.disk_format", "color", "properties", "blob.size", "blob.claim")
    assert [each for each in named if each not in message] == []


def test_formats_that_do_not_go_together_are_refused(registry: Registry) -> None:
    message = error_of(
        registry.ask("POST", "/images", {"image": {"disk_format": "ami", "container_format": "bare"}}, 400)
    )
    assert "body.image.disk_format, body.image.container_format: aki, ari and ami" in message
    assert registry.add(disk_format="ami")["container_format"] == "ami"


def test_a_body_of_more_than_a_mebibyte_is_refused(registry: Registry) -> None:
    assert "1048576 bytes" in error_of(registry.ask("POST", "/images", b" " * (2**20 + 1), 413))


# Methods and paths


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        *(("/", "GET, HEAD"), ("/images", "GET, HEAD, POST"), ("/images/detail", "GET, HEAD")),
        *(("/images/f17", "GET, HEAD, PUT, DELETE"), ("/images/f17/members", "GET, HEAD, PUT")),
        *(("/images/f17/members/tenant-b", "PUT, DELETE"), ("/shared-images/tenant-b", "GET, HEAD")),
        *((f"/claims/{name}", "POST") for name in ("begin", "reserve", "renew", "end", "expired", "seize")),
        *((f"/claims/{name}", "POST") for name in ("is_located", "garbage", "forget_garbage")),
        ("/healthcheck", "GET, HEAD"),
    ],
)
def test_another_method_is_405_with_those_that_are(path: str, methods: str, registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("PATCH", path, status=405)
    assert answer.headers["Allow"] == methods
    assert error_of(answer)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images", "/versions", "/claims", "/claims/", "/claims/x", "/claims/garbage/", "/claims/garbage/x"),
        *("/images/f17/x", "/images/f17/", "/x", "//", "/shared-images", f"/shared-images/{'x' * 256}"),
        *(
            f"/images/f17/members/{'x' * 256}",
            "/images/f17/members/tenant-b/x",
            "/images/detail/",
            "/images/detail/x",
        ),
    ],
)
def test_another_path_is_404(path: str, registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("GET", path, status=404)
    assert error_of(answer)
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_an_error_names_its_kind_for_the_api_server(registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("POST", "/images", {"image": {"id": "f17"}}, 409)
    assert answer.headers["X-Pyrimage-Error"] == "ImageExists"


def test_an_api_names_no_kind_of_error(installation: "Installation") -> None:
    assert "X-Pyrimage-Error" not in installation.client().get("/v1/images?limit=x", status=400).headers


# Uploads


def test_an_upload_into_a_queued_image_makes_it_active_and_ends_its_claim(registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add(properties={"a": "b"})
    claim = alice.claim(queued["id"])
    sent = {"image": {"status": "active"}, "from_state": "queued", "blob": blob_of(claim)}
    purge = {"X-Glance-Registry-Purge-Props": "true"}
    made = alice.ask("PUT", f"/images/{queued['id']}", sent, 200, purge).json["image"]
    assert (made["status"], made["location_data"][0]["key"]) == ("active", claim["key"])
    assert made["properties"] == {"a": "b"}  # which an upload never removes
    assert registry.ask("POST", "/claims/expired", {"grace": 0}).json == {"claims": []}
    assert error_of(alice.ask("PUT", f"/images/{queued['id']}", sent, 409))


LIES: dict[str, dict[str, Any]] = {
    "another key": {"location": {"store": "file", "key": fresh_key("f17")}},
    "another claim": {"claim": fresh_key("f17")},
    "no claim": {"claim": None},
    "no location": {"location": None},
    "another store": {},  # see below
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


def test_a_blob_of_another_images_claim_is_refused(registry: Registry, installation: "Installation") -> None:
    """S20: not even the owner of both."""
    claim = registry.by(ALICE).claim()
    before = stored(installation)
    answer = registry.by(ALICE).ask("POST", "/images", {"image": {"id": "other"}, "blob": blob_of(claim)}, 409)
    assert answer.headers["X-Pyrimage-Error"] == "UploadEnded"
    assert stored(installation) == before


def test_a_blob_of_another_projects_claim_is_refused(registry: Registry, installation: "Installation") -> None:
    """S20."""
    claim = registry.by(ALICE).claim()
    before = stored(installation)
    sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}
    registry.by(BOB).ask("POST", "/images", sent, 409)
    assert stored(installation) == before


def test_more_bytes_than_the_claim_holds_are_refused(registry: Registry, installation: "Installation") -> None:
    claim = registry.by(ALICE).claim()
    before = stored(installation)
    sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim, size=6)}
    registry.by(ALICE).ask("POST", "/images", sent, 409)
    assert stored(installation) == before


@pytest.mark.parametrize("announced", [{"size": 6}, {"checksum": "7" * 32}, {"sha256": "7" * 64}])
def test_other_bytes_than_were_announced_are_refused(announced: dict[str, Any], registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add(**announced)
    claim = alice.claim(queued["id"])
    answer = alice.ask("PUT", f"/images/{queued['id']}", {"image": {}, "blob": blob_of(claim)}, 400)
    assert answer.headers["X-Pyrimage-Error"] == "DataMismatch"
    assert next(iter(announced)) in error_of(answer)


def test_an_empty_blob_for_an_image_that_is_there_needs_a_claim_too(registry: Registry) -> None:
    queued = registry.by(ALICE).add()
    sent = {"image": {}, "blob": {**NO_DATA, "location": None, "claim": None}}
    assert "body.blob.claim" in error_of(registry.by(ALICE).ask("PUT", f"/images/{queued['id']}", sent, 400))


def test_nobody_adds_nothing(registry: Registry, installation: "Installation") -> None:
    before = stored(installation)
    error_of(registry.by(NOBODY).ask("POST", "/images", {"image": {}}, 403))
    assert stored(installation) == before


def test_an_administrator_may_name_the_owner_and_a_user_may_not(registry: Registry) -> None:
    assert registry.by(ADMIN).add(owner="tenant-x")["owner"] == "tenant-x"
    assert registry.by(ALICE).add(owner="tenant-x")["owner"] == "tenant-a"
