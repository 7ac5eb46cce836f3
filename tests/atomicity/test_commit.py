"""The COMMIT and what comes after it: traps 1 to 6 of a transaction that has a store beside its database."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session
from webtest import TestApp

from conftest import Installation
from default_catalogue import sql_catalogue_only
from factories import data_headers, error_of, meta, reserve, upload
from faults import (
    Body,
    assert_no_heartbeat,
    at_commit,
    break_reference,
    busy_at_commit,
    expire_claims,
    fill_database,
    hinder,
    other_program,
    raising,
    send,
)
from pyrimage.errors import DatabaseAway, DatabaseBusy, StoreUnavailable
from pyrimage.models import ClaimRow, ImageRow, LocationRow
from pyrimage.uploads.claims import GRACE


def lose_the_answer(session: Session) -> None:
    """Let the COMMIT work, and nobody hear of it."""
    session.connection().connection.commit()
    raise DatabaseAway("The database cannot be reached.")


def lose_the_question(session: Session) -> None:
    """Let the COMMIT never arrive, which looks the same."""
    raise DatabaseAway("The database cannot be reached.")


class Failing:
    """A data manager that fails after everybody has voted, and has its turn before anybody else."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def sortKey(self) -> str:
        return "~~last"

    def tpc_finish(self, transaction: object) -> None:
        raise self._error

    def nothing(self, transaction: object) -> None:
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = nothing


def in_transaction(installation: Installation, action: Callable[[Any], Any]) -> None:
    """Do something to the next transaction that uses the database."""
    sessions = installation.catalogue.sessions
    event.listen(sessions, "after_begin", lambda session, *rest: action(session.info["tm"].get()), once=True)


def test_bytes_that_cannot_be_removed_after_the_commit_do_not_fail_the_deletion(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 1: ``tpc_finish`` never raises."""
    path = upload(committing_app)
    hinder(own_installation).before["delete"] = raising(StoreUnavailable("away"))
    committing_app.delete(path, status=200)
    assert committing_app.get("/v1/images").json["images"] == []


def test_garbage_row_that_cannot_be_removed_after_the_commit_does_not_fail_the_deletion(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 1: ``tpc_finish`` never raises, of whatever kind the error is."""
    path = upload(committing_app)

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE FROM image_locations") and "garbage" in str(rest):
            raise DatabaseBusy("The database is busy.")

    event.listen(own_installation.engine, "before_cursor_execute", fail)
    committing_app.delete(path, status=200)
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == 1


@sql_catalogue_only
def test_blob_survives_a_failure_after_its_commit(own_installation: Installation, committing_app: TestApp) -> None:
    """Trap 1: what could be undone is forgotten first, for ``tpc_abort`` is called when ``tpc_finish`` failed."""
    in_transaction(own_installation, lambda transaction: transaction.join(Failing(DatabaseBusy("busy"))))
    committing_app.post("/v1/images", b"bytes", headers=data_headers(id="f17"), status=503)
    assert committing_app.get("/v1/images/f17").body == b"bytes"


def test_blob_survives_the_abort_that_follows_after_commit_hooks(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 2: ``abort`` is called after a commit that had hooks."""
    in_transaction(own_installation, lambda transaction: transaction.addAfterCommitHook(lambda status: None))
    path = upload(committing_app)
    assert committing_app.get(path).body == b"bytes"


def test_a_failed_finish_is_undone_once(
    own_installation: Installation, committing_app: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 3: ``abort`` only marks what the end undoes."""
    undone: list[str] = []
    store = hinder(own_installation)
    store.before = {"finish": raising(StoreUnavailable("The store is away.")), "discard": lambda: undone.append("x")}
    answer = committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    assert error_of(answer) == "The store is away."
    assert undone == ["x"]
    assert [record for record in caplog.records if record.name.startswith("txn")] == []
    assert own_installation.stored_keys() == []
    assert own_installation.rows(ImageRow) == own_installation.rows(ClaimRow) == 0


def test_failed_undo_is_logged_and_hides_nothing(
    own_installation: Installation, committing_app: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 3: exceptions while undoing are only logged."""
    path = reserve(committing_app)
    hinder(own_installation).before["discard"] = raising(OSError("broken disk"))
    answer = send(own_installation, "PUT", path, Body(b"bytes", meanwhile=lambda: committing_app.delete(path)))
    assert answer.status_int == 409
    assert "broken disk" in caplog.text


@sql_catalogue_only
def test_bytes_that_could_not_be_undone_keep_their_claim_and_are_scrubbed(
    own_installation: Installation, committing_app: TestApp
) -> None:
    hinder(own_installation).before["discard"] = raising(OSError("broken disk"))
    at_commit(own_installation, break_reference)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=500)
    assert len(own_installation.stored_keys()) == 1
    expire_claims(own_installation, GRACE * 2)
    assert len(own_installation.scrub(GRACE)) == 1
    assert own_installation.stored_keys() == []
    assert own_installation.rows(ClaimRow) == 0


@sql_catalogue_only
def test_finished_blob_is_taken_back_when_the_commit_fails(
    own_installation: Installation, committing_app: TestApp
) -> None:
    at_commit(own_installation, break_reference)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=500)
    assert own_installation.stored_keys() == []
    assert own_installation.rows(ImageRow) == own_installation.rows(ClaimRow) == 0


def test_rows_of_a_failed_commit_are_not_committed_by_the_next_request(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 4: SQLite holds the transaction of a failed COMMIT open, on a connection that goes back to the pool."""
    with busy_at_commit(own_installation):
        committing_app.post("/v1/images", headers=meta(id="lost"), status=503)
    reserve(committing_app, id="f17")
    with other_program(own_installation) as database:
        assert database.execute("SELECT id FROM images").fetchall() == [("f17",)]


@sql_catalogue_only
def test_a_failed_commit_leaves_no_lock_behind(own_installation: Installation, committing_app: TestApp) -> None:
    """Trap 4: the transaction that stayed open would hold SQLite's only write lock."""
    at_commit(own_installation, break_reference)
    committing_app.post("/v1/images", headers=meta(name="lost"), status=500)
    with other_program(own_installation) as database:
        database.execute("PRAGMA busy_timeout = 0")
        database.execute("BEGIN IMMEDIATE")


@sql_catalogue_only
def test_blob_and_claim_stay_when_the_answer_to_the_commit_is_lost(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 5: the row is there, so its bytes must be."""
    at_commit(own_installation, lose_the_answer)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(id="f17"), status=503)
    assert committing_app.get("/v1/images/f17").body == b"bytes"


@sql_catalogue_only
def test_bytes_of_a_commit_in_doubt_survive_the_scrub_if_the_row_is_there(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 5: the scrub that finds the claim expired looks for the row first."""
    path = reserve(committing_app)
    at_commit(own_installation, lose_the_answer)
    with other_program(own_installation) as database:  # the claim, as if a backup had brought it back
        on_the_way: list[Any] = []
        hinder(own_installation).before["finish"] = lambda: on_the_way.extend(database.execute("SELECT * FROM claims"))
        committing_app.put(path, b"bytes", headers=data_headers(), status=503)
        (claim,) = on_the_way
        database.execute(f"INSERT INTO claims VALUES ({', '.join('?' * len(claim))})", claim)
    expire_claims(own_installation, GRACE * 2)
    assert len(own_installation.scrub(GRACE)) == 1
    assert committing_app.get(path).body == b"bytes"
    assert own_installation.rows(ClaimRow) == 0


@sql_catalogue_only
def test_bytes_of_a_commit_in_doubt_wait_for_the_scrub_if_there_is_no_row(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 5: nobody knows, so blob and claim stay; the lease tells the scrub when to look."""
    path = reserve(committing_app)
    at_commit(own_installation, lose_the_question)
    committing_app.put(path, b"bytes", headers=data_headers(), status=503)
    assert len(own_installation.stored_keys()) == own_installation.rows(ClaimRow) == 1
    committing_app.put(path, b"bytes", headers=data_headers(), status=409)
    expire_claims(own_installation, GRACE * 2)
    assert len(own_installation.scrub(GRACE)) == 1
    assert own_installation.stored_keys() == []
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)


@sql_catalogue_only
def test_the_claim_of_a_commit_in_doubt_is_not_renewed(own_installation: Installation, committing_app: TestApp) -> None:
    """Trap 5: else its lease would never end."""
    at_commit(own_installation, lose_the_question)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    assert_no_heartbeat()


def test_database_that_is_full_at_commit_leaves_nothing(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 5: SQLite's own errors are known to mean "not committed", so that the next try works at once."""
    path = reserve(committing_app)
    at_commit(own_installation, fill_database)
    committing_app.put(path, b"bytes", headers=data_headers(), status=507)
    assert own_installation.stored_keys() == []
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)


def test_database_that_is_busy_at_commit_leaves_nothing(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """Trap 5: without WAL, a reader keeps SQLite from committing."""
    path = reserve(committing_app)
    with busy_at_commit(own_installation):
        committing_app.put(path, b"bytes", headers=data_headers(), status=503)
    assert own_installation.stored_keys() == []
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)


@pytest.mark.parametrize("body", [b"", b"bytes"])
def test_every_kind_of_write_is_committed(own_installation: Installation, committing_app: TestApp, body: bytes) -> None:
    """Trap 6: a write that does not mark the session changed is rolled back in silence, while its blob stays."""
    headers = data_headers if body else meta
    path = committing_app.post("/v1/images", body, headers=headers(name="a"), status=201).headers["Location"]
    with other_program(own_installation) as database:
        assert database.execute("SELECT name FROM images").fetchall() == [("a",)]
        committing_app.put(path, headers=meta(name="b"), status=200)
        assert database.execute("SELECT name FROM images").fetchall() == [("b",)]
        committing_app.put(path, headers=meta(properties={"os": "x"}), status=200)
        assert database.execute("SELECT value FROM image_properties").fetchall() == [("x",)]
        committing_app.delete(path, status=200)
        assert database.execute("SELECT status FROM images").fetchall() == [("deleted",)]


def test_data_of_a_queued_image_are_committed(own_installation: Installation, committing_app: TestApp) -> None:
    """Trap 6."""
    path = reserve(committing_app)
    committing_app.put(path, b"bytes", headers=data_headers(), status=200)
    with other_program(own_installation) as database:
        assert database.execute("SELECT status, size FROM images").fetchall() == [("active", 5)]
        assert database.execute("SELECT state FROM image_locations").fetchall() == [("active",)]
        assert database.execute("SELECT key FROM claims").fetchall() == []
