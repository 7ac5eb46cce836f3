"""The registry over each database: nothing is lost on the way out and back, and of claims at once one wins."""

import dataclasses
from datetime import datetime
from typing import Any

from factories import ALICE, location_of
from pyrimage.catalogue.records import Image, Location
from pyrimage.catalogue.testing import Subject
from pyrimage.catalogue.testing.catalogue import NOON, at_once
from registries import Registry, blob_of, fresh_key

MANY = 3  # with more, MariaDB is busy with deadlocks


def record_of(shown: dict[str, Any]) -> Image:
    """Make the record again of what the registry answered, as its client will."""
    fields = {field.name: shown[field.name] for field in dataclasses.fields(Image) if field.name != "location"}
    for name in ("created_at", "updated_at", "deleted_at", "activated_at"):
        fields[name] = shown[name] and datetime.fromisoformat(shown[name])
    places = [Location(each["store"], each["key"], each["owned"]) for each in shown["location_data"]]
    return Image(**fields, location=places[0] if places else None)


def shown(registry: Registry, image_id: str) -> dict[str, Any]:
    image: dict[str, Any] = registry.ask("GET", f"/images/{image_id}", status=200).json["image"]
    return image


def test_the_record_of_an_answer_is_the_record_that_is_stored(registry: Registry, catalogue: Subject) -> None:
    later = NOON.replace(microsecond=7)
    full = catalogue.upload(
        name="\U0001f600", is_public=True, owner="a ", min_ram=2**31 - 1, updated_at=later, properties={"a": " "}
    )
    images = [full, catalogue.add(), catalogue.add(size=2**63 - 1, checksum="5" * 32, protected=True)]
    images.append(catalogue.upload())
    catalogue.remove(images[-1])
    found = [catalogue.find(image.id) for image in images]
    assert [record_of(shown(registry, image.id)) for image in images] == found
    listed = registry.ask("GET", "/images/detail?is_public=none&sort_key=id&sort_dir=asc").json["images"]
    assert [record_of(image) for image in listed] == sorted(found[:-1], key=lambda image: image.id if image else "")


def test_what_is_sent_is_stored_to_the_microsecond(registry: Registry, catalogue: Subject) -> None:
    sent = {"created_at": "2011-09-22T12:00:00.000001", "updated_at": "2011-09-22T12:00:00.999999"}
    made = registry.upload(name="\U0001f600", size=5, properties={"a": "x" * 16_000}, **sent)
    image = catalogue.find(made["id"])
    assert image == record_of(made)
    assert image is not None
    assert [image.created_at.microsecond, image.updated_at.microsecond] == [1, 999999]
    assert location_of(image).key.startswith(f"{image.id}.")


def test_of_those_that_claim_an_image_at_once_one_succeeds_and_commits_once(registry: Registry) -> None:
    alice = registry.by(ALICE)
    queued = alice.add()
    claim = {"image_id": queued["id"], "store": "file", "owner": "tenant-a", "size": 5}

    def begin() -> Any:
        mine = {**claim, "key": fresh_key(queued["id"])}
        answer = alice.ask("POST", f"/images/{mine['image_id']}/claims", {"claim": mine}, "*")
        return mine if answer.status_int == 200 else answer.status_int

    outcomes = at_once(*[begin] * MANY)
    [mine] = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    assert outcomes.count(409) == MANY - 1

    def commit() -> int:
        sent = {"image": {}, "from_state": "queued", "blob": blob_of(mine)}
        return int(alice.ask("PUT", f"/images/{queued['id']}", sent, "*").status_int)

    assert sorted(at_once(*[commit] * MANY)) == [200] + [409] * (MANY - 1)
    assert shown(registry, queued["id"])["location_data"][0]["key"] == mine["key"]


def test_an_expired_claim_is_seized_and_its_upload_comes_too_late(registry: Registry, catalogue: Subject) -> None:
    claim = registry.by(ALICE).claim()
    catalogue.expire(claim["key"])
    assert registry.ask("POST", "/claims/expired", {"grace": 60}).json == {"claims": [claim]}
    assert registry.ask("POST", "/claims/seize", {"claim": claim, "grace": 60}).json == {"seized": True}
    sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}
    registry.by(ALICE).ask("POST", "/images", sent, 409)
    registry.ask("POST", "/claims/end", {"key": claim["key"], "image_id": claim["image_id"], "reason": None}, 204)
    assert registry.ask("POST", "/claims/expired", {"grace": 0}).json == {"claims": []}
