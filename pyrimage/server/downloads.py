"""Files as answers, which the main loop sends: ``wsgi.file_wrapper``."""

import contextlib
import os
from typing import IO, Any, Protocol

from waitress.buffers import ReadOnlyFileBasedBuffer

BYTES_PER_TURN = 4 * 2**20  # of one file, before the main loop turns to the other connections


class Answer(Protocol):
    """The task whose answer a file is. file_prepared: then the file writes the access line, when it is closed."""

    wrote_header: bool
    file_prepared: bool

    def log_access(self, sent: int, cut: bool) -> None:
        """Write the access line."""


class Download(ReadOnlyFileBasedBuffer):
    """The ``wsgi.file_wrapper``: a file that the main loop sends, so that slow readers hold no worker thread.

    A file with a descriptor is sent by ``os.sendfile``, see ``send_to``.
    """

    promised = 0
    descriptor: int | None = None
    offset = 0  # in the file, of the next byte to send
    turn_left = BYTES_PER_TURN

    def __init__(self, answer: Answer, file: IO[bytes], block_size: int = 32768) -> None:
        super().__init__(file, block_size)
        self.answer = answer

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. Raises EOFError if the file is shorter than Content-Length."""
        ready: int = super().prepare(size)
        if hasattr(self, "seek"):
            if size and ready < size:
                raise EOFError(f"the file has {ready} bytes of {size}")
            with contextlib.suppress(OSError, AttributeError):  # without a descriptor: in memory, for example
                self.descriptor, self.offset = self.file.fileno(), self.file.tell()
        self.promised, self.answer.file_prepared = ready, ready > 0
        return ready

    def get(self, numbytes: int = -1, skip: bool = False) -> Any:
        """Return this object for the channel to send, or without a descriptor the next bytes.

        Raises OSError where the file ends early, which closes the connection: waitress would call again for ever.
        """
        if self.descriptor is not None:
            return self
        data: bytes = super().get(numbytes, skip)
        if not data and self.remain:
            raise self._ended()
        return data

    def send_to(self, receiver: int) -> int:
        """Send to a socket's descriptor; return how many bytes went, 0 to go on in the next turn of the main loop.

        Raises OSError if the connection is closed, or the file ends early.
        """
        if self.turn_left <= 0:
            self.turn_left = BYTES_PER_TURN
            return 0
        try:
            sent = os.sendfile(receiver, self.descriptor or 0, self.offset, min(self.remain, self.turn_left))
        except BlockingIOError:
            self.turn_left = BYTES_PER_TURN
            return 0
        if not sent:
            raise self._ended()
        self.turn_left -= sent
        return sent

    def skip(self, numbytes: int, allow_prune: int = 0) -> None:
        """Advance by the bytes that were sent."""
        if self.descriptor is None:
            super().skip(numbytes, allow_prune)
        else:
            self.offset += numbytes
            self.remain -= numbytes

    def close(self) -> None:
        """Close the file, and write the access line of this download."""
        promised, self.promised = self.promised, 0  # waitress may close twice
        sent = promised - self.remain
        super().close()
        if promised and self.answer.wrote_header:
            self.answer.log_access(sent, cut=sent < promised)

    def _ended(self) -> OSError:
        return OSError(f"the file ended {self.remain} bytes early")
