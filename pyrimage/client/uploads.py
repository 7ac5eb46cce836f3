"""The body of an upload: hashed once, while it is sent, and never ended as if it were complete when it is not."""

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Self

from .digests import Digests
from .errors import HashMismatch
from .transport import Answer, Transport

READ = 1 << 20  # bytes that are read from a file at once

Progress = Callable[[int, int | None], object]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]


class _Failed(Exception):
    """What gives the bytes has failed. The network has its own errors, and this must not be taken for one of them."""


class Upload:
    """Bytes to send: from a path, a file from where it stands, or an iterator; once.

    size: how many there are, None if nobody knows. expected: the sha256 that they must have, if anybody has said so.
    progress: called with the bytes sent and the size; what it raises ends the upload. md5: whether to compute it, too.
    """

    def __init__(
        self,
        source: Source,
        size: int | None = None,
        expected: str | None = None,
        progress: Progress | None = None,
        *,
        md5: bool = True,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._source, found = self._open(source)
        if size is not None and found is not None and size != found:
            self._stack.close()
            raise ValueError(f"The size is {found} bytes, not {size}.")
        self.size = found if size is None else size
        self.digests, self._expected, self._progress = Digests(md5=md5), expected, progress
        self._stack.callback(self.digests.close)
        self.failure: Exception | None = None

    def _open(self, source: Source) -> tuple[Iterable[bytes], int | None]:
        """Return what gives the bytes, and how many there are if that can be found out."""
        if isinstance(source, bytes | bytearray | memoryview):
            return [bytes(source)], len(source)
        file: Any = source
        if isinstance(source, str | os.PathLike):
            file = self._stack.enter_context(open(source, "rb"))  # noqa: PTH123, SIM115 - closed with the stack
        if not hasattr(file, "read"):
            return file, None
        return iter(lambda: file.read(READ), b""), _size_left(file)

    @property
    def headers(self) -> dict[str, str]:
        """What says how long the body is. One of no bytes is sent in chunks: a length of 0 means that there is none."""
        if self.size:
            return {"Content-Length": str(self.size)}
        return {"Transfer-Encoding": "chunked"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[bytes]:
        """Give the bytes."""
        try:
            yield from self._pieces()
        except Exception as error:
            self.failure = error
            raise _Failed from error

    def _pieces(self) -> Iterator[bytes]:
        """Give the bytes. The last piece is held back until it is known that all is as it should be."""
        held, sent = b"", 0
        for piece in self._source:
            if held:
                yield held
                sent += len(held)
                self._report(sent)
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise TypeError(f"An upload is made of bytes, not of {type(piece).__name__}.")
            held = bytes(piece)
            self.digests.update(held)
            if self.size is not None and self.digests.size > self.size:
                raise ValueError(f"There are more than the {self.size} bytes that were announced.")
        self._check()
        yield held
        self._report(self.digests.size)

    def _check(self) -> None:
        """Raise what is wrong with the bytes, now that all are known."""
        if self.size is not None and self.digests.size < self.size:
            raise ValueError(f"There are {self.digests.size} bytes only, of {self.size} that were announced.")
        if self._expected is not None and (found := self.digests.finish()["sha256"]) != self._expected.lower():
            raise HashMismatch(f"The sha256 of the bytes is {found}, not {self._expected}; nothing was uploaded.")

    def _report(self, sent: int) -> None:
        if self._progress is not None:
            self._progress(sent, self.size)


def _size_left(file: IO[bytes]) -> int | None:
    """Return how many bytes follow in a file, None for a pipe."""
    try:
        here = file.tell()
        end = file.seek(0, io.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError, ValueError):
        return None
    return end - here


def send(transport: Transport, method: str, path: str, headers: Mapping[str, str], upload: Upload) -> Answer:
    """Send an upload. Raises what its source raises, Refused, Unreachable, HashMismatch."""
    octets = {"Content-Type": "application/octet-stream"}
    try:
        return transport.call(method, path, {**headers, **octets, **upload.headers}, upload)
    except _Failed:
        if upload.failure is None:
            raise
        raise upload.failure from None
