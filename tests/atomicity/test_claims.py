"""One upload at a time: traps 9 and 11."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from webtest import TestApp

from conftest import Installation
from factories import data_headers, detail, error_of, md5, meta, sha256
from faults import Body, Gate, assert_no_bytes, expire_claims, other_program, send, state_of
from pyrimage.models import ClaimRow
from pyrimage.uploads.claims import GRACE


def end_claims_of_the_dead(installation: Installation) -> None:
    """Run a scrub that takes every upload for dead."""
    expire_claims(installation, GRACE * 2)
    assert len(installation.scrub(GRACE)) == 1


def test_claim_can_be_seen_by_everybody_while_bytes_come(own_installation: Installation) -> None:
    """Trap 9: claims are written by a session of their own, committed before the first byte."""
    seen: list[Any] = []

    def look() -> None:
        with other_program(own_installation) as database:
            seen.extend(database.execute("SELECT image_id, state, size FROM claims"))

    assert send(own_installation, "POST", "/v1/images", Body(b"bytes", meanwhile=look), id="f17").status_int == 201
    assert seen == [("f17", "live", 5)]
    assert own_installation.rows(ClaimRow) == 0


def test_second_post_with_an_id_is_told_before_its_body(
    own_installation: Installation, aside: ThreadPoolExecutor
) -> None:
    """Trap 11: the claim tells the second early."""
    gate, second = Gate(), Body(b"other")
    first: Future[Any] = aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes", gate), id="f17")
    gate.wait_until_reached()
    answer = send(own_installation, "POST", "/v1/images", second, id="f17")
    gate.open()
    assert (answer.status_int, second.reads, first.result().status_int) == (409, 0, 201)
    assert len(own_installation.stored_keys()) == 1


def test_second_put_into_an_image_is_told_before_its_body(
    own_installation: Installation, queued: str, aside: ThreadPoolExecutor
) -> None:
    """Trap 11: the claim tells the second early."""
    gate, second = Gate(), Body(b"other")
    first: Future[Any] = aside.submit(send, own_installation, "PUT", queued, Body(b"bytes", gate))
    gate.wait_until_reached()
    answer = send(own_installation, "PUT", queued, second)
    gate.open()
    assert (answer.status_int, second.reads, first.result().status_int) == (409, 0, 200)


def test_reservation_of_an_id_that_is_being_uploaded_is_a_conflict(
    own_installation: Installation, committing_app: TestApp
) -> None:
    body = Body(b"bytes", meanwhile=lambda: committing_app.post("/v1/images", headers=meta(id="f17"), status=409))
    assert send(own_installation, "POST", "/v1/images", body, id="f17").status_int == 201


def test_upload_into_an_image_that_is_no_longer_queued_loses(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """Trap 11: the row changes only where it is still queued, and the loser's blob goes."""

    def activate() -> None:
        with other_program(own_installation) as database:
            database.execute("UPDATE images SET status = 'active'")

    assert send(own_installation, "PUT", queued, Body(b"bytes", meanwhile=activate)).status_int == 409
    assert_no_bytes(own_installation, images=1)
    assert state_of(committing_app, queued) == ("active", None)


def test_upload_into_an_image_that_is_deleted_meanwhile_leaves_nothing(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """Trap 11: delete during an upload."""
    body = Body(b"bytes", meanwhile=lambda: committing_app.delete(queued, status=200))
    assert send(own_installation, "PUT", queued, body).status_int == 409
    assert_no_bytes(own_installation, images=1)
    assert state_of(committing_app, queued) == ("deleted", None)


def test_upload_whose_claim_a_scrub_ended_leaves_nothing(own_installation: Installation) -> None:
    """Trap 11: a claim whose removal matches no row was ended by another hand."""
    body = Body(b"bytes", meanwhile=lambda: end_claims_of_the_dead(own_installation))
    assert send(own_installation, "POST", "/v1/images", body, id="f17").status_int == 409
    assert_no_bytes(own_installation, images=0)


def test_upload_whose_claim_a_scrub_is_ending_leaves_nothing(own_installation: Installation) -> None:
    """Trap 11: the first of the scrub's steps is enough."""
    claims = own_installation.catalogue.claims

    def seize() -> None:
        expire_claims(own_installation, GRACE * 2)
        (claim,) = claims.expired(GRACE)
        assert claims.seize(claim, GRACE)

    assert send(own_installation, "POST", "/v1/images", Body(b"bytes", meanwhile=seize), id="f17").status_int == 409
    assert_no_bytes(own_installation, images=0)


def test_slow_upload_that_was_overtaken_does_not_touch_the_other_ones_bytes(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """Trap 11: each attempt has its own key."""

    def overtake() -> None:
        expire_claims(own_installation, GRACE * 2)
        committing_app.put(queued, b"other", headers=data_headers(), status=200)

    assert send(own_installation, "PUT", queued, Body(b"bytes", meanwhile=overtake)).status_int == 409
    assert committing_app.get(queued).body == b"other"
    assert detail(committing_app, queued)["last_error"] is None


# What data was checked against when its upload began is still so when it ends


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"disk_format": "aki"},
        {"disk_format": "qcow2", "container_format": "bare"},
        {"size": 4},
        {"checksum": md5(b"other")},
        {"sha256": sha256(b"other")},
    ],
    ids=str,
)
def test_data_is_refused_when_another_put_changed_what_it_was_checked_against(
    own_installation: Installation, committing_app: TestApp, queued: str, meanwhile: dict[str, Any]
) -> None:
    """Trap 11: the later of the two is told so, leaves no bytes, and may come again."""
    before = {**detail(committing_app, queued), **meanwhile}
    body = Body(b"bytes", meanwhile=lambda: committing_app.put(queued, headers=meta(**meanwhile), status=200))
    answer = send(own_installation, "PUT", queued, body)
    assert answer.status_int == 409
    assert "announced" in error_of(answer)
    assert_no_bytes(own_installation, images=1)
    found = detail(committing_app, queued)
    assert (found["status"], found["last_error"]) == ("queued", error_of(answer))
    assert {name: found[name] for name in meanwhile} == {name: before[name] for name in meanwhile}
    sent = {"size": 5, "checksum": md5(b"bytes"), "sha256": sha256(b"bytes")}
    committing_app.put(queued, b"bytes", headers=data_headers(**sent), status=200)


def test_data_is_taken_when_another_put_changed_other_fields(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    fields = {"name": "renamed", "min_ram": 512, "properties": {"os": "linux"}}
    body = Body(b"bytes", meanwhile=lambda: committing_app.put(queued, headers=meta(**fields), status=200))
    assert send(own_installation, "PUT", queued, body).status_int == 200
    found = detail(committing_app, queued)
    assert {"status": "active", **fields}.items() <= found.items()
