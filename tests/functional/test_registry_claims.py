"""Claims over the registry: a path for each method, and who may ask which."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from factories import ADMIN, ALICE, BOB, NOBODY, READER, error_of, stored
from pyrimage.catalogue.records import utcnow
from pyrimage.models import ClaimRow
from registries import SECRET, Registry, blob_of, fresh_key

if TYPE_CHECKING:
    from conftest import Installation

WITHOUT_PROJECT = {"store": "file", "owner": None, "size": None}


def expire(registry: Registry) -> None:
    with registry.installation.engine.begin() as connection:
        connection.execute(update(ClaimRow).values(lease=utcnow().replace(year=2011)))


def test_an_id_and_an_image_are_claimed_once(registry: Registry) -> None:
    queued = registry.add()
    claim = registry.claim(queued["id"])
    assert registry.ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, 200).json == {"held": None}
    again = {"image_id": queued["id"], "key": fresh_key(queued["id"]), **WITHOUT_PROJECT}
    for path, error in ((f"/images/{queued['id']}/claims", "UploadInProgress"), ("/claims/begin", "ImageExists")):
        answer = registry.ask("POST", path, {"claim": again}, 409)
        assert answer.headers["X-Pyrimage-Error"] == error


def test_an_ended_claim_leaves_its_reason_on_the_queued_image(registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add()
    claim = alice.claim(queued["id"])
    reason = "The client left." + "x" * 900_000  # refused for its length, it would leave the claim there
    sent = {"key": claim["key"], "image_id": queued["id"], "reason": reason}
    for _ in range(2):
        alice.ask("POST", "/claims/end", sent, 204)
    assert alice.ask("GET", f"/images/{queued['id']}").json["image"]["last_error"] == reason[:1000]
    alice.claim(queued["id"])


def test_the_claim_below_an_image_is_for_that_image(registry: Registry) -> None:
    claim = {"image_id": "f18", "key": fresh_key("f18"), **WITHOUT_PROJECT}
    answer = registry.ask("POST", f"/images/{registry.add()['id']}/claims", {"claim": claim}, 400)
    assert "body.claim.image_id" in error_of(answer)


def test_an_expired_claim_is_listed_seized_and_ended(registry: Registry) -> None:
    claim, other = registry.by(ALICE).claim(), registry.by(BOB).claim(size=None)
    assert registry.ask("POST", "/claims/expired", {"grace": 0}, 200).json == {"claims": []}
    assert registry.ask("POST", "/claims/seize", {"claim": claim, "grace": 0}, 200).json == {"seized": False}
    expire(registry)
    registry.ask("POST", "/claims/renew", {"keys": [other["key"], "unknown"]}, 204)
    assert registry.ask("POST", "/claims/expired", {"grace": 60.5}, 200).json == {"claims": [claim]}
    one = {"grace": 0, "image_id": other["image_id"]}
    assert registry.ask("POST", "/claims/expired", one, 200).json == {"claims": []}
    assert registry.ask("POST", "/claims/seize", {"claim": claim, "grace": 0}, 200).json == {"seized": True}
    assert registry.ask("POST", "/claims/is_located", {"claim": claim}, 200).json == {"is_located": False}
    sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}
    registry.by(ALICE).ask("POST", "/images", sent, 409)  # too late


def test_bytes_are_located_and_then_garbage_until_they_are_forgotten(registry: Registry) -> None:
    made = registry.by(ALICE).upload()
    claim = {"image_id": made["id"], "key": made["location_data"][0]["key"], **WITHOUT_PROJECT}
    assert registry.ask("POST", "/claims/is_located", {"claim": claim}, 200).json == {"is_located": True}
    [garbage] = registry.ask("DELETE", f"/images/{made['id']}").json["garbage"]
    assert registry.ask("POST", "/claims/garbage", {}, 200).json == {"garbage": [garbage]}
    for _ in range(2):
        registry.ask("POST", "/claims/forget_garbage", {"location": garbage}, 204)
    assert registry.ask("POST", "/claims/garbage", status=200).json == {"garbage": []}


# Who may

CLAIM = {"image_id": "f17", "key": fresh_key("f17"), **WITHOUT_PROJECT}
CLEANING: dict[str, Any] = {
    "renew": {"keys": []},
    "expired": {"grace": 0},
    "seize": {"claim": CLAIM, "grace": 0},
    "is_located": {"claim": CLAIM},
    "garbage": {},
    "forget_garbage": {"location": {"store": "file", "key": "x"}},
}
UPLOADING: dict[str, Any] = {
    "begin": {"claim": CLAIM},
    "reserve": {"claim": CLAIM, "came": 1},
    "end": {"key": CLAIM["key"], "image_id": "f17", "reason": None},
}


def test_cleaning_up_is_for_administrators_and_readers_claim_nothing_nor_does_nobody(
    registry: Registry, installation: "Installation"
) -> None:
    before = stored(installation)
    for name, sent in {**CLEANING, **UPLOADING}.items():
        for caller in (ALICE, READER, NOBODY) if name in CLEANING else (READER, NOBODY):
            error_of(registry.by(caller).ask("POST", f"/claims/{name}", sent, 403))
        if name in CLEANING:
            assert registry.by(ADMIN).ask("POST", f"/claims/{name}", sent, [200, 204])
    assert stored(installation) == before


def test_a_user_claims_new_ids_for_its_own_project_only(registry: Registry, installation: "Installation") -> None:
    """S7: else its bytes would count among another's."""
    before = stored(installation)
    for owner in ("tenant-b", None):
        registry.by(ALICE).claim(owner=owner, status=403)
    assert stored(installation) == before
    registry.by(ADMIN).claim(owner="tenant-b")


def test_a_user_claims_the_images_that_it_may_change_only(registry: Registry, installation: "Installation") -> None:
    """S7."""
    private, public = registry.by(ALICE).add(), registry.add(owner="tenant-a", is_public=True)
    before = stored(installation)
    registry.by(BOB).claim(private["id"], status=404)
    registry.by(BOB).claim("none", status=404)
    for owner in ("tenant-a", "tenant-b"):
        registry.by(BOB).claim(public["id"], owner=owner, status=403)
    registry.by(ALICE).claim(public["id"], owner="tenant-b", status=403)
    assert stored(installation) == before
    registry.by(ALICE).claim(public["id"])


@pytest.mark.parametrize(
    "key", ["other.0123456789abcdef", "f17", "f17.x", "f17.0123456789abcdeg", "f17.a.0123456789abcdef", "../f17.0" * 9]
)
def test_nobody_claims_the_bytes_of_another_image(key: str, registry: Registry) -> None:
    """S20: whose claim ends without its image, the scrubber removes its bytes."""
    claim = {"image_id": "f17", **WITHOUT_PROJECT, "key": key}
    for caller in (ADMIN, ALICE):
        sent = {"claim": {**claim, "owner": caller.project}}
        assert "body.claim.key" in error_of(registry.by(caller).ask("POST", "/claims/begin", sent, 400))
    for end in ("/0123456789abcdef", ".0123456789abcdef0"):  # such as the store does not make, so none could scrub
        sent = {"claim": {**claim, "key": f"f17{end}"}}
        message = error_of(registry.ask("POST", "/claims/begin", sent, 400))
        assert message == f"body.claim.key: 'f17{end}' is not a key of the store file."


@pytest.mark.parametrize("said", [1000, None, 0])
def test_no_words_about_a_claims_size_pass_the_quota(
    said: int | None, install_with: Callable[..., "Installation"]
) -> None:
    """S36: 2,800 of 1,000 bytes."""
    limits = {"user_storage_quota": "1000", "registry_secret": SECRET}
    alice = Registry(install_with(application="registry", **limits), ALICE)
    claim = alice.claim(size=900)
    alice.ask("POST", "/claims/reserve", {"claim": {**claim, "size": said}, "came": 5}, 200)
    sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim, size=2800)}
    alice.ask("POST", "/images", sent, 409)
    alice.ask("POST", "/claims/reserve", {"claim": {**claim, "size": said}, "came": 2800}, 413)
    alice.ask("POST", "/images", sent, 409)


def test_a_user_neither_enlarges_nor_moves_nor_ends_another_projects_claim(
    registry: Registry, installation: "Installation"
) -> None:
    """S7: else a user could write upon another's image."""
    alice, bob = registry.by(ALICE), registry.by(BOB)
    claim, queued, mine = alice.claim(size=None), alice.add(), bob.claim()
    before = stored(installation)
    bob.ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, 403)
    bob.ask("POST", "/claims/reserve", {"claim": {**claim, "owner": "tenant-b"}, "came": 5}, 409)
    sent = {"key": mine["key"], "image_id": queued["id"], "reason": "written by Bob"}
    bob.ask("POST", "/claims/end", sent, 204)
    assert stored(installation) == before


# JSON is read as JSON


def changed(name: str, **more: Any) -> Any:
    """Return a good body with other values, and with other values in its claim."""
    claim = {**CLAIM, **more.pop("claim", {})}
    sent = {**CLEANING, **UPLOADING}[name]
    return {**sent, **({"claim": claim} if "claim" in sent else {}), **more}


NO_LOCATION: list[Any] = [None, "x", {"store": "file"}]
NO_OWNER: list[Any] = [5, [], "\n", "x" * 256]
NO_REASON: list[Any] = [5, [], "\x00"]
NO_SIZE: list[Any] = ["5", -1, True, 1.5, 2**63]

# The name of a view, a good body's other values, and the place that is told.
BAD_BODIES: list[tuple[str, list[Any], str]] = [
    *((name, [{}], "is missing") for name in {**CLEANING, **UPLOADING} if name != "garbage"),
    *((name, [[]], "body: must be a JSON object") for name in {**CLEANING, **UPLOADING} if name != "garbage"),
    ("begin", [changed("begin", claim={"size": value}) for value in NO_SIZE], "body.claim.size"),
    ("begin", [changed("begin", claim={"owner": value}) for value in NO_OWNER], "body.claim.owner"),
    ("begin", [changed("begin", claim={"image_id": value}) for value in (5, None, "a/b")], "body.claim.image_id"),
    ("begin", [changed("begin", claim={"store": value}) for value in (5, None, "s3")], "body.claim.store"),
    ("reserve", [changed("reserve", came=value) for value in (None, *NO_SIZE)], "body.came"),
    ("renew", [{"keys": value} for value in ("x", None, [5], [""], ["\n"], ["x"] * 10_001)], "body.keys"),
    ("expired", [{"grace": value} for value in ("5", -1, None, True, float("nan"), 1e10)], "body.grace"),
    ("expired", [{"grace": 0, "image_id": "a/b"}], "body.image_id"),
    ("end", [changed("end", reason=value) for value in NO_REASON], "body.reason"),
    ("forget_garbage", [{"location": value} for value in NO_LOCATION], "body.location"),
]


@pytest.mark.parametrize(("name", "bodies", "says"), BAD_BODIES)
def test_json_of_another_form_is_refused_by_its_place(
    name: str, bodies: list[Any], says: str, registry: Registry
) -> None:
    for sent in bodies:
        assert says in error_of(registry.ask("POST", f"/claims/{name}", sent, 400))
