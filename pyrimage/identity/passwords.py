"""Logging in with name and password."""

import contextlib
import hmac
import json
import os
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from ..errors import TooManyAttempts, Unauthenticated
from .attempts import Attempts, Window, source_of
from .hashes import is_usable, verify
from .user_files import User, UserFiles

CHALLENGE = 'Basic realm="pyrimage", charset="UTF-8", Bearer realm="pyrimage"'

REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 4096
# Half of the threads that a server has if nobody says otherwise: the other half answers those who are logged in.
MAX_VERIFYING = 4
MAX_WAITING = 3  # until the same login has been verified for another request: with those above, a thread is left
WAITING_SECONDS = 5.0

# What the passwords of unknown users are compared with where there is no user at all.
_DECOY = "$2b$12$uAVrQr4cNBoqIifBalv1cOLkS2JOkBsUrIh3759BCWzbxiSV8fYQu"


class Passwords:
    """Verifies names and passwords against the files of users, which takes a core for 0.2 s, and so not for everybody.

    What came of it is remembered for a minute, for the same password from the same source: a right login need not wait
    again, and a wrong one costs nothing again. A hash that changes counts at once. As many are verified at the same
    time as there are cores but one, by threads that let others compute first; a few more wait, and who would wait
    longer is told to come again.

    Ten logins of a source may fail in a minute; then none is verified, not even a right one, for that would tell who
    guesses that he is right. Logins that are remembered go on, or one script with an old password would keep out
    everybody at its address. But not after a hundred attempts in that minute, for somebody there might be guessing
    what is remembered. Source: docs/users.md, "Failed logins".
    """

    def __init__(self, files: UserFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files, self._attempts = files, Attempts(clock)
        self._key, self._remembered = secrets.token_bytes(32), _Remembered(clock)
        cores = len(os.sched_getaffinity(0))
        self._places, self._waiting = threading.Semaphore(MAX_VERIFYING), threading.Semaphore(MAX_WAITING)
        self._right: OrderedDict[bytes, None] = OrderedDict()  # logins that were right once, the latest last
        most = max(1, min(cores - 1, MAX_VERIFYING))
        give_way = _give_way if sys.platform == "linux" else None  # elsewhere, threads have their process' priority
        self._verifying = ThreadPoolExecutor(most, "verify", give_way)  # its threads start when they are needed

    def check(self, name: str, password: str, address: str) -> User:
        """Return the user of a name and its password. address: that of the client.

        Raises Unauthenticated; TooManyAttempts where too many from this address were wrong of late, and where too many
        are verified at this moment.
        """
        if not is_usable(password):
            raise _wrong()
        user, hashed, source = self._files.find(name), self._files.find_hash(name), source_of(address)
        key = self._digest(name, password, source, hashed or "")
        hashed = hashed or self._decoy(name)
        answer, is_first = self._remembered.find(key)
        window = self._find_out(answer, key, source, password, hashed) if is_first else None
        is_right = answer.result() if answer.done() else self._wait(answer, key)
        if user is None or not is_right:
            if window is None:
                self._attempts.add(source)
            raise _wrong()
        if window is None:
            self._attempts.check_flood(source)
        else:
            self._attempts.take_back(window)
            self._right[key] = None
            self._right.move_to_end(key)
            if len(self._right) > MAX_REMEMBERED:
                self._right.popitem(last=False)
        return user

    def _find_out(self, answer: "Future[bool]", key: bytes, source: str, password: str, hashed: str) -> Window:
        """Give the answer to a login; return where it is counted. Raises TooManyAttempts if it is not looked at."""
        try:
            window = self._attempts.add(source)
            try:
                answer.set_result(self._verify(password, hashed))
            except TooManyAttempts:
                self._attempts.take_back(window)
                raise
        except BaseException as error:  # for those that wait for the answer
            self._remembered.forget(key)
            answer.set_exception(error if isinstance(error, TooManyAttempts) else _busy())
            raise
        return window

    def _wait(self, answer: "Future[bool]", key: bytes) -> bool:
        """Return what another request finds out. Raises TooManyAttempts.

        Waiting holds a thread as well. Who has logged in so before may do that with as many requests as he likes.
        """
        if key in self._right:
            return answer.result()
        with _taken(self._waiting):
            return answer.result()

    def _digest(self, *words: str) -> bytes:
        """Return what a login is remembered by, which tells nobody the password."""
        return hmac.digest(self._key, json.dumps(words).encode(), "sha256")

    def _decoy(self, name: str) -> str:
        """Return the hash that the password of an unknown user is compared with: it takes as long as another's."""
        hashes = self._files.hashes()
        if not hashes:
            return _DECOY
        # Always the same for a name, in every process: a name whose time changes would be known to be unknown.
        digest = hmac.digest(hashes[0].encode(), json.dumps(name).encode(), "sha256")
        return hashes[int.from_bytes(digest) % len(hashes)]

    def _verify(self, password: str, hashed: str) -> bool:
        """Verify a password when it is its turn. Raises TooManyAttempts."""
        with _taken(self._places):
            verified = self._verifying.submit(verify, password, hashed)
            try:
                return verified.result(WAITING_SECONDS)
            except FutureTimeoutError:
                if verified.cancel():
                    raise _busy() from None
                return verified.result()


def _give_way() -> None:
    """Let this thread compute when others do not."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


@contextlib.contextmanager
def _taken(places: threading.Semaphore) -> Iterator[None]:
    """Take one of some places while the block runs. Raises TooManyAttempts if none is free."""
    if not places.acquire(blocking=False):
        raise _busy()
    try:
        yield
    finally:
        places.release()


class _Remembered:
    """What came of logins, or will come of those that are under way, each for a minute from its beginning."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._answers: OrderedDict[bytes, tuple[float, Future[bool]]] = OrderedDict()  # in the order in which they end

    def find(self, key: bytes) -> tuple[Future[bool], bool]:
        """Return the answer, and whether it is a new one, which the caller has to find out."""
        with self._lock:
            now = self._clock()
            while self._answers and next(iter(self._answers.values()))[0] <= now:
                self._answers.popitem(last=False)
            if key in self._answers:
                return self._answers[key][1], False
            if len(self._answers) >= MAX_REMEMBERED:
                self._answers.popitem(last=False)
            answer: Future[bool] = Future()
            self._answers[key] = now + REMEMBERED_SECONDS, answer
            return answer, True

    def forget(self, key: bytes) -> None:
        """Forget an answer that nobody could find out."""
        with self._lock:
            self._answers.pop(key, None)


def _wrong() -> Unauthenticated:
    return Unauthenticated("The name or the password is wrong.", CHALLENGE)


def _busy() -> TooManyAttempts:
    return TooManyAttempts("Many logins are looked at just now; come again in a second.", 1)
