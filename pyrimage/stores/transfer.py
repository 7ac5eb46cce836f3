"""The movement of bytes: from a body into a writer, counted and hashed on the way.

::

    source -> buffer -> writer                       the request's thread
              buffer -> md5 -> sha256 -> free        a thread each, beside it

However long its body is, an upload needs 2 MiB of buffers at most, and a slow one a quarter of that.
"""

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from ..catalogue.records import Blob
from ..errors import ClientLeft, ClientTooSlow, DataMismatch, Invalid, LimitExceeded
from .interfaces import BlobWriter

CHUNK = 256 * 1024  # bytes of one buffer; larger ones do not stay in the processor's cache
BUFFERS = 8  # of one upload, at most

_Queue = SimpleQueue[memoryview | None]  # of data, each in a buffer of its own; None is the end


class Source(Protocol):
    """A body, as WSGI has it. One that has ``readinto1`` too, as buffered readers do, saves a copy."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none are the end."""


def copy(source: Source, writer: BlobWriter, size: int | None, check: Callable[[int], None] | None = None) -> Blob:
    """Write all of ``source``; ``size`` is how many bytes must come, None if nobody said.

    ``check`` is told before each chunk is written how many bytes there are with it; what it raises ends the copy.
    Raises DataMismatch at the first byte that is more than ``size``, or at an end that comes too early, and what
    ``body_errors`` makes of the source's errors.
    """
    body = _Body(source, size)
    with closing(_Ring()) as ring:
        while not body.is_over:
            data = body.fill(ring.buffer())
            if data:
                if check is not None:
                    check(body.came)
                ring.hash(data)
                writer.write(data)
        md5, sha256 = ring.digests()
    if size is not None and body.came != size:
        raise DataMismatch(f"{size} bytes were announced, but {body.came} came.")
    return Blob(body.came, md5, sha256)


@contextmanager
def body_errors(came: Callable[[], str]) -> Iterator[None]:
    """Say in our words what a server's ``wsgi.input`` raises when it is read, and how much of the body had come.

    came: ``"5 bytes"``, ``"5 of 9 bytes"``

    Raises ClientLeft, ClientTooSlow, Invalid, LimitExceeded; other errors of the system pass: they are ours.
    """
    try:
        yield
    except ConnectionError as error:
        raise ClientLeft(f"The client left after {came()}.") from error
    except TimeoutError as error:
        limits = "upload_timeout, upload_min_rate"  # two settings of our server
        raise ClientTooSlow(f"The client was too slow ({limits}): {came()} had come.") from error
    except ValueError as error:
        raise Invalid(f"The body's chunks are malformed; {came()} had come.") from error
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        cap = "The server takes no body that long (max_request_body_size)"
        raise LimitExceeded(f"{cap}; {came()} had come.") from error


class _Body:
    """A body, read into buffers; so far ``came`` bytes did."""

    def __init__(self, source: Source, size: int | None) -> None:
        self.came, self.is_over = 0, False
        self._size = size
        # Piece by piece and not by readinto, so that it is known how many bytes had come before an error.
        self._read: Callable[[memoryview], int] = getattr(source, "readinto1", None) or partial(_read_into, source)

    def fill(self, buffer: memoryview) -> memoryview:
        """Read until the buffer is full or the body over; return what is filled. One byte too many is taken at most."""
        if self._size is not None:
            buffer = buffer[: self._size - self.came + 1]
        filled = 0
        with body_errors(self._progress):
            while filled < len(buffer) and (count := self._read(buffer[filled:])):
                filled += count
                self.came += count
        if self._size is not None and self.came > self._size:
            raise DataMismatch(f"More than the {self._size} bytes that were announced came.")
        self.is_over = filled < len(buffer)
        return buffer[:filled]

    def _progress(self) -> str:
        return f"{self.came} bytes" if self._size is None else f"{self.came} of {self._size} bytes"


def _read_into(source: Source, view: memoryview) -> int:
    data = source.read(len(view))
    view[: len(data)] = data
    return len(data)


class _Ring:
    """The buffers of one copy, and those who hash what is in them.

    A buffer goes from its filler to md5, to sha256 and back; one that is free is used again before another is made.
    What the first one held is hashed by the caller: small bodies need no threads.
    """

    def __init__(self) -> None:
        self._digests = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._queues: tuple[_Queue, ...] = (SimpleQueue(), SimpleQueue(), SimpleQueue())
        self._filled, *_, self._free = self._queues
        self._threads: list[Thread] = []
        self._made = self._away = 0  # buffers: all of them, and those that are not back yet
        self._is_first = True

    def buffer(self) -> memoryview:
        """Return a buffer that nobody uses any more; wait for one when there are enough."""
        if self._made < BUFFERS and self._free.empty():
            self._made += 1
            return memoryview(bytearray(CHUNK))
        return memoryview(self._take_back().obj)

    def hash(self, data: memoryview) -> None:
        """Take over a buffer with data; it may still be read until the next is asked for."""
        self._away += 1
        if self._is_first:
            self._is_first = False
            for digest in self._digests:
                digest.update(data)
            self._free.put(data)
        else:
            if not self._threads:
                self._start()
            self._filled.put(data)

    def digests(self) -> tuple[str, str]:
        """Wait until every buffer is back; return md5 and sha256 in hexadecimal."""
        while self._away:
            self._take_back()
        md5, sha256 = self._digests
        return md5.hexdigest(), sha256.hexdigest()

    def _take_back(self) -> memoryview:
        data = self._free.get()
        if data is None:
            raise RuntimeError("a thread that hashes has failed")  # its error went to threading.excepthook
        self._away -= 1
        return data

    def close(self) -> None:
        """End the threads, whatever happened."""
        self._filled.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        for digest, coming, done in zip(self._digests, self._queues, self._queues[1:], strict=False):
            work = (digest, coming, done)
            # A daemon, as its caller may be: a process that ends while bytes come must not wait for the rest of them.
            thread = Thread(target=_hash, args=work, name=f"{digest.name} of an upload", daemon=True)
            thread.start()
            self._threads.append(thread)


def _hash(digest: "hashlib._Hash", coming: _Queue, done: _Queue) -> None:
    try:
        while (data := coming.get()) is not None:
            digest.update(data)
            done.put(data)
    finally:
        done.put(None)
