"""Connections, and the threads that answer what comes over them."""

import contextlib
import socket
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher

from .connections import SCRATCH
from .parser import Parser
from .tasks import Download, ErrorTask, Task

HALF_SECONDS = 5.0  # for a request that has begun, where an idle connection would be closed sooner
LINGER_SECONDS, SILENT_SECONDS = 30.0, 5.0  # in all, and without a byte: nginx' own; a GiB takes 10 s at 1 Gbit/s
LINGER_PASS = 2 * 2**20  # bytes of all lingering connections together that a pass of the main loop reads


class Channel(HTTPChannel):
    """A connection: ours read large bodies in the worker thread, send files by the kernel, and end gently."""

    parser_class = Parser
    task_class = Task
    error_task_class = ErrorTask
    lingers = False  # an answer went out before everything was read that the client may be sending
    is_answered = False  # its request is, as far as threads are concerned
    is_waiting = False  # with its next request, until the answer to the last one is sent
    linger_began = last_byte = 0.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.server.connections.opened(self)

    def del_channel(self, channels: Any = None) -> None:
        """Leave the loop; a connection may be closed twice."""
        if self._fileno is not None:
            self.server.connections.closed(self)
        super().del_channel(channels)

    def send(self, data: Any, do_close: bool = True) -> int:
        """Send bytes, or some of a file; return how many went."""
        if data.__class__ is not Download:
            count: int = super().send(data, do_close)
            return count
        try:
            return data.send_to(self.socket.fileno())
        except ConnectionError:
            if do_close:
                self.handle_close()
            return 0

    def handle_close(self) -> None:
        """Close; but if the client may be sending, listen to it for a while first.

        Else the kernel would answer what it still sends with a reset, and many clients then lose our answer.
        """
        if self.lingers and self.connected and not self.total_outbufs_len:
            self.lingers = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:  # it is gone already
                super().handle_close()
            else:
                self.__class__ = Lingering  # overriding these for all would cost every request a tenth
                self.linger_began = self.last_byte = time.monotonic()
                self.will_close = False  # it was told to, and may be again
                self.server.connections.linger(self)
        else:
            super().handle_close()

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Let an answer wait for a client that does not read, but no thread that has answered."""
        if not self.is_answered:
            super()._flush_outbufs_below_high_watermark()

    def wait_until_sent(self) -> None:
        """Hold the next request back: a client that does not read answers can have one of them, and no thread."""
        self.is_waiting = True
        self.server.trigger.pull_trigger(self.go_on)  # in the loop, where it cannot miss that the last byte went

    def go_on(self) -> None:
        """Let the next request be answered, if it is its turn; called in the main loop."""
        if self.is_waiting and not self.total_outbufs_len and self.connected:
            self.is_waiting = False
            self.server.add_task(self)

    def handle_read(self) -> None:
        """Receive; each of thousands of connections that are ready at once may take some milliseconds."""
        super().handle_read()
        if self.server.connections.heartbeat is not None:
            self.server.connections.heartbeat()

    def handle_write(self) -> None:
        """Send, close if it is time, go on if everything was sent."""
        super().handle_write()
        self.go_on()

    def abort(self) -> None:
        """End the connection; the thread that reads from it, if any, hears of it at once."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def is_idle(self, seconds: float) -> bool:
        """Tell whether nothing was asked or answered for so long; half a request is waited for a little longer."""
        if self.requests or self.total_outbufs_len:
            return False
        begun = self.request is not None and (self.request.headers_finished or self.request.header_plus.strip())
        return time.time() - self.last_activity > (max(seconds, HALF_SECONDS) if begun else seconds)


class Lingering(Channel):
    """A connection that was answered for the last time: what still comes is read and forgotten, for a while."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def writable(self) -> bool:
        """Let the loop call ``handle_write`` when the time is up."""
        now = time.monotonic()
        return self.will_close or now - self.linger_began > LINGER_SECONDS or now - self.last_byte > SILENT_SECONDS

    def handle_write(self) -> None:
        """Close."""
        self.handle_close()

    def handle_read(self) -> None:
        """Forget what has come, no more than this one's part of a pass; close at the end of it."""
        left = LINGER_PASS // len(self.server.connections.lingering)
        try:
            while left > 0:
                count = self.socket.recv_into(SCRATCH, min(left, len(SCRATCH)))
                if not count:
                    self.handle_close()
                    return
                left -= count
                self.last_byte, self.last_activity = time.monotonic(), time.time()
        except BlockingIOError:
            pass
        except OSError:
            self.handle_close()

    def is_idle(self, seconds: float) -> bool:
        """Tell whether a server that stops has listened for long enough: nothing of value comes any more."""
        return time.monotonic() - self.linger_began > max(seconds, HALF_SECONDS)


class Dispatcher(ThreadedTaskDispatcher):
    """Two pools of threads, so that no number of slow uploads keeps the other requests waiting."""

    def __init__(self, threads: int, upload_threads: int) -> None:
        super().__init__()
        self.uploads = ThreadedTaskDispatcher()
        self.set_thread_count(threads)
        self.uploads.set_thread_count(upload_threads)

    def add_task(self, task: Channel) -> None:
        """Queue a connection whose first request is ready to be answered."""
        if task.total_outbufs_len:
            task.wait_until_sent()
        elif task.requests[0].streaming:
            self.uploads.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads; those that are at work get ``timeout`` seconds."""
        self.uploads.set_thread_count(0)
        deadline = time.monotonic() + timeout
        super().shutdown(cancel_pending, timeout)
        ended: bool = self.uploads.shutdown(cancel_pending, max(deadline - time.monotonic(), 0))
        return ended
