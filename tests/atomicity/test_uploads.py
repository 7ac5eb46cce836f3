"""All or nothing (D3), and one upload at a time (traps 8, 9 and 11)."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from webtest import TestApp

from breakage import (
    Body,
    Gate,
    at_checkin,
    at_commit,
    blobs_of,
    break_reference,
    expire_claims,
    hinder,
    limit_size,
    other_program,
    raising,
    send,
)
from conftest import Installation
from factories import data_headers, detail, error_of, md5, meta, reserve, send_chunked
from pyrimage.blobs import GRACE, scrub
from pyrimage.errors import StoreFull, StoreUnavailable
from pyrimage.models import ClaimRow, ImageRow, LocationRow
from pyrimage.stores.transfer import CHUNK

TROUBLES = {
    "write": (StoreFull("The store is full."), 507),
    "seal": (StoreUnavailable("The store is away."), 503),
    "publish": (StoreFull("The store is full."), 507),
}


@pytest.fixture
def queued(committing_app: TestApp) -> str:
    return reserve(committing_app, id="f17")


def state_of(client: TestApp, path: str) -> tuple[str, str | None]:
    headers = client.head(path, status=200).headers
    return headers["x-image-meta-status"], headers.get("x-image-meta-checksum")


def assert_nothing_is_there(installation: Installation) -> None:
    assert installation.blobs_on_disk() == []
    assert [installation.rows(model) for model in (ImageRow, ClaimRow, LocationRow)] == [0, 0, 0]


def end_claims_of_the_dead(installation: Installation) -> None:
    """Run a scrub that takes every upload for dead."""
    expire_claims(installation, GRACE * 2)
    assert len(list(scrub(blobs_of(installation), GRACE, dry_run=False))) == 1


def replace_shelf_by_file(installation: Installation) -> None:
    """Put a file where the directory for the upload under way was made."""
    (staged,) = (installation.datadir / "staging").iterdir()
    shelf = installation.datadir / "blobs" / staged.name[-2:]
    shelf.rmdir()
    shelf.write_bytes(b"")


# -- a POST that fails leaves nothing


@pytest.mark.parametrize("step", TROUBLES)
def test_post_leaves_nothing_when_the_store_fails(
    own_installation: Installation, committing_app: TestApp, step: str
) -> None:
    error, status = TROUBLES[step]
    hinder(own_installation).before[step] = raising(error)
    answer = committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=status)
    assert error_of(answer) == str(error)
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_the_stores_directory_is_gone(
    own_installation: Installation, committing_app: TestApp
) -> None:
    own_installation.datadir.mkdir()
    (own_installation.datadir / "staging").write_bytes(b"")
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    (own_installation.datadir / "staging").unlink()
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_the_file_cannot_be_renamed(own_installation: Installation) -> None:
    body = Body(b"bytes", meanwhile=lambda: replace_shelf_by_file(own_installation))
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 503
    (shelf,) = (own_installation.datadir / "blobs").iterdir()
    shelf.unlink()
    assert_nothing_is_there(own_installation)


@pytest.mark.parametrize("digest", [{"checksum": md5(b"other")}, {"sha256": "0" * 64}])
def test_post_leaves_nothing_when_the_digest_is_wrong(
    own_installation: Installation, committing_app: TestApp, digest: dict[str, str]
) -> None:
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17", **digest), status=400)
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_bytes_are_missing(own_installation: Installation) -> None:
    body = Body(b"bytes")
    body.length = 6
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 400
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_the_body_breaks(own_installation: Installation) -> None:
    body = Body(b"bytes", meanwhile=raising(ConnectionResetError("gone")))
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 500
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_the_id_was_taken_meanwhile(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """By another server's COMMIT, after our claim; told with 409 and not in a commit phase."""

    def take() -> None:
        with own_installation.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM claims")
        reserve(committing_app, id="f17")

    assert send(own_installation, "POST", "/v1/images", Body(b"bytes", meanwhile=take), id="f17").status_int == 409
    assert own_installation.blobs_on_disk() == []
    assert state_of(committing_app, "/v1/images/f17") == ("queued", None)


def test_post_leaves_nothing_when_the_database_is_full(own_installation: Installation, committing_app: TestApp) -> None:
    sessions = own_installation.registry["pyrimage.sessions"]
    event.listen(sessions, "after_begin", lambda session, begun, connection: limit_size(connection))
    headers = data_headers(name="f17", properties={f"p{number}": "x" * 5000 for number in range(20)})
    committing_app.post("/v1/images", b"bytes", headers=headers, status=507)
    assert_nothing_is_there(own_installation)


def test_post_leaves_nothing_when_the_database_is_busy(own_installation: Installation) -> None:
    event.listen(own_installation.engine, "connect", lambda c, record: c.execute("PRAGMA busy_timeout = 0"))
    with other_program(own_installation) as database, at_checkin(own_installation, database.rollback):
        body = Body(b"bytes", meanwhile=lambda: database.execute("BEGIN IMMEDIATE"))
        assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 503
    assert_nothing_is_there(own_installation)


# -- a PUT that fails leaves the image as it was, says why, and the next one works


@pytest.mark.parametrize("step", TROUBLES)
def test_put_leaves_the_image_queued_when_the_store_fails(
    own_installation: Installation, committing_app: TestApp, queued: str, step: str
) -> None:
    error, status = TROUBLES[step]
    store = hinder(own_installation)
    store.before[step] = raising(error)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=status)
    assert own_installation.blobs_on_disk() == []
    assert state_of(committing_app, queued) == ("queued", None)
    assert detail(committing_app, queued)["last_error"] == str(error)
    store.before.clear()
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert state_of(committing_app, queued) == ("active", md5(b"bytes"))
    assert detail(committing_app, queued)["last_error"] is None


def test_put_can_be_repeated_at_once_when_the_commit_failed(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    at_commit(own_installation, break_reference)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=500)
    assert own_installation.blobs_on_disk() == []
    assert state_of(committing_app, queued) == ("queued", None)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert committing_app.get(queued).body == b"bytes"


def test_put_can_be_repeated_as_soon_as_the_database_takes_the_end_of_the_claim(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """The database is still busy when the claim of the failed upload should end."""
    event.listen(own_installation.engine, "connect", lambda made, record: made.execute("PRAGMA busy_timeout = 0"))
    with other_program(own_installation) as database:
        body = Body(b"bytes", meanwhile=lambda: database.execute("BEGIN IMMEDIATE"))
        assert send(own_installation, "PUT", queued, body).status_int == 503
    assert own_installation.blobs_on_disk() == []
    assert own_installation.rows(ClaimRow) == 1
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert own_installation.rows(ClaimRow) == 0
    assert detail(committing_app, queued)["last_error"] is None


def test_last_error_shows_nothing_of_the_servers_inside(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    at_commit(own_installation, break_reference)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=500)
    assert detail(committing_app, queued)["last_error"] == "The upload failed."


def test_what_was_announced_when_reserving_holds_for_the_next_try(
    own_installation: Installation, committing_app: TestApp
) -> None:
    path = reserve(committing_app, checksum=md5(b"bytes"))
    committing_app.put(path, b"BYTES", headers=data_headers(), status=400)
    assert own_installation.blobs_on_disk() == []
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)


# -- claims


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
    assert len(own_installation.blobs_on_disk()) == 1


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
    assert_only_the_image_is_there(own_installation)
    assert state_of(committing_app, queued) == ("active", None)


def assert_only_the_image_is_there(installation: Installation) -> None:
    assert installation.blobs_on_disk() == []
    assert [installation.rows(model) for model in (ImageRow, ClaimRow, LocationRow)] == [1, 0, 0]


def test_upload_into_an_image_that_is_deleted_meanwhile_leaves_nothing(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """Trap 11: D3, delete during an upload."""
    body = Body(b"bytes", meanwhile=lambda: committing_app.delete(queued, status=200))
    assert send(own_installation, "PUT", queued, body).status_int == 409
    assert_only_the_image_is_there(own_installation)
    assert state_of(committing_app, queued) == ("deleted", None)


def test_upload_whose_claim_a_scrub_ended_leaves_nothing(own_installation: Installation) -> None:
    """Trap 11: a claim whose removal matches no row was ended by another hand."""
    body = Body(b"bytes", meanwhile=lambda: end_claims_of_the_dead(own_installation))
    assert send(own_installation, "POST", "/v1/images", body, id="f17").status_int == 409
    assert_nothing_is_there(own_installation)


def test_upload_whose_claim_a_scrub_is_ending_leaves_nothing(own_installation: Installation) -> None:
    """Trap 11: the first of the scrub's steps is enough."""
    claims = blobs_of(own_installation).claims

    def seize() -> None:
        expire_claims(own_installation, GRACE * 2)
        (claim,) = claims.expired(GRACE)
        assert claims.seize(claim, GRACE)

    assert send(own_installation, "POST", "/v1/images", Body(b"bytes", meanwhile=seize), id="f17").status_int == 409
    assert_nothing_is_there(own_installation)


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


# -- bodies


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_body_is_never_read_as_a_whole(own_installation: Installation, queued: str, method: str) -> None:
    """Trap 8: ``request.body`` and its like read everything before the first byte is stored."""

    class Endless(Body):
        """Four chunks; each is in the store before the next is asked for."""

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= CHUNK
            stored = sum(path.stat().st_size for path in Path(own_installation.datadir).glob("staging/*"))
            assert stored == self.reads * CHUNK
            self.reads += 1
            return bytes(CHUNK) if self.reads <= 4 else b""

    body = Endless(bytes(4 * CHUNK))
    path = queued if method == "PUT" else "/v1/images"
    assert send(own_installation, method, path, body).status_int < 300
    assert body.reads == 5


def test_chunked_upload_of_no_bytes_has_no_location(own_installation: Installation, committing_app: TestApp) -> None:
    send_chunked(committing_app, "POST", "/v1/images", b"", data_headers(id="f17"), status=201)
    assert own_installation.blobs_on_disk() == []
    assert own_installation.rows(LocationRow) == own_installation.rows(ClaimRow) == 0
    assert state_of(committing_app, "/v1/images/f17") == ("active", md5(b""))
    assert committing_app.get("/v1/images/f17").body == b""


def test_empty_image_asks_no_store(own_installation: Installation, committing_app: TestApp) -> None:
    own_installation.datadir.write_bytes(b"")  # so that none could answer
    path = committing_app.post("/v1/images", headers=meta(id="f17", size=0), status=201).headers["Location"]
    assert committing_app.get(path, status=200).body == b""
    committing_app.delete(path, status=200)
    assert own_installation.rows(LocationRow) == 0
