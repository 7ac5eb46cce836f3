"""An upload's way from the claim to the commit, and a deletion's way back.

::

    claim (own transaction) -> bytes, staged -> seal -> SQL -> vote: publish -> COMMIT
    row deleted, location garbage -> COMMIT -> bytes removed -> garbage row removed (own transaction)

So a row never names bytes that are not there. Bytes without a row are a leak, and ``scrub`` ends it.
"""

import contextlib
import dataclasses
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import IO

from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy.exc import IntegrityError
from transaction import TransactionManager
from transaction.interfaces import IDataManager, ITransaction
from zope.interface import implementer

from .errors import (
    BlobDamaged,
    DatabaseRefused,
    DataMismatch,
    LimitExceeded,
    NotFound,
    PyrimageError,
    StoreError,
    UploadInProgress,
)
from .images.interfaces import Claims
from .records import EMPTY, Blob, Claim, Image, Location
from .schemas.conditions import Part
from .schemas.headers import header_name
from .schemas.image import DIGESTS, Submission
from .stores import Stores
from .stores.interfaces import BlobWriter
from .stores.transfer import copy

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=60)  # for servers whose clocks differ
HEARTBEAT_SECONDS = 20.0


class Blobs:
    """What one server knows of bytes: its stores, the claims of its uploads, and the thread that renews them.

    The thread is started by an upload and ends with the last one: nothing runs in pshell, or before a fork.
    """

    def __init__(self, stores: Stores, claims: Claims) -> None:
        self.stores, self.claims = stores, claims
        self._live: set[str] = set()
        self._owed: deque[tuple[Claim, str]] = deque(maxlen=1000)  # ends that the database has not taken yet
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def begin(self, claim: Claim, *, is_new: bool) -> int | None:
        """Record a claim and keep it alive; one that is over on the same image is ended first. See ``Claims.begin``."""
        self._pay()
        try:
            held = self.claims.begin(claim, is_new=is_new)
        except UploadInProgress:
            expired = self.claims.expired(GRACE, claim.image_id)
            if not any(self.end_expired(other, GRACE) for other in expired):
                raise
            held = self.claims.begin(claim, is_new=is_new)
        with self._lock:
            if not self._live:
                self._ended = threading.Event()
                threading.Thread(target=self._beat, args=(self._ended,), name="heartbeat", daemon=True).start()
            self._live.add(claim.key)
        return held

    def let_go(self, claim: Claim) -> None:
        """Stop renewing a claim."""
        with self._lock:
            self._live.discard(claim.key)
            if not self._live:
                self._ended.set()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with self._lock:
                keys = sorted(self._live)
            with _logged("leases of %d uploads are not renewed", len(keys)):
                self.claims.renew(keys)

    def end(self, claim: Claim, reason: str) -> None:
        """End the claim of a failed upload; if the database is full or away, before the next one or with its lease."""
        self._owed.append((claim, reason))
        self._pay()

    def _pay(self) -> None:
        while self._owed:
            with contextlib.suppress(IndexError):  # another thread was quicker
                claim, reason = owed = self._owed.popleft()
                try:
                    self.claims.end(claim.key, claim.image_id, reason)
                except Exception:
                    text = "image %s: the claim of a failed upload cannot be ended now"
                    log.warning(text, claim.image_id, exc_info=True)
                    self._owed.append(owed)  # behind the others, should the database refuse this one alone
                    return

    def delete(self, location: Location) -> None:
        """Remove the bytes of a garbage location, then its row."""
        self._remove(location.store, location.key)
        self.claims.forget_garbage(location)

    def _remove(self, store: str, key: str) -> None:
        """Remove bytes. Under a key that the store never makes there are none, whoever wrote it into a row."""
        if self.stores[store].is_key(key):
            self.stores[store].delete(key)
        else:
            log.warning("%a is not a key of the store %s: nothing to remove", key, store)

    def end_expired(self, claim: Claim, grace: timedelta) -> bool:
        """End a claim whose server died, and remove what it left; False if its upload is alive after all.

        Each step may be repeated, also by two at once.
        """
        if not self.claims.seize(claim, grace):
            return False
        if not self.claims.is_located(claim):
            self._remove(claim.store, claim.key)
        self.claims.end(claim.key, claim.image_id, "The server stopped during the upload.")
        log.warning("image %s: ended the expired claim of %s", claim.image_id, claim.key)
        return True


class _Meter:
    """What the bytes of one upload must stay within: the cap, and what its claim holds, which grows with them."""

    def __init__(self, claims: Claims, claim: Claim, held: int | None, cap: int | None) -> None:
        self._claims, self._claim, self._held, self._cap = claims, claim, held, cap

    def admit(self, came: int) -> None:
        """Refuse bytes before they are written. Raises LimitExceeded, UploadEnded."""
        if self._cap is not None and came > self._cap:
            raise LimitExceeded(f"More bytes came than the {self._cap} that are accepted (pyrimage.image_size_cap).")
        if self._held is not None and came > self._held:
            self._held = self._claims.reserve(self._claim, came)


def receive(request: Request, submission: Submission) -> Blob | None:
    """Take the body of a POST or PUT into its store, verified and durable but not yet published.

    The rest is the transaction's: it publishes the blob with the COMMIT of its row, or removes it. Returns None if
    no data comes, ``EMPTY`` for an image that is complete without.

    Raises DataMismatch, LimitExceeded, Conflict, StoreError, ClientLeft, ClientTooSlow.
    """
    if submission.is_empty:
        return EMPTY
    if not submission.has_body:
        return None
    image, store = submission.image, request.stores[submission.store]
    claim = Claim(image.id, store.scheme, store.new_key(image.id), image.owner, submission.size)
    request.tm.abort()  # gives back the connection of the context's SELECT: no request ever holds two
    try:
        held = request.blobs.begin(claim, is_new=submission.is_new)
    finally:
        request.tm.begin()
    upload = request.upload = BlobDataManager(request.tm, request.blobs, claim)
    writer = store.open_writer(claim.key, submission.size)
    upload.stage(writer)
    meter = _Meter(request.blobs.claims, claim, held, request.settings.image_size_cap)
    blob = copy(request.body_file_raw, writer, submission.size, meter.admit)
    _verify(submission, blob)
    log.info("image %s: %d bytes came, md5 %s", image.id, blob.size, blob.checksum)
    if blob == EMPTY:  # chunked, and there was no chunk
        upload.discard()
        return dataclasses.replace(blob, claim=claim.key)
    writer.seal()
    return dataclasses.replace(blob, location=Location(store.scheme, claim.key), claim=claim.key)


def _verify(submission: Submission, blob: Blob) -> None:
    problems = [
        f"{submission.announced_by.get(name) or header_name(name)}: {announced} was announced, "
        f"but the data's is {getattr(blob, name)}."
        for name in DIGESTS
        if (announced := getattr(submission.image, name)) is not None and announced != getattr(blob, name)
    ]
    if problems:
        raise DataMismatch(*problems)


def open_reader(request: Request, image: Image, part: Part | None) -> IO[bytes] | None:
    """Open the bytes of an active image, or a part of them; None for one that has none.

    Raises BlobDamaged, StoreUnavailable, and NotFound if the image was deleted since it was found.
    """
    location = image.location
    if location is None:
        if image.size:
            raise BlobDamaged(f"Image {image.id} has lost its location.")
        return None
    try:
        where = (part.offset, part.length) if part else ()
        return request.stores[location.store].open_reader(location.key, image.size, *where)
    except BlobDamaged as error:
        now = request.images.find(image.id, request.identity)
        if now is None or now.deleted:
            raise NotFound(f"Image {image.id} was deleted.") from error
        raise


def delete_after_commit(request: Request, locations: Sequence[Location]) -> None:
    """Remove these blobs once the transaction that gave them up is committed."""
    if locations:
        BlobDataManager(request.tm, request.blobs).garbage += locations


@implementer(IDataManager)
class BlobDataManager:
    """Publish blobs while the transaction votes; take them back if it fails.

    Sorted before zope.sqlalchemy's manager, whose vote is the real COMMIT and always the last.
    """

    def __init__(self, transaction_manager: TransactionManager, blobs: Blobs, claim: Claim | None = None) -> None:
        self.transaction_manager = transaction_manager
        self.garbage: list[Location] = []
        self._blobs, self._claim = blobs, claim
        self._staged: list[BlobWriter] = []
        self._all_published = self._is_over = False
        transaction_manager.get().join(self)

    def stage(self, writer: BlobWriter) -> None:
        """Publish this writer's blob with the commit, or discard it."""
        self._staged.append(writer)

    def discard(self) -> None:
        """Undo every staged blob; one that cannot be undone is not forgotten."""
        for writer in list(self._staged):
            writer.discard()
            self._staged.remove(writer)

    def release(self, reason: str) -> None:
        """End the claim, once the transaction is over: a commit has done so already, after one in doubt it stays.

        It stays as well if bytes do: its key is how the scrubber finds them.
        """
        if self._claim is None:
            return
        self._blobs.let_go(self._claim)
        if not self._is_over and not self._staged:
            self._blobs.end(self._claim, reason)

    def sortKey(self) -> str:
        """Sort before ``~sqlalchemy``."""
        return f"pyrimage.blobs:{id(self)}"

    def tpc_begin(self, transaction: ITransaction) -> None:
        """Do nothing."""

    def commit(self, transaction: ITransaction) -> None:
        """Do nothing: everything was staged before."""

    def tpc_vote(self, transaction: ITransaction) -> None:
        """Publish; the COMMIT follows."""
        for writer in self._staged:
            writer.publish()
        self._all_published = bool(self._staged)

    def tpc_finish(self, transaction: ITransaction) -> None:
        """Forget the writers, then remove the garbage; nothing here may raise, the rows are committed."""
        garbage, self.garbage, self._staged, self._is_over = self.garbage, [], [], True
        for location in garbage:
            with _logged("%s stays behind for the scrubber", location):
                self._blobs.delete(location)

    def abort(self, transaction: ITransaction) -> None:
        """Discard. Called beside ``tpc_abort`` when our own vote fails, and after commits that have hooks."""
        self.garbage = []
        with _logged("%r stay behind for the scrubber", self._staged):
            self.discard()

    def tpc_abort(self, transaction: ITransaction) -> None:
        """Take the blobs back, unless the COMMIT may have worked: a leak can be repaired, a lost blob cannot."""
        error = sys.exc_info()[1]  # we are called inside the except block of the failed commit
        if self._all_published and not isinstance(error, IntegrityError | DatabaseRefused):
            log.error("the outcome of a COMMIT is unknown, these stay: %r", self._staged, exc_info=error)
            self._staged, self._is_over = [], True
        self.abort(transaction)


def claims_tween_factory(handler: Callable[[Request], Response], registry: Registry) -> Callable[[Request], Response]:
    """Release the claim of an upload when its transaction is over.

    A tween over pyramid_tm: within the transaction, a flushed session still holds SQLite's write lock.
    """

    def claims_tween(request: Request) -> Response:
        try:
            return handler(request)
        finally:
            if request.upload is not None:
                error = request.exception  # what strangers' errors say of themselves is for the log
                request.upload.release(str(error) if isinstance(error, PyrimageError) else "The upload failed.")

    return claims_tween


def scrub(blobs: Blobs, grace: timedelta, *, dry_run: bool) -> Iterator[tuple[str, StoreError | None]]:
    """End expired claims and remove garbage. Safe beside running servers and itself.

    Gives what was cleaned up, one by one, and the error where a store did not let us; the next run tries again.
    """
    for claim in blobs.claims.expired(grace):
        what = f"claim of image {claim.image_id}: {claim.store} {claim.key}"
        try:
            if dry_run or blobs.end_expired(claim, grace):
                yield what, None
        except StoreError as error:
            yield what, error
    for location in blobs.claims.garbage():
        what = f"garbage: {location.store} {location.key}"
        try:
            if not dry_run:
                blobs.delete(location)
            yield what, None
        except StoreError as error:
            yield what, error


@contextlib.contextmanager
def _logged(message: str, *args: object) -> Iterator[None]:
    """Go on after an error: where something must be undone or finished, what failed is logged and left."""
    try:
        yield
    except Exception:
        log.warning(message, *args, exc_info=True)
