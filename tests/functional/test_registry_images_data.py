"""An image's status and its bytes at the registry: nobody's word makes it active, or names the place of other bytes."""

from typing import TYPE_CHECKING, Any

import pytest

from factories import ALICE, BOB, error_of, stored
from registries import NO_DATA, Registry, blob_of, fresh_key

if TYPE_CHECKING:
    from conftest import Installation


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
    "a key that the store does not make": {
        "location": {"store": "file", "key": "f17/0123456789abcdef"},
        "claim": "f17/0123456789abcdef",
    },
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
