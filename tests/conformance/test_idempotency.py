"""Requests that come again change nothing more (S7): on each database, one after the other and at once."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from webtest import TestApp

from conftest import Installation
from factories import ADMIN, ALICE, BOB, NOBODY, error_of, stored
from pyrimage.catalogue.records import Identity, utcnow
from pyrimage.catalogue.testing.catalogue import at_once
from pyrimage.models import AnsweredRow, ClaimRow, ImageRow
from pyrimage.registry import idempotency
from pyrimage.signatures import IDEMPOTENCY_KEY
from registries import Registry, blob_of, signed

KEY = "8e2f6c3a-one-change"
MANY = 4

where_requests_wait_for_each_other = pytest.mark.parametrize(
    "shared_installation", ["sqlite", "postgresql"], indirect=True
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A request that changes rows, once."""

    method: str
    target: str
    value: Any = None
    key: str = KEY
    caller: Identity = ALICE

    def capture(self, seconds: int = 0) -> dict[str, str]:
        """Make the headers of the request, as they are on the wire; seconds: how much later it is signed."""
        moment = int(time.time()) + seconds
        more = {IDEMPOTENCY_KEY: self.key}
        return signed(self.caller, self.method, self.target, self.body, timestamp=moment, more=more)

    @property
    def body(self) -> bytes:
        return b"" if self.value is None else json.dumps(self.value).encode()

    def send(self, registry: Registry, headers: Mapping[str, str]) -> Any:
        app = TestApp(registry.installation.wsgi, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
        data = {"body": self.body} if self.body else {}
        return app.request(self.target, method=self.method, headers=dict(headers), status="*", **data)


Prepare = Callable[[Registry], Change]


def shared(registry: Registry) -> str:
    """Add an image with two members, and return the path of those."""
    path = f"/images/{registry.add()['id']}/members"
    for member in ("tenant-b", "tenant-c"):
        registry.ask("PUT", f"{path}/{member}", status=204)
    return path


def add(registry: Registry) -> Change:
    return Change("POST", "/images", {"image": {"name": "f17", "properties": {"os": "linux"}}})


def commit_new(registry: Registry) -> Change:
    claim = registry.claim()
    return Change("POST", "/images", {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}, claim["key"])


def change(registry: Registry) -> Change:
    return Change("PUT", f"/images/{registry.add()['id']}", {"image": {"min_ram": 512, "properties": {"os": "linux"}}})


def commit(registry: Registry) -> Change:
    image_id = registry.add()["id"]
    claim = registry.claim(image_id)
    sent = {"image": {}, "from_state": "queued", "blob": blob_of(claim)}
    return Change("PUT", f"/images/{image_id}", sent, claim["key"])


def delete(registry: Registry) -> Change:
    return Change("DELETE", f"/images/{registry.upload()['id']}?protected=false")


def put_member(registry: Registry) -> Change:
    return Change("PUT", f"{shared(registry)}/tenant-d", {"member": {"can_share": True}})


def replace_members(registry: Registry) -> Change:
    return Change("PUT", shared(registry), {"memberships": [{"member_id": "tenant-d"}]})


def remove_member(registry: Registry) -> Change:
    return Change("DELETE", f"{shared(registry)}/tenant-b")


CHANGES: tuple[Prepare, ...] = (
    *(add, commit_new, change, commit, delete),
    *(put_member, replace_members, remove_member),
)
of_all_kinds = pytest.mark.parametrize("prepare", CHANGES, ids=lambda prepare: prepare.__name__)


@of_all_kinds
@pytest.mark.parametrize("later", [0, 1], ids=["as it was", "signed anew"])
def test_a_change_that_comes_again_has_its_answer_and_no_effect(
    registry: Registry, prepare: Prepare, later: int
) -> None:
    wanted = prepare(registry.by(ALICE))
    before = stored(registry.installation)
    first = wanted.send(registry, wanted.capture())
    assert first.status_int in (200, 204)
    after = stored(registry.installation)
    assert after != before
    again = wanted.send(registry, wanted.capture(later))
    assert (again.status_int, again.body) == (first.status_int, first.body)
    assert stored(registry.installation) == after


@where_requests_wait_for_each_other
@of_all_kinds
def test_of_one_change_that_comes_several_times_at_once_all_get_the_answer(
    registry: Registry, prepare: Prepare
) -> None:
    wanted = prepare(registry.by(ALICE))
    images = registry.installation.rows(ImageRow)
    headers = wanted.capture()
    answers = at_once(*[lambda: wanted.send(registry, headers)] * MANY)
    assert {(answer.status_int, answer.body) for answer in answers} == {(answers[0].status_int, answers[0].body)}
    assert answers[0].status_int in (200, 204)
    assert registry.installation.rows(AnsweredRow) == 1
    assert registry.installation.rows(ImageRow) - images == (wanted.method == "POST")


@pytest.mark.parametrize(
    "other",
    [
        {"value": {"image": {"name": "f18"}}},
        {"caller": BOB},
        {"caller": ADMIN},
        {"caller": NOBODY},
        {"method": "PUT", "target": "/images/f17", "value": {"image": {"name": "f17"}}},
        {"target": "/images?x=1"},
        {"method": "DELETE", "target": "/images/f17", "value": None},
    ],
    ids=str,
)
def test_another_request_with_the_key_is_refused_and_learns_nothing(registry: Registry, other: dict[str, Any]) -> None:
    """S7: nor does one who sends the same words in his own name."""
    wanted = Change("POST", "/images", {"image": {"id": "f17", "name": "f17"}})
    assert wanted.send(registry, wanted.capture()).status_int == 200
    before = stored(registry.installation)
    strange = dataclasses.replace(wanted, **other)
    answer = strange.send(registry, strange.capture())
    assert answer.status_int == 409
    assert error_of(answer) == "Idempotency-Key: was used for another request."
    assert stored(registry.installation) == before


def test_who_cannot_sign_does_not_learn_that_a_key_was_used(registry: Registry) -> None:
    """S7."""
    wanted = Change("POST", "/images", {"image": {"name": "f17"}})
    headers = wanted.capture()
    wanted.send(registry, headers)
    assert wanted.send(registry, {**headers, "X-User-Id": "bob"}).status_int == 401
    forged = dataclasses.replace(wanted, value={"image": {"name": "f18"}})
    assert forged.send(registry, headers).status_int == 401


def test_a_change_that_was_refused_may_come_again_and_succeed(registry: Registry) -> None:
    path = f"/images/{registry.by(ALICE).add(min_ram=1)['id']}"
    wanted = Change("PUT", path, {"image": {"name": "f17"}, "expected": {"min_ram": 2}})
    headers = wanted.capture()
    assert wanted.send(registry, headers).status_int == 409
    registry.ask("PUT", path, {"image": {"min_ram": 2}}, 200)
    assert wanted.send(registry, headers).status_int == 200
    assert registry.ask("GET", path).json["image"]["name"] == "f17"


def test_reading_needs_no_key_and_uses_none(registry: Registry) -> None:
    wanted = Change("POST", "/images", {"image": {"name": "f17"}})
    wanted.send(registry, wanted.capture())
    reading = dataclasses.replace(wanted, method="GET", value=None)
    assert len(reading.send(registry, reading.capture()).json["images"]) == 1


@pytest.mark.parametrize(("key", "status"), [("x" * 255, 200), ("x" * 256, 400), ("a b", 400), ("\u00e1", 400)])
def test_a_key_is_up_to_255_characters_of_ascii(registry: Registry, key: str, status: int) -> None:
    wanted = Change("POST", "/images", {"image": {"name": "f17"}}, key)
    assert wanted.send(registry, wanted.capture()).status_int == status


# -- claims, which are told by their own keys


def path_of(image_id: str | None) -> str:
    return "/claims/begin" if image_id is None else f"/images/{image_id}/claims"


@pytest.mark.parametrize("is_new", [True, False])
def test_a_claim_that_begins_again_is_one_claim(registry: Registry, is_new: bool) -> None:
    alice = registry.by(ALICE)
    image_id = None if is_new else alice.add()["id"]
    claim = alice.claim(image_id)
    alice.ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, 200)
    before = registry.installation.rows(ClaimRow)
    alice.ask("POST", path_of(image_id), {"claim": claim}, 200)
    assert registry.installation.rows(ClaimRow) == before == 1
    registry.by(BOB).ask("POST", "/claims/begin", {"claim": {**claim, "owner": "tenant-b"}}, 409)


@where_requests_wait_for_each_other
def test_a_claim_that_begins_several_times_at_once_is_one_claim(registry: Registry) -> None:
    alice = registry.by(ALICE)
    image_id = alice.add()["id"]
    claim = {"image_id": image_id, "store": "file", "key": f"{image_id}.{'5' * 16}", "owner": "tenant-a", "size": 5}
    begin: Callable[[], Any] = lambda: alice.ask("POST", f"/images/{image_id}/claims", {"claim": claim}, "*")  # noqa: E731
    assert [answer.status_int for answer in at_once(*[begin] * MANY)] == [200] * MANY
    assert registry.installation.rows(ClaimRow) == 1


@pytest.mark.parametrize("reason", ["committed", "failed", "its image was deleted"])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_claim_that_has_ended_does_not_begin_again(registry: Registry, is_new: bool, reason: str) -> None:
    """It would keep others out, and no upload would ever end it."""
    alice = registry.by(ALICE)
    image_id = None if is_new else alice.add()["id"]
    claim = alice.claim(image_id)
    end = {"key": claim["key"], "image_id": claim["image_id"], "reason": None}
    if reason == "failed":
        for _ in range(2):
            alice.ask("POST", "/claims/end", end, 204)
    else:
        sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}
        target = "/images" if is_new else f"/images/{image_id}"
        wanted = Change("POST" if is_new else "PUT", target, sent, claim["key"])
        assert wanted.send(registry, wanted.capture()).status_int == 200
    if reason == "its image was deleted":
        alice.ask("DELETE", f"/images/{claim['image_id']}", status=200)
    is_gone = reason == "its image was deleted" and not is_new
    alice.ask("POST", path_of(image_id), {"claim": claim}, 404 if is_gone else 409)
    assert registry.installation.rows(ClaimRow) == 0


def test_a_commit_that_comes_after_its_claim_was_given_up_changes_nothing(registry: Registry) -> None:
    """One that was under way for long, and was asked for in vain meanwhile."""
    alice = registry.by(ALICE)
    wanted = commit_new(alice)
    end = {"key": wanted.key, "image_id": wanted.value["image"]["id"], "reason": None}
    alice.ask("POST", "/claims/end", end, 204)
    before = stored(registry.installation)
    assert wanted.send(registry, wanted.capture()).status_int == 409
    assert stored(registry.installation) == before


# -- how long answers are kept


def age(installation: Installation, by: timedelta) -> None:
    with installation.engine.begin() as connection:
        connection.execute(update(AnsweredRow).values(answered_at=utcnow() - by))


def test_answers_are_kept_for_longer_than_signatures_hold_and_not_for_ever(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FORGET_EVERY", 0)
    first, second, third = (
        Change("POST", "/images", {"image": {"id": f"image-{number}"}}, f"key-{number}") for number in range(3)
    )
    answer = first.send(registry, first.capture())
    age(registry.installation, idempotency.KEPT - timedelta(minutes=1))
    second.send(registry, second.capture())
    assert first.send(registry, first.capture()).body == answer.body
    age(registry.installation, idempotency.KEPT + timedelta(minutes=1))
    third.send(registry, third.capture())
    assert registry.installation.rows(AnsweredRow) == 1
    assert first.send(registry, first.capture()).status_int == 409  # its id is taken


def test_many_answers_are_forgotten_a_part_at_a_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "FORGET_EVERY", 0)
    old = utcnow() - idempotency.KEPT * 2
    rows = [{"key": f"old-{number}", "request": "", "answer": "", "answered_at": old} for number in range(1500)]
    with registry.installation.engine.begin() as connection:
        connection.execute(insert(AnsweredRow), rows)
    for number in range(2):
        wanted = Change("POST", "/images", {"image": {}}, f"key-{number}")
        assert wanted.send(registry, wanted.capture()).status_int == 200
        monkeypatch.setattr(idempotency, "FORGET_EVERY", 3600)  # but not before the rest is gone
    assert registry.installation.rows(AnsweredRow) == 2
