"""Reading from a place on the network, which may break off: what is missing is asked for once more."""

import contextlib
import errno
import io
import logging
from collections.abc import Callable
from typing import Protocol

from ..errors import StoreError

log = logging.getLogger(__name__)

TRIES = 3  # to open it again, until a byte comes


class Stream(Protocol):
    """What is left of a blob, as it comes."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none are the end."""

    def close(self) -> None:
        """Give the connection up."""


class ResumingReader(io.RawIOBase):
    """A blob from ``start`` to ``stop``, read in order; one that ends early is an error, never an end.

    open_at: opens what lies from an offset on, up to ``stop``, and looks whether it is still the same blob; raises
    StoreError, OSError or one of ``broken``. Called once by the constructor, which lets its errors through.
    broken: what a stream raises when it breaks off. name: what log lines call the blob.
    """

    def __init__(
        self,
        open_at: Callable[[int], Stream],
        start: int,
        stop: int,
        *,
        broken: tuple[type[Exception], ...],
        name: str,
    ) -> None:
        super().__init__()
        self._open_at, self._at, self._stop = open_at, start, stop
        self._broken: tuple[type[Exception], ...] = (*broken, OSError, StoreError)
        self.name = name
        self._stream: Stream | None = open_at(start)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read as much as is there. Raises OSError where the bytes end early, or break off and cannot be had again."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes, and none at the end only. Raises OSError, see ``readinto``."""
        if size < 0:
            return b"".join(iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b""))
        wanted = min(size, self._stop - self._at)
        if not wanted:
            return b""
        reason: Exception | None = None
        for _ in range(TRIES + 1):
            try:
                if self._stream is None:
                    self._stream = self._open_at(self._at)
                if data := self._stream.read(wanted):
                    self._at += len(data)
                    return data
                reason = None
            except self._broken as error:
                reason = error
            self._give_up()
            # Not what the error says, for it may quote what we sent.
            why = type(reason).__name__ if reason else "it ended"
            log.info("%s broke off at byte %d of %d: %s", self.name, self._at, self._stop, why)
        raise OSError(errno.EIO, f"stored bytes end early, at {self._at} of {self._stop}", self.name) from reason

    def close(self) -> None:
        """Give the connection up."""
        self._give_up()
        super().close()

    def _give_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(*self._broken):
                stream.close()
