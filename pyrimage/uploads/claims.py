"""The claims of this process's uploads: begun, kept alive, ended."""

import contextlib
import logging
import threading
from collections import deque
from datetime import timedelta

from ..catalogue.interfaces import Claims
from ..catalogue.records import Claim, Identity
from ..errors import UploadInProgress
from ..stores import Stores
from .scrub import end_expired

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=60)  # for servers whose clocks differ
HEARTBEAT_SECONDS = 20.0


class LiveClaims:
    """The claims of the uploads that this process takes, and the thread that renews their leases.

    The thread is started by an upload and ends with the last one: nothing runs in pshell, or before a fork.
    """

    def __init__(self, claims: Claims, stores: Stores) -> None:
        self.rows, self.stores = claims, stores
        self._live: set[str] = set()
        self._to_end: deque[tuple[Claim, str]] = deque(maxlen=1000)  # ends that the database has not taken yet
        self._lock = threading.Lock()
        self._all_ended = threading.Event()

    def begin(self, claim: Claim, caller: Identity, *, is_new: bool) -> int | None:
        """Record a claim and keep it alive; an expired one on the same image is ended first. See ``Claims.begin``."""
        self._end_all()
        try:
            held = self.rows.begin(claim, caller, is_new=is_new)
        except UploadInProgress:
            expired = self.rows.expired(GRACE, claim.image_id)
            if not any(end_expired(self.stores, self.rows, other, GRACE) for other in expired):
                raise
            held = self.rows.begin(claim, caller, is_new=is_new)
        with self._lock:
            if not self._live:
                self._all_ended = threading.Event()
                threading.Thread(target=self._renew, args=(self._all_ended,), name="heartbeat", daemon=True).start()
            self._live.add(claim.key)
        return held

    def forget(self, claim: Claim) -> None:
        """Stop renewing a claim."""
        with self._lock:
            self._live.discard(claim.key)
            if not self._live:
                self._all_ended.set()

    def end(self, claim: Claim, reason: str) -> None:
        """End the claim of a failed upload; if the database is full or away, before the next one or with its lease."""
        self._to_end.append((claim, reason))
        self._end_all()

    def _renew(self, all_ended: threading.Event) -> None:
        while not all_ended.wait(HEARTBEAT_SECONDS):
            with self._lock:
                keys = sorted(self._live)
            try:
                self.rows.renew(keys)
            except Exception:
                log.warning("leases of %d uploads are not renewed", len(keys), exc_info=True)

    def _end_all(self) -> None:
        while self._to_end:
            with contextlib.suppress(IndexError):  # another thread was quicker
                claim, reason = failed = self._to_end.popleft()
                try:
                    self.rows.end(claim.key, claim.image_id, reason)
                except Exception:
                    text = "image %s: the claim of a failed upload cannot be ended now"
                    log.warning(text, claim.image_id, exc_info=True)
                    self._to_end.append(failed)  # behind the others, should the database refuse this one alone
                    return
