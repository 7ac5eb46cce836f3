"""Claims over the registry: a path for each method, and who may ask which."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from factories import ADMIN, ALICE, BOB, NOBODY, error_of, stored
from pyrimage.catalogue.records import utcnow
from pyrimage.models import ClaimRow
from registries import SECRET, Registry, blob_of, fresh_key

if TYPE_CHECKING:
    from conftest import Installation

WITHOUT_PROJECT = {"store": "file", "owner": None, "size": None}


def expire(registry: Registry) -> None:
    with registry.installation.engine.begin() as connection:
        connection.execute(update(ClaimRow).values(lease=utcnow().replace(year=2011)))


def test_a_claim_holds_what_was_declared(registry: Registry) -> None:
    claim = {"image_id": "f17", "key": fresh_key("f17"), **WITHOUT_PROJECT}
    assert registry.ask("POST", "/claims/begin", {"claim": claim, "is_new": True}, 200).json == {"held": None}
    assert registry.ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, 200).json == {"held": None}


def test_an_id_and_an_image_are_claimed_once(registry: Registry) -> None:
    queued = registry.add()
    registry.claim(queued["id"])
    again = {"image_id": queued["id"], "key": fresh_key(queued["id"]), **WITHOUT_PROJECT}
    answer = registry.ask("POST", "/claims/begin", {"claim": again, "is_new": False}, 409)
    assert answer.headers["X-Pyrimage-Error"] == "UploadInProgress"
    answer = registry.ask("POST", "/claims/begin", {"claim": again, "is_new": True}, 409)
    assert answer.headers["X-Pyrimage-Error"] == "ImageExists"


def test_an_ended_claim_leaves_its_reason_on_the_queued_image(registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add()
    claim = alice.claim(queued["id"])
    sent = {"key": claim["key"], "image_id": queued["id"], "reason": "The client left."}
    for _ in range(2):
        alice.ask("POST", "/claims/end", sent, 204)
    assert alice.ask("GET", f"/images/{queued['id']}").json["image"]["last_error"] == "The client left."
    alice.claim(queued["id"])


def test_of_a_reason_the_first_thousand_characters_are_kept(registry: Registry) -> None:
    """Refused for its length, it would leave the claim there."""
    queued = registry.add()
    for length in (1000, 1001, 900_000):
        claim = registry.claim(queued["id"])
        reason = f"{length}" + "x" * (length - len(str(length)))
        registry.ask("POST", "/claims/end", {"key": claim["key"], "image_id": queued["id"], "reason": reason}, 204)
        assert registry.ask("GET", f"/images/{queued['id']}").json["image"]["last_error"] == reason[:1000]


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


def test_bytes_that_a_row_names_are_located(registry: Registry) -> None:
    made = registry.by(ALICE).upload()
    claim = {"image_id": made["id"], "key": made["location_data"][0]["key"], **WITHOUT_PROJECT}
    assert registry.ask("POST", "/claims/is_located", {"claim": claim}, 200).json == {"is_located": True}


def test_garbage_is_listed_until_it_is_forgotten(registry: Registry) -> None:
    made = registry.by(ALICE).upload()
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
    "begin": {"claim": CLAIM, "is_new": True},
    "reserve": {"claim": CLAIM, "came": 1},
    "end": {"key": CLAIM["key"], "image_id": "f17", "reason": None},
}


@pytest.mark.parametrize("name", CLEANING)
def test_cleaning_up_is_for_administrators(name: str, registry: Registry) -> None:
    for caller in (ALICE, NOBODY):
        error_of(registry.by(caller).ask("POST", f"/claims/{name}", CLEANING[name], 403))
    assert registry.by(ADMIN).ask("POST", f"/claims/{name}", CLEANING[name], [200, 204])


@pytest.mark.parametrize("name", UPLOADING)
def test_nobody_claims_nothing(name: str, registry: Registry, installation: "Installation") -> None:
    before = stored(installation)
    error_of(registry.by(NOBODY).ask("POST", f"/claims/{name}", UPLOADING[name], 403))
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
        sent = {"claim": {**claim, "owner": caller.project}, "is_new": True}
        assert "body.claim.key" in error_of(registry.by(caller).ask("POST", "/claims/begin", sent, 400))


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


@pytest.mark.parametrize("end", ["/0123456789abcdef", ".0123456789abcdef0", f".{'0' * 64}"])
def test_keys_that_the_store_does_not_make_are_not_claimed(
    end: str, registry: Registry, installation: "Installation"
) -> None:
    """Whoever scrubs could not remove what lies there, and would be told so for ever."""
    before = stored(installation)
    sent = {"claim": {"image_id": "f17", **WITHOUT_PROJECT, "key": f"f17{end}"}, "is_new": True}
    message = error_of(registry.ask("POST", "/claims/begin", sent, 400))
    assert message == f"body.claim.key: 'f17{end}' is not a key of the store file."
    assert stored(installation) == before


def test_a_user_neither_enlarges_nor_moves_another_projects_claim(
    registry: Registry, installation: "Installation"
) -> None:
    """S7."""
    claim = registry.by(ALICE).claim(size=None)
    before = stored(installation)
    registry.by(BOB).ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, 403)
    mine = {**claim, "owner": "tenant-b"}
    registry.by(BOB).ask("POST", "/claims/reserve", {"claim": mine, "came": 5}, 409)
    assert stored(installation) == before


def test_the_end_of_a_claim_tells_its_own_image_alone(registry: Registry, installation: "Installation") -> None:
    """S7: else a user could write upon another's image."""
    queued, claim = registry.by(ALICE).add(), registry.by(BOB).claim()
    before = stored(installation)
    sent = {"key": claim["key"], "image_id": queued["id"], "reason": "written by Bob"}
    registry.by(BOB).ask("POST", "/claims/end", sent, 204)
    assert stored(installation) == before


# JSON is read as JSON


def changed(name: str, **more: Any) -> Any:
    """Return a good body with other values, and with other values in its claim."""
    claim = {**CLAIM, **more.pop("claim", {})}
    sent = {**CLEANING, **UPLOADING}[name]
    return {**sent, **({"claim": claim} if "claim" in sent else {}), **more}


NO_SIZE: list[Any] = ["5", -1, True, 1.5, 2**63]
NO_NUMBER: list[Any] = [None, *NO_SIZE]
NO_OWNER: list[Any] = [5, [], "\n", "x" * 256]
NO_ID: list[Any] = [5, None, "a/b"]
NO_REASON: list[Any] = [5, [], "\x00"]
NO_KEYS: list[Any] = ["x", None, [5], [""], ["\n"], ["x"] * 10_001]
NO_GRACE: list[Any] = ["5", -1, None, True, float("nan"), 1e10]
NO_LOCATION: list[Any] = [None, "x", {"store": "file"}]

BAD_BODIES: list[tuple[str, Any, str]] = [
    *((name, {}, "is missing") for name in {**CLEANING, **UPLOADING} if name != "garbage"),
    *((name, [], "body: must be a JSON object") for name in {**CLEANING, **UPLOADING} if name != "garbage"),
    *(("begin", changed("begin", is_new=value), "body.is_new") for value in (1, "true", None)),
    *(("begin", changed("begin", claim={"size": value}), "body.claim.size") for value in NO_SIZE),
    *(("begin", changed("begin", claim={"owner": value}), "body.claim.owner") for value in NO_OWNER),
    *(("begin", changed("begin", claim={"image_id": value}), "body.claim.image_id") for value in NO_ID),
    *(("begin", changed("begin", claim={"store": value}), "body.claim.store") for value in (5, None, "s3")),
    *(("reserve", changed("reserve", came=value), "body.came") for value in NO_NUMBER),
    *(("renew", {"keys": value}, "body.keys") for value in NO_KEYS),
    *(("expired", {"grace": value}, "body.grace") for value in NO_GRACE),
    ("expired", {"grace": 0, "image_id": "a/b"}, "body.image_id"),
    *(("end", changed("end", reason=value), "body.reason") for value in NO_REASON),
    *(("forget_garbage", {"location": value}, "body.location") for value in NO_LOCATION),
]


@pytest.mark.parametrize(("name", "sent", "says"), BAD_BODIES)
def test_json_of_another_form_is_refused_by_its_place(name: str, sent: Any, says: str, registry: Registry) -> None:
    assert says in error_of(registry.ask("POST", f"/claims/{name}", sent, 400))
