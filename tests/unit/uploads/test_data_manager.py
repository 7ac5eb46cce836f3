"""What no request shows: what the transaction's calls, in any order, do with the bytes of an upload."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from transaction import TransactionManager
from transaction.interfaces import IDataManager
from zope.interface.verify import verifyObject

from blob import make_store
from conftest import Installation
from factories import ADMIN, files_below
from pyrimage.catalogue.records import Claim
from pyrimage.errors import DatabaseAway, DatabaseError, DatabaseFull
from pyrimage.models import ClaimRow
from pyrimage.stores import Stores
from pyrimage.uploads.claims import LiveClaims
from pyrimage.uploads.data_manager import Upload

KEY = "f17.0123456789abcdef"
CLAIM = Claim("f17", "file", KEY, None, 5)
FILE = f"blobs/ef/{KEY}"


@pytest.fixture
def claims(installation: Installation, tmp_path: Path) -> LiveClaims:
    return LiveClaims(installation.catalogue.claims, Stores({"file": make_store(tmp_path)}))


@pytest.fixture
def upload(claims: LiveClaims) -> Upload:
    """An upload whose bytes are finished."""
    transactions = TransactionManager(explicit=True)
    transactions.begin()
    made = Upload(transactions, claims, CLAIM)
    writer = made.writer = claims.stores.writable("file").open_writer(KEY, 5)
    writer.write(b"bytes")
    writer.finish()
    return made


def vote(upload: Upload) -> None:
    for step in (upload.tpc_begin, upload.commit, upload.tpc_vote):
        step(upload.transaction_manager.get())


def abort_after(upload: Upload, error: Exception) -> None:
    """Call what ``transaction`` calls, in the way it does, when a commit failed in the last vote."""
    try:
        raise error
    except type(error):
        upload.tpc_abort(upload.transaction_manager.get())


def test_it_is_a_data_manager_that_votes_before_the_database_commits(upload: Upload) -> None:
    assert verifyObject(IDataManager, upload)
    assert upload.sortKey() < "~sqlalchemy:0"


def test_an_abort_only_marks_and_the_end_removes(upload: Upload, tmp_path: Path) -> None:
    """Trap 13: while the transaction is being aborted, the session still holds SQLite's write lock."""
    upload.abort(None)
    assert files_below(tmp_path) == [FILE]
    upload.end("why")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("error", [IntegrityError("COMMIT", {}, Exception()), DatabaseFull("full")])
def test_bytes_go_if_nothing_was_committed(upload: Upload, tmp_path: Path, error: Exception) -> None:
    vote(upload)
    abort_after(upload, error)
    upload.end("why")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("error", [DatabaseAway("away"), DatabaseError("40003"), TimeoutError(), AssertionError()])
def test_bytes_stay_if_nobody_knows(
    upload: Upload, tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 5."""
    vote(upload)
    abort_after(upload, error)
    upload.abort(None)
    upload.end("why")
    assert files_below(tmp_path) == [FILE]
    assert [(record.levelno, KEY in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]


def test_bytes_go_whatever_the_error_before_the_vote(upload: Upload, tmp_path: Path) -> None:
    """There is doubt only once everybody else has voted: until then no COMMIT can have been sent."""
    abort_after(upload, DatabaseAway("away"))
    upload.end("why")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("after", [lambda upload: upload.abort(None), lambda upload: upload.tpc_abort(None)])
def test_nothing_is_undone_after_the_commit(upload: Upload, tmp_path: Path, after: Callable[[Upload], None]) -> None:
    """Traps 1 and 2."""
    vote(upload)
    upload.tpc_finish(None)
    after(upload)
    upload.end("why")
    assert files_below(tmp_path) == [FILE]


def test_aborts_may_come_in_any_number(upload: Upload, tmp_path: Path) -> None:
    """Trap 3."""
    for undo in (upload.abort, upload.tpc_abort, upload.abort, upload.tpc_abort):
        undo(None)
    upload.end("why")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("is_committed", [True, False])
def test_the_end_ends_the_claim_unless_the_commit_did(
    claims: LiveClaims, upload: Upload, installation: Installation, is_committed: bool
) -> None:
    claims.begin(CLAIM, ADMIN, is_new=True)
    if is_committed:  # it would have deleted the claim's row, which here shows that nobody else does
        upload.tpc_finish(None)
    upload.end("why")
    assert installation.rows(ClaimRow) == is_committed
