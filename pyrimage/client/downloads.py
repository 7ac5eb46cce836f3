"""The bytes of an image: asked for again where a connection broke, and verified.

One connection gives them from the first to the last. Several give parts of PART bytes at once, which are put in order
here; those that wait for their turn are in memory.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Self

from .digests import Digests
from .errors import BadAnswer, ClientError, ConnectionLost, HashMismatch, NotTrusted, Unavailable, Unreachable
from .records import Image
from .transport import Stream, Transport

PART = 8 << 20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between attempts
CHECK_SECONDS = 0.5  # after which somebody who waits for a part looks whether to go on

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")

Check = Callable[[], object]  # called while nothing comes; what it raises ends the download


class _Attempts:
    """How long to try again: until no byte has come for so many seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.succeeded()

    def succeeded(self) -> None:
        """Note that bytes came."""
        self._next, self._since = FIRST_PAUSE, time.monotonic()

    def pause(self, error: ClientError) -> float:
        """Return for how many seconds to wait. Raises the error when it is time to give up."""
        pause = self._next
        if isinstance(error, NotTrusted) or time.monotonic() - self._since + pause > self._patience:
            raise error
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class Reader:
    """Reads an image's bytes. patience: seconds without a byte after which it gives up."""

    def __init__(self, transport: Transport, path: str, image: Image, patience: float) -> None:
        self._transport, self._path, self._image, self._patience = transport, path, image, patience
        self._is_over, self._streams = threading.Event(), set[Stream]()

    def open(self) -> Stream:
        """Ask for all of it. Raises Refused, Unreachable, BadAnswer."""
        return self._transport.stream(self._path, {})

    def pieces(
        self, start: int, stop: int, first: Stream | None = None, check: Check | None = None
    ) -> Generator[bytes]:
        """Yield the bytes from one place to another. first: an answer that is there already.

        Raises Refused, Unreachable, BadAnswer, HashMismatch, and what the check raises.
        """
        attempts, stream = _Attempts(self._patience), first
        while start < stop:
            try:
                stream = stream or self._ask(start, stop)
                self._streams.add(stream)
                if self._is_over.is_set():
                    raise ConnectionLost("The download has ended.")
                for piece in self._wanted(stream, start, stop):
                    start += len(piece)
                    attempts.succeeded()
                    yield piece
            except (Unreachable, Unavailable) as error:
                if check is not None:
                    check()
                if self._is_over.wait(attempts.pause(error)):
                    raise
            finally:
                if stream is not None:
                    stream.close()
                    self._streams.discard(stream)
                    stream = None

    def stop(self) -> None:
        """Let other threads, which wait for bytes, wait no longer."""
        self._is_over.set()
        for stream in list(self._streams):
            stream.stop()

    def _ask(self, start: int, stop: int) -> Stream:
        if (start, stop) == (0, self._image.size):
            return self.open()
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self._image.checksum:
            headers["If-Range"] = f'"{self._image.checksum}"'
        return self._transport.stream(self._path, headers)

    def _wanted(self, stream: Stream, start: int, stop: int) -> Iterator[bytes]:
        """Yield what a stream has of a range. A service that knows no ranges sends all from the beginning again."""
        at = 0
        if stream.status == 206:
            found = _CONTENT_RANGE.fullmatch(stream.final.get("content-range", ""))
            if found is None or (int(found[1]), int(found[3])) != (start, self._image.size):
                raise BadAnswer(f"Bytes {start}-{stop - 1} of {self._image.size} were asked for, and others came.")
            at = start
        self._check_same(stream)
        for piece in stream.pieces():
            wanted = piece[max(start - at, 0) : max(stop - at, 0)]
            at += len(piece)
            if wanted:
                yield wanted
        if at < stop:
            raise ConnectionLost(f"The bytes ended after {at} of {stop}.")

    def _check_same(self, stream: Stream) -> None:
        told, expected = stream.headers.get("x-image-meta-checksum"), self._image.checksum
        if told and expected and told != expected:
            raise HashMismatch(f"Image {self._image.id} has other bytes than it had before.", self._image.id)


def read_parts(reader: Reader, start: int, stop: int, connections: int, check: Check) -> Generator[bytes]:
    """Yield the bytes in order, and fetch the next ones over so many connections meanwhile. Raises as ``pieces``."""

    def fetch(begin: int) -> bytes:
        return b"".join(reader.pieces(begin, min(begin + PART, stop)))

    waiting: deque[Future[bytes]] = deque()
    workers = ThreadPoolExecutor(connections, "pyrimage-download")
    try:
        for begin in range(start, stop, PART):
            waiting.append(workers.submit(fetch, begin))
            if len(waiting) > connections:
                yield _result(waiting.popleft(), check)
        while waiting:
            yield _result(waiting.popleft(), check)
    finally:
        reader.stop()
        workers.shutdown(cancel_futures=True)


def _result(part: Future[bytes], check: Check) -> bytes:
    while not wait([part], CHECK_SECONDS).done:
        check()
    return part.result()


class ImageData:
    """The bytes of an image, as an iterator; they are verified when the last one has come.

    Take them all, or ``close`` it, or use it in a ``with`` statement. Raises Refused, Unreachable, HashMismatch.
    """

    def __init__(self, reader: Reader, image: Image, first: Stream) -> None:
        self._image, self._first, self._digests = image, first, Digests()
        self._pieces = reader.pieces(0, image.size, first)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._digests.check(self._image, "The bytes that came are not those of the image")
            self.close()
            raise
        self._digests.update(piece)
        return piece

    def close(self) -> None:
        """End it, whether all bytes have come or not."""
        self._first.close()
        self._pieces.close()
        self._digests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
