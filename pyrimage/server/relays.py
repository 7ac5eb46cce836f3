"""Files without a descriptor as answers, whose reading may block: the threads of a pool read them."""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from typing import IO

from .downloads import Answer, Download, FileDownload
from .logtext import shown

log = logging.getLogger("waitress")

PIECE_BYTES = 512 * 1024
LEAST_BYTES = 64 * 1024  # that the client gets though the piece is not full, if it waits for them
PIECES = 2  # that are held in memory for one client


def wrap_file(answer: Answer, file: IO[bytes], block_size: int = 32768) -> Download:
    """Return what sends a file: the ``wsgi.file_wrapper``."""
    try:
        file.fileno()
    except (AttributeError, OSError):
        return Relay(answer, file, block_size)
    return FileDownload(answer, file, block_size)


class Relay(Download):
    """A file that a thread of the pool reads, one at a time, and sends for as long as the client takes it at once.

    What the client does not take, and the end, is sent by the main loop; a thread reads on until PIECES are in memory:
    so slow clients hold no thread. A thread also closes the file, for that may block as well. A file that breaks, or
    ends early, breaks the connection.
    """

    def __init__(self, answer: Answer, file: IO[bytes], block_size: int = 32768) -> None:
        super().__init__(answer, file, block_size)
        self._channel = answer.channel
        self._pool: Pool = self._channel.server.task_dispatcher.relays
        self._to_read = 0
        self._ready: deque[memoryview] = deque()  # what the main loop has to send
        self._lock = threading.Lock()
        self._is_in_pool = False  # a thread is asked for, or at work, or has closed the file
        self._is_broken = self._is_given_up = False  # by the file; by the connection

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. Raises EOFError if the file is shorter than Content-Length."""
        self.remain = size or 0  # unless the file can tell
        self._to_read = super().prepare(size)
        return self._to_read

    @property
    def is_being_read(self) -> bool:
        """Tell whether the main loop has nothing to send, or to end, before a thread has read more."""
        return self.remain > 0 and not self._ready and not self._is_broken

    def _send(self, receiver: int, most: int) -> int:
        """Send of what was read. Raises ConnectionError where the file broke, which the thread has logged."""
        with self._lock:
            if self._ready and not self._ready[0]:  # only now has the channel counted what was sent of it
                self._ready.popleft()
        sent = 0
        if self._ready:
            sent = os.write(receiver, self._ready[0][:most])
            self._ready[0] = self._ready[0][sent:]
        elif self._is_broken:
            raise ConnectionAbortedError("the file broke")
        else:
            self._channel.wait_for(self)
        self._ask_for_thread()
        return sent

    def _close_file(self) -> None:
        """Let a thread close the file, and drop what was read."""
        with self._lock:
            self._is_given_up = True
            self._ready.clear()
        self._ask_for_thread()

    def _ask_for_thread(self) -> None:
        with self._lock:
            if self._is_in_pool or not self._needs_thread():
                return
            self._is_in_pool = True
        self._pool.add(self)

    def _needs_thread(self) -> bool:
        return self._is_over() or len(self._ready) < PIECES

    def _is_over(self) -> bool:
        """Tell whether nothing more will be read."""
        return self._is_given_up or self._is_broken or not self._to_read

    def work(self) -> bool:
        """Read a piece, and send it or leave it to the main loop; return whether there is more to do.

        Closes the file if nothing more will be read. Called in a thread.
        """
        rest = None if self._is_over() else self._send_at_once(self._try_to_read())
        with self._lock:
            if rest:
                self._ready.append(rest)
            wakes = not (self.is_being_read or self._is_given_up) and len(self._ready) < 2
            is_over = self._is_over()
            self._is_in_pool = self._needs_thread()
            goes_on = self._is_in_pool and not is_over
        if wakes:  # a connection that is given up may have been the last one of a server that has ended
            self._channel.server.pull_trigger()
        if is_over:
            try:
                self.file.close()
            except OSError:  # nothing depends on it: the bytes have been read, or will not be
                pass
            except Exception:
                log.exception("%s cannot be closed", self._name())
        return goes_on

    def _name(self) -> str:
        request = self.answer.request
        return f"The file of {shown(request.command)} {shown(request.request_uri)}"

    def _try_to_read(self) -> memoryview:
        """Return the next bytes, none where the file breaks, which is logged."""
        try:
            return self._read()
        except OSError as error:
            more = {"request_fields": self.answer.log_fields()}
            log.warning("%s breaks: %s: %s", self._name(), type(error).__name__, error, extra=more)
        except Exception:
            log.exception("%s breaks", self._name(), extra={"request_fields": self.answer.log_fields()})
        self._is_broken = True
        return memoryview(b"")

    def _read(self) -> memoryview:
        """Read a piece until it is full, or there is something for a client that waits."""
        size, parts, filled = min(PIECE_BYTES, self._to_read), [], 0
        while filled < size and (self._ready or filled < LEAST_BYTES):
            data = self.file.read(size - filled)
            if not data:
                break
            parts.append(data)
            filled += len(data)
        if not filled:
            raise OSError(f"it ended {self._to_read} bytes early")
        if filled > size:
            raise ValueError(f"read() returned {filled - size} bytes more than it was asked for")
        self._to_read -= filled
        return memoryview(b"".join(parts))

    def _send_at_once(self, piece: memoryview) -> memoryview:
        """Send what the client takes without waiting; return the rest.

        All of it is left to the main loop if that has others to send, or has to end the answer behind it.
        """
        sent, channel = 0, self._channel
        with channel.outbuf_lock:  # held, too, where a connection is closed
            if self._to_read and not self._ready and not self._is_given_up:
                with contextlib.suppress(OSError):  # if the client has left, the main loop will see it
                    sent = os.write(channel.socket.fileno(), piece)
                    self.remain -= sent
                    channel.total_outbufs_len -= sent
                    channel.last_activity = time.time()
        return piece[sent:]


class Pool:
    """Threads that work for relays in turn, started when they are needed first.

    They are daemons: a read that never returns keeps no process alive.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._relays: deque[Relay] = deque()
        self._waiting = 0  # threads that have nothing to do
        self._is_over = False
        self._changed = threading.Condition()

    def add(self, relay: Relay) -> None:
        """Let a thread work for a relay."""
        with self._changed:
            self._relays.append(relay)
            if len(self._relays) <= self._waiting:
                self._changed.notify()
            elif len(self._threads) < self._most and not self._is_over:
                name = f"relay-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()

    def _run(self) -> None:
        while (relay := self._next()) is not None:
            while relay.work():
                if self._relays:  # one piece for each, or fast clients would keep new ones waiting
                    self.add(relay)
                    break
            del relay  # or its memory would stay until the thread has another one

    def _next(self) -> Relay | None:
        """Wait for a relay to work for; None: there will be no more."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._relays or self._is_over)
            self._waiting -= 1
            return self._relays.popleft() if self._relays else None

    def shutdown(self, timeout: float) -> None:
        """End the threads when they have done what they were asked for; wait ``timeout`` seconds at most."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
