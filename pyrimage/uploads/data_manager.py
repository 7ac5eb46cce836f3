"""What the transaction of an upload, or of a deletion, does with bytes when it ends."""

import logging
import sys

from sqlalchemy.exc import IntegrityError
from transaction import TransactionManager
from transaction.interfaces import IDataManager, ITransaction
from zope.interface import implementer

from ..catalogue.interfaces import Writes
from ..catalogue.records import Claim
from ..errors import DatabaseError, DatabaseRefused, PyrimageError
from ..stores.interfaces import BlobWriter
from .claims import LiveClaims
from .scrub import remove_garbage

log = logging.getLogger(__name__)


@implementer(IDataManager)
class _DataManager:
    """One that votes before zope.sqlalchemy's, whose vote is the real COMMIT and always the last.

    Its methods are called in the order of tpc_begin, commit, tpc_vote, tpc_finish; abort, or tpc_abort after a failure
    in one of these, may come at any time, and more than once.
    """

    def __init__(self, transaction_manager: TransactionManager) -> None:
        self.transaction_manager = transaction_manager
        transaction_manager.get().join(self)

    def sortKey(self) -> str:
        """Sort before ``~sqlalchemy``."""
        return f"pyrimage.uploads:{id(self)}"

    def tpc_begin(self, transaction: ITransaction) -> None:
        """Do nothing."""

    def commit(self, transaction: ITransaction) -> None:
        """Do nothing: bytes are finished before."""

    def tpc_vote(self, transaction: ITransaction) -> None:
        """Agree."""

    def tpc_finish(self, transaction: ITransaction) -> None:
        """Do what the commit allows; nothing here may raise, the rows are committed."""

    def abort(self, transaction: ITransaction) -> None:
        """Do nothing slow: the session, which joined later, still holds the database's locks."""

    def tpc_abort(self, transaction: ITransaction) -> None:
        """Do what a failed commit allows."""


class Upload(_DataManager):
    """One upload: its writer's bytes stay with the commit of their row, and go if there is none.

    The transaction only says which. ``end`` does it, when the transaction is over and no lock of the database is held.
    """

    def __init__(self, transaction_manager: TransactionManager, claims: LiveClaims, claim: Claim) -> None:
        super().__init__(transaction_manager)
        self._claims, self._claim = claims, claim
        self.writer: BlobWriter | None = None  # of what was written so far
        self._is_voted = self._is_kept = False

    def discard(self) -> None:
        """Undo what was written; where that fails, the writer is not forgotten."""
        if self.writer is not None:
            self.writer.discard()
            self.writer = None

    def tpc_vote(self, transaction: ITransaction) -> None:
        """Agree; the COMMIT follows, and from now on it may have happened whatever goes wrong."""
        self._is_voted = True

    def tpc_finish(self, transaction: ITransaction) -> None:
        """Keep the bytes: before anything else can go wrong, the writer is forgotten."""
        self.writer, self._is_kept = None, True

    def tpc_abort(self, transaction: ITransaction) -> None:
        """Keep the bytes if the COMMIT may have happened: a leak can be repaired, a lost image cannot."""
        error = sys.exc_info()[1]  # we are called inside the except block of the failed commit
        if self._is_voted and self.writer and not _is_refusal(error):
            log.error("the outcome of a COMMIT is unknown, these bytes stay: %r", self.writer, exc_info=error)
            self.writer, self._is_kept = None, True

    def end(self, reason: str) -> None:
        """Remove the bytes and end the claim, unless the transaction was committed or may have been.

        If the bytes cannot be removed the claim stays: its key is how the scrubber finds them.
        """
        try:
            self.discard()
        except Exception:
            log.warning("%r stays behind for the scrubber", self.writer, exc_info=True)
        self._claims.forget(self._claim)
        if not self._is_kept and self.writer is None:
            self._claims.end(self._claim, reason)


def _is_refusal(error: BaseException | None) -> bool:
    """Say whether an error of a COMMIT, or of the request that stands for one at a registry, means that there is none.

    Every word of ours means that but for those of a database whose answer was lost.
    """
    is_ours = isinstance(error, PyrimageError) and not isinstance(error, DatabaseError)
    return is_ours or isinstance(error, IntegrityError | DatabaseRefused)


class Removal(_DataManager):
    """Removes the bytes that a transaction gave up, once it is committed."""

    def __init__(self, transaction_manager: TransactionManager, claims: LiveClaims, writes: Writes) -> None:
        super().__init__(transaction_manager)
        self._claims, self._writes = claims, writes

    def tpc_finish(self, transaction: ITransaction) -> None:
        """Remove them one by one; what cannot be removed now is left to the scrubber."""
        for location in self._writes.garbage:
            try:
                remove_garbage(self._claims.stores, self._claims.rows, location)
            except Exception:
                log.warning("%s stays behind for the scrubber", location, exc_info=True)
