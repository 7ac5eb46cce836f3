"""The rules of an upload that no request shows: what a data manager does at each of its moments."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from transaction import TransactionManager
from transaction.interfaces import IDataManager
from zope.interface.verify import verifyObject

from blob import make_store
from conftest import Installation
from factories import files_below
from pyrimage.blobs import BlobDataManager, Blobs, delete_after_commit
from pyrimage.errors import DatabaseAway, DatabaseError, DatabaseFull
from pyrimage.images.claims import LocalClaims
from pyrimage.models import ClaimRow
from pyrimage.records import Claim, Location
from pyrimage.stores import Stores
from pyrimage.stores.file import FileStore

KEY = "f17.0123456789abcdef"
CLAIM = Claim("f17", "file", KEY, None, 5)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return make_store(tmp_path)


@pytest.fixture
def blobs(installation: Installation, store: FileStore) -> Blobs:
    return Blobs(Stores({"file": store}), LocalClaims(installation.engine, installation.settings))


@pytest.fixture
def manager(blobs: Blobs) -> BlobDataManager:
    """A manager with one sealed blob."""
    transactions = TransactionManager(explicit=True)
    transactions.begin()
    made = BlobDataManager(transactions, blobs, CLAIM)
    writer = blobs.stores["file"].open_writer(KEY, 5)
    writer.write(b"bytes")
    writer.seal()
    made.stage(writer)
    return made


def vote(manager: BlobDataManager) -> None:
    for step in (manager.tpc_begin, manager.commit, manager.tpc_vote):
        step(manager.transaction_manager.get())


def abort_after(manager: BlobDataManager, error: Exception) -> None:
    """Call what ``transaction`` calls, in the way it does, when a commit failed in the last vote."""
    try:
        raise error
    except type(error):
        manager.tpc_abort(manager.transaction_manager.get())


def test_it_is_a_data_manager(manager: BlobDataManager) -> None:
    assert verifyObject(IDataManager, manager)


def test_it_votes_before_the_database_commits(manager: BlobDataManager) -> None:
    assert manager.sortKey() < "~sqlalchemy:0"


def test_nothing_is_published_before_the_vote(manager: BlobDataManager, tmp_path: Path) -> None:
    assert files_below(tmp_path) == [f"staging/{KEY}"]
    vote(manager)
    assert files_below(tmp_path) == [f"blobs/ef/{KEY}"]


@pytest.mark.parametrize("error", [IntegrityError("COMMIT", {}, Exception()), DatabaseFull("full")])
def test_published_blob_is_taken_back_if_nothing_was_committed(
    manager: BlobDataManager, tmp_path: Path, error: Exception
) -> None:
    vote(manager)
    abort_after(manager, error)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("error", [DatabaseAway("away"), DatabaseError("40003"), TimeoutError(), AssertionError()])
def test_published_blob_stays_if_nobody_knows(
    manager: BlobDataManager, tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 5."""
    vote(manager)
    abort_after(manager, error)
    manager.abort(None)
    assert files_below(tmp_path) == [f"blobs/ef/{KEY}"]
    assert [(record.levelno, KEY in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]


def test_staged_blob_goes_whatever_the_error_before_the_vote(manager: BlobDataManager, tmp_path: Path) -> None:
    """There is doubt only once everything is published: until then no COMMIT can have been sent."""
    abort_after(manager, DatabaseAway("away"))
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("after", [lambda manager: manager.abort(None), lambda manager: manager.tpc_abort(None)])
def test_nothing_is_undone_after_the_end(
    manager: BlobDataManager, tmp_path: Path, after: Callable[[BlobDataManager], None]
) -> None:
    """Traps 1 and 2."""
    vote(manager)
    manager.tpc_finish(None)
    after(manager)
    assert files_below(tmp_path) == [f"blobs/ef/{KEY}"]


def test_aborts_may_come_in_any_number(manager: BlobDataManager, tmp_path: Path) -> None:
    """Trap 3."""
    for undo in (manager.abort, manager.tpc_abort, manager.abort, manager.tpc_abort):
        undo(None)
    assert files_below(tmp_path) == []


def test_garbage_is_removed_once_and_not_after_an_abort(blobs: Blobs, tmp_path: Path, manager: BlobDataManager) -> None:
    vote(manager)
    deletion = BlobDataManager(manager.transaction_manager, blobs)
    deletion.garbage.append(Location("file", KEY))
    deletion.abort(None)
    deletion.tpc_finish(None)
    assert files_below(tmp_path) == [f"blobs/ef/{KEY}"]
    deletion.garbage.append(Location("file", KEY))
    deletion.tpc_finish(None)
    assert files_below(tmp_path) == []


def test_garbage_of_a_store_that_is_no_more_does_not_fail_the_end(
    blobs: Blobs, manager: BlobDataManager, tmp_path: Path
) -> None:
    """Trap 1."""
    vote(manager)
    manager.garbage += [Location("swift", "x"), Location("file", KEY)]
    manager.tpc_finish(None)
    assert files_below(tmp_path) == []


def test_nothing_joins_a_transaction_that_gives_nothing_up() -> None:
    delete_after_commit(None, [])


def test_release_ends_the_claim_of_a_failed_upload(
    blobs: Blobs, manager: BlobDataManager, installation: Installation
) -> None:
    blobs.begin(CLAIM, is_new=True)
    manager.abort(None)
    manager.release("why")
    assert installation.rows(ClaimRow) == 0


@pytest.mark.parametrize("end", [lambda manager: manager.tpc_finish(None), lambda manager: None])
def test_release_leaves_a_claim_that_is_ended_otherwise(
    blobs: Blobs, manager: BlobDataManager, installation: Installation, end: Callable[[BlobDataManager], None]
) -> None:
    """By the commit; or, of a transaction that nobody ended, by the scrubber, for the bytes are still there."""
    blobs.begin(CLAIM, is_new=True)
    end(manager)
    manager.release("why")
    assert installation.rows(ClaimRow) == 1


def test_release_without_a_claim_does_nothing(blobs: Blobs, manager: BlobDataManager) -> None:
    BlobDataManager(manager.transaction_manager, blobs).release("why")


def test_claim_that_cannot_be_ended_is_ended_before_the_next_one_begins(
    blobs: Blobs, manager: BlobDataManager, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    blobs.begin(CLAIM, is_new=True)
    manager.abort(None)
    with installation.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE claims RENAME TO gone")
    try:
        manager.release("why")
    finally:
        with installation.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO claims")
    assert "image f17: the claim of a failed upload cannot be ended now" in caplog.text
    assert installation.rows(ClaimRow) == 1
    blobs.begin(Claim("other", "file", "other.0123456789abcdef", None, 5), is_new=True)
    assert installation.rows(ClaimRow) == 1
    blobs.let_go(Claim("other", "file", "other.0123456789abcdef", None, 5))


def test_claim_that_can_never_be_ended_does_not_keep_others(blobs: Blobs, own_installation: Installation) -> None:
    blobs.claims = LocalClaims(own_installation.engine, own_installation.settings)
    with own_installation.engine.begin() as connection:
        refuse = f"BEFORE DELETE ON claims WHEN old.key = '{KEY}' BEGIN SELECT raise(ABORT, 'refused'); END"
        connection.exec_driver_sql(f"CREATE TRIGGER refuse {refuse}")
    other = Claim("f18", "file", "other", None, 5)
    for claim in (CLAIM, other):
        blobs.begin(claim, is_new=True)
        blobs.let_go(claim)
    blobs.end(CLAIM, "why")
    blobs.end(other, "why")  # tries the first one again
    blobs.end(other, "why")
    assert own_installation.rows(ClaimRow) == 1


def test_no_thread_runs_without_an_upload(blobs: Blobs) -> None:
    before = set(threading.enumerate())
    blobs.let_go(CLAIM)
    assert set(threading.enumerate()) == before
