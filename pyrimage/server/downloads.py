"""Files as answers, which the main loop sends: those that the kernel reads, and what all kinds have in common."""

import os
from typing import IO, Any, Protocol

from waitress.buffers import ReadOnlyFileBasedBuffer

BYTES_PER_TURN = 4 * 2**20  # of one file, before the main loop turns to the other connections


class Answer(Protocol):
    """The task whose answer a file is. file_prepared: then the file writes the access line, when it is closed."""

    channel: Any
    request: Any
    wrote_header: bool
    file_prepared: bool

    def log_access(self, sent: int, cut: bool) -> None:
        """Write the access line."""

    def log_fields(self) -> dict[str, str | None]:
        """Return what log lines say of the request."""


class Download(ReadOnlyFileBasedBuffer):
    """A file that the main loop sends, so that slow readers hold no worker thread."""

    remain: int  # bytes to send
    promised = 0
    turn_left = BYTES_PER_TURN

    def __init__(self, answer: Answer, file: IO[bytes], block_size: int = 32768) -> None:
        super().__init__(file, block_size)
        self.answer = answer

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. Raises EOFError if the file is shorter than Content-Length."""
        ready: int = super().prepare(size)
        if size and hasattr(self, "seek") and ready < size:
            raise EOFError(f"the file has {ready} bytes of {size}")
        self.promised, self.answer.file_prepared = ready, ready > 0
        return ready

    def get(self, numbytes: int = -1, skip: bool = False) -> Any:
        """Return this object for the channel to send."""
        return self

    def send_to(self, receiver: int) -> int:
        """Send to a socket's descriptor; return how many bytes went, 0 to go on in the next turn of the main loop.

        Raises OSError if the connection is closed, or the file ends early.
        """
        try:
            sent = self._send(receiver, min(self.remain, self.turn_left)) if self.turn_left > 0 else 0
        except BlockingIOError:
            sent = 0
        self.turn_left = self.turn_left - sent if sent else BYTES_PER_TURN
        return sent

    def _send(self, receiver: int, most: int) -> int:
        """Send up to ``most`` bytes; return how many went, 0 where none is there yet."""
        raise NotImplementedError

    def skip(self, numbytes: int, allow_prune: int = 0) -> None:
        """Count the bytes that were sent."""
        self.remain -= numbytes

    def close(self) -> None:
        """Close the file, and write the access line of this download."""
        promised, self.promised = self.promised, 0  # waitress may close twice
        sent = promised - self.remain
        self._close_file()
        self.remain = 0
        if promised and self.answer.wrote_header:
            self.answer.log_access(sent, cut=sent < promised)

    def _close_file(self) -> None:
        super().close()


class FileDownload(Download):
    """A file with a descriptor, which ``os.sendfile`` sends; one that cannot seek is read by the request's thread."""

    descriptor = -1
    offset = 0  # in the file, of the next byte to send

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. Raises EOFError if the file is shorter than Content-Length."""
        ready = super().prepare(size)
        if ready:
            self.descriptor, self.offset = self.file.fileno(), self.file.tell()
        return ready

    def _send(self, receiver: int, most: int) -> int:
        sent = os.sendfile(receiver, self.descriptor, self.offset, most)
        if not sent:
            raise OSError(f"the file ended {self.remain} bytes early")
        self.offset += sent
        return sent
