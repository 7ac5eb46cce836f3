"""All or nothing: a POST that fails leaves nothing, and a PUT the image as it was."""

import pytest
from sqlalchemy import event
from webtest import TestApp

from conftest import Installation
from default_catalogue import sql_catalogue_only
from default_store import file_store_only
from factories import data_headers, detail, error_of, files_below, md5, reserve
from faults import (
    Body,
    assert_no_bytes,
    at_checkin,
    at_commit,
    break_reference,
    hinder,
    limit_size,
    on_connect,
    other_program,
    raising,
    send,
    state_of,
)
from pyrimage.errors import StoreFull, StoreUnavailable
from pyrimage.models import ClaimRow

TROUBLES = {
    "write": (StoreFull("The store is full."), 507),
    "finish": (StoreUnavailable("The store is away."), 503),
}


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
    assert_no_bytes(own_installation, images=0)


@file_store_only
def test_post_leaves_nothing_when_the_stores_directory_is_gone(
    own_installation: Installation, committing_app: TestApp
) -> None:
    (own_installation.datadir / "staging").write_bytes(b"")
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    (own_installation.datadir / "staging").unlink()
    assert_no_bytes(own_installation, images=0)


@file_store_only
def test_post_leaves_nothing_when_the_file_cannot_be_renamed(own_installation: Installation) -> None:
    body = Body(b"bytes", meanwhile=lambda: replace_shelf_by_file(own_installation))
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 503
    (shelf,) = files_below(own_installation.datadir / "blobs")
    (own_installation.datadir / "blobs" / shelf).unlink()
    assert_no_bytes(own_installation, images=0)


@pytest.mark.parametrize("digest", [{"checksum": md5(b"other")}, {"sha256": "0" * 64}])
def test_post_leaves_nothing_when_the_digest_is_wrong(
    own_installation: Installation, committing_app: TestApp, digest: dict[str, str]
) -> None:
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17", **digest), status=400)
    assert_no_bytes(own_installation, images=0)


def test_post_leaves_nothing_when_bytes_are_missing(own_installation: Installation) -> None:
    body = Body(b"bytes")
    body.length = 6
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 400
    assert_no_bytes(own_installation, images=0)


def test_post_leaves_nothing_when_the_body_breaks(own_installation: Installation) -> None:
    body = Body(b"bytes", meanwhile=raising(OSError("gone")))
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 500
    assert_no_bytes(own_installation, images=0)


def test_post_leaves_nothing_when_the_id_was_taken_meanwhile(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """By another server's COMMIT, after our claim; told with 409 and not in a commit phase."""

    def take() -> None:
        with own_installation.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM claims")
        reserve(committing_app, id="f17")

    assert send(own_installation, "POST", "/v1/images", Body(b"bytes", meanwhile=take), id="f17").status_int == 409
    assert own_installation.stored_keys() == []
    assert state_of(committing_app, "/v1/images/f17") == ("queued", None)


def test_post_leaves_nothing_when_the_database_is_full(own_installation: Installation, committing_app: TestApp) -> None:
    sessions = own_installation.catalogue.sessions
    event.listen(sessions, "after_begin", lambda session, begun, connection: limit_size(connection))
    headers = data_headers(name="f17", properties={f"p{number}": "x" * 800 for number in range(20)})
    committing_app.post("/v1/images", b"bytes", headers=headers, status=507)
    assert_no_bytes(own_installation, images=0)


@sql_catalogue_only
def test_post_leaves_nothing_when_the_database_is_busy(own_installation: Installation) -> None:
    on_connect(own_installation, "busy_timeout = 0")
    with other_program(own_installation) as database, at_checkin(own_installation, database.rollback):
        body = Body(b"bytes", meanwhile=lambda: database.execute("BEGIN IMMEDIATE"))
        assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 503
    assert_no_bytes(own_installation, images=0)


# -- a PUT that fails leaves the image as it was, says why, and the next one works


@pytest.mark.parametrize("step", TROUBLES)
def test_put_leaves_the_image_queued_when_the_store_fails(
    own_installation: Installation, committing_app: TestApp, queued: str, step: str
) -> None:
    error, status = TROUBLES[step]
    store = hinder(own_installation)
    store.before[step] = raising(error)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=status)
    assert own_installation.stored_keys() == []
    assert state_of(committing_app, queued) == ("queued", None)
    assert detail(committing_app, queued)["last_error"] == str(error)
    store.before.clear()
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert state_of(committing_app, queued) == ("active", md5(b"bytes"))
    assert detail(committing_app, queued)["last_error"] is None


@sql_catalogue_only
def test_put_can_be_repeated_at_once_when_the_commit_failed(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    at_commit(own_installation, break_reference)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=500)
    assert own_installation.stored_keys() == []
    assert state_of(committing_app, queued) == ("queued", None)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert committing_app.get(queued).body == b"bytes"


def test_put_can_be_repeated_as_soon_as_the_database_takes_the_end_of_the_claim(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    """The database is still busy when the claim of the failed upload should end."""
    on_connect(own_installation, "busy_timeout = 0")
    with other_program(own_installation) as database:
        body = Body(b"bytes", meanwhile=lambda: database.execute("BEGIN IMMEDIATE"))
        assert send(own_installation, "PUT", queued, body).status_int == 503
    assert own_installation.stored_keys() == []
    assert own_installation.rows(ClaimRow) == 1
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert own_installation.rows(ClaimRow) == 0
    assert detail(committing_app, queued)["last_error"] is None


@sql_catalogue_only
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
    assert own_installation.stored_keys() == []
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)
