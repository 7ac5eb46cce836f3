"""A stream of bytes sent in parts, a few of which are on their way at the same time.

For stores that take large blobs in parts. A blob's memory is bounded by ``in_flight + 1`` parts: one that is filled,
and those that are sent; each may be sent again from its buffer.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .interfaces import Buffer

Answer = TypeVar("Answer")


class PartSender(Generic[Answer]):
    """Cuts what is written into parts, numbered from 1, and calls ``send`` for each in a thread of its own.

    send: sends a part whole, again if need be, and returns what the store answered; it may raise. part_size: the bytes
    of the part of a number; it may raise for one that the store would not take. A part is sent when more bytes come, so
    that a blob of one part can be sent in another way.
    """

    def __init__(
        self, send: Callable[[int, bytearray], Answer], part_size: Callable[[int], int], in_flight: int
    ) -> None:
        self._send, self._part_size, self._in_flight = send, part_size, in_flight
        self._part = bytearray()
        self._room = 0  # bytes, until the part is full
        self._sent = 0  # parts that were given to a thread
        self._answers: dict[int, Answer] = {}
        self._failure: BaseException | None = None
        self._slots = threading.Semaphore(in_flight)

    @property
    def has_sent(self) -> bool:
        """Whether a part was sent, or is under way; else all bytes are in ``take``."""
        return self._sent > 0

    def write(self, data: Buffer) -> None:
        """Append bytes, and wait while too many parts are under way. Raises what ``send`` or ``part_size`` raised."""
        view = memoryview(data)
        while view:
            if not self._room:
                if self._part:
                    self._send_part()
                self._room = self._part_size(self._sent + 1)
            taken = view[: self._room]
            self._part += taken
            self._room -= len(taken)
            view = view[len(taken) :]

    def take(self) -> bytearray:
        """Return the part that is being filled, and forget it."""
        part, self._part = self._part, bytearray()
        return part

    def finish(self) -> list[Answer]:
        """Send the last part, wait for all; return the answers in order. Raises what a part's ``send`` raised."""
        if self._part:
            self._send_part()
        self.wait()
        if self._failure is not None:
            raise self._failure
        return [self._answers[number] for number in sorted(self._answers)]

    def wait(self) -> None:
        """Wait until no part is under way: what is removed before could come back with the next one."""
        for _ in range(self._in_flight):
            self._slots.acquire()
        self._slots.release(self._in_flight)

    def _send_part(self) -> None:
        self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._failure
        # A daemon: a process that ends while a store is silent must not wait for it.
        thread = threading.Thread(target=self._run, args=(self._sent + 1, self.take()), name="part", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: nobody else will release the slot
            self._slots.release()
            raise
        self._sent += 1

    def _run(self, number: int, part: bytearray) -> None:
        try:
            self._answers[number] = self._send(number, part)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that writes
            self._failure = self._failure or error
        finally:
            self._slots.release()
