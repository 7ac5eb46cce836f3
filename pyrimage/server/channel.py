"""A client's connection, and the pools of threads that answer requests."""

import contextlib
import socket
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher

from .connections import SCRATCH
from .downloads import Download
from .parser import Parser
from .relays import Pool, Relay
from .tasks import ErrorTask, Task

PARTIAL_REQUEST_SECONDS = 5.0  # that a stopping server waits at least for the rest of a request that has begun
LINGER_SECONDS, SILENT_SECONDS = 30.0, 5.0  # in all, and without a byte: nginx' lingering_time and lingering_timeout
LINGER_BYTES_PER_TURN = 2 * 2**20  # of all lingering connections together, in one turn of the main loop


class Channel(HTTPChannel):
    """A connection: worker threads read large bodies from it, files are sent by sendfile(), and it may linger."""

    parser_class = Parser
    task_class = Task
    error_task_class = ErrorTask
    lingers = False  # whether the client may still be sending a body that was answered before it was read
    is_answered = False  # no thread works for its request any more; the loop may still be sending the answer
    awaited: Relay  # of a ``Waiting`` connection: what it sends
    has_sent_ahead = False  # whether something has come while it was one
    is_waiting = False  # the next request is held back until the answer to the last one is sent
    linger_began = last_byte = 0.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.server.connections.opened(self)

    def del_channel(self, channels: Any = None) -> None:
        """Leave the main loop, and be counted no more; called twice for some connections."""
        if self._fileno is not None:
            self.server.connections.closed(self)
        super().del_channel(channels)

    def send(self, data: Any, do_close: bool = True) -> int:
        """Send bytes, or some of a file; return how many went."""
        if not isinstance(data, Download):
            count: int = super().send(data, do_close)
            return count
        try:
            return data.send_to(self.socket.fileno())
        except ConnectionError:
            if do_close:
                self.handle_close()
            return 0

    def wait_for(self, relay: Relay) -> None:
        """Leave the connection to a thread that reads the file it sends."""
        self.awaited, self.has_sent_ahead, self.__class__ = relay, False, Waiting

    def handle_close(self) -> None:
        """Close; if the client may still be sending, only our side, and read on for a while.

        If a socket is closed while bytes come, the kernel sends a reset, and many clients then lose the answer.
        """
        if self.lingers and self.connected and not self.total_outbufs_len:
            self.lingers = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:  # the client has closed it
                super().handle_close()
            else:
                self.__class__ = Lingering  # overriding readable() and so on for all costs 10 % of the rate
                self.linger_began = self.last_byte = time.monotonic()
                self.will_close = False  # waitress' loop would close it now
                self.server.connections.linger(self)
        else:
            super().handle_close()

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Block a thread while it produces an answer faster than the client reads, but not when it has written all."""
        if not self.is_answered:
            super()._flush_outbufs_below_high_watermark()

    def wait_until_sent(self) -> None:
        """Hold the next request back until the answer is sent: who does not read holds no thread, and one file."""
        self.is_waiting = True
        self.server.trigger.pull_trigger(self.resume)  # the main loop sends, so there it is known whether all was sent

    def resume(self) -> None:
        """Queue the request that was held back, if the answer before it is sent; called in the main loop."""
        if self.is_waiting and not self.total_outbufs_len and self.connected:
            self.is_waiting = False
            self.server.add_task(self)

    def handle_read(self) -> None:
        """Receive, and send a heartbeat if it is due: a turn of the loop with thousands of connections takes long."""
        super().handle_read()
        if self.server.connections.heartbeat is not None:
            self.server.connections.heartbeat()

    def handle_write(self) -> None:
        """Send, close if that is due, and queue the request that was held back if everything was sent."""
        super().handle_write()
        self.resume()

    def abort(self) -> None:
        """Shut the connection down, which wakes a thread that waits for bytes from it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def is_idle(self, seconds: float) -> bool:
        """Tell whether a stopping server may close it: idle for ``seconds``, or longer if a request has begun."""
        if self.requests or self.total_outbufs_len:
            return False
        begun = self.request is not None and (self.request.headers_finished or self.request.header_plus.strip())
        return time.time() - self.last_activity > (max(seconds, PARTIAL_REQUEST_SECONDS) if begun else seconds)


class Waiting(Channel):
    """A connection that a thread works for, which reads a file and sends it; its client may leave meanwhile."""

    def readable(self) -> bool:
        """Tell whether the client is watched: what it sends in advance stays in the socket, and hides its leaving."""
        return self.awaited.is_being_read and not self.has_sent_ahead

    def writable(self) -> bool:
        """Tell whether it is the main loop's turn to send, or the connection is to be closed."""
        return self.will_close or not self.awaited.is_being_read

    def handle_read(self) -> None:
        """Close if the client has closed its side, as it does when it leaves."""
        try:
            self.has_sent_ahead = bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            self.has_sent_ahead = False
        if not self.has_sent_ahead:
            self.handle_close()

    def handle_write(self) -> None:
        """Send."""
        del self.awaited  # which may be sent now, and free
        self.__class__ = Channel
        self.handle_write()

    def abort(self) -> None:
        """Shut the connection down, and let the main loop close it, which may not watch it."""
        super().abort()
        self.will_close = True


class Lingering(Channel):
    """A connection whose last answer is sent: what the client still sends is read and discarded, for a while."""

    def readable(self) -> bool:
        """Return True: waitress would not read while a request is queued."""
        return True

    def writable(self) -> bool:
        """Tell whether the time is up; the main loop then calls ``handle_write``, which closes."""
        now = time.monotonic()
        return self.will_close or now - self.linger_began > LINGER_SECONDS or now - self.last_byte > SILENT_SECONDS

    def handle_write(self) -> None:
        """Close."""
        self.handle_close()

    def handle_read(self) -> None:
        """Discard what has come, up to this connection's share of a turn; close where the client has closed."""
        left = LINGER_BYTES_PER_TURN // len(self.server.connections.lingering)
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
        """Tell whether a stopping server may close it, which is soon: what comes is discarded anyway."""
        return time.monotonic() - self.linger_began > max(seconds, PARTIAL_REQUEST_SECONDS)


class Dispatcher(ThreadedTaskDispatcher):
    """Pools of threads: slow uploads keep no other request waiting. relays: reads files that have no descriptor."""

    def __init__(self, threads: int, upload_threads: int, relay_threads: int) -> None:
        super().__init__()
        self.uploads, self.relays = ThreadedTaskDispatcher(), Pool(relay_threads)
        self.set_thread_count(threads)
        self.uploads.set_thread_count(upload_threads)

    def add_task(self, task: Channel) -> None:
        """Queue a connection for a worker thread, of the pool that its first request needs."""
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
        self.relays.shutdown(max(deadline - time.monotonic(), 0))
        return ended
