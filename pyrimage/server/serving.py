"""One serving process: its listening sockets, its main loop, and its end without cut transfers."""

import contextlib
import errno
import fcntl
import logging
import os
import resource
import select
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.server import TcpWSGIServer, UnixWSGIServer

from .channel import Channel, Dispatcher
from .connections import Connections
from .forwarding import ForwardingReader
from .options import Options

log = logging.getLogger("waitress")

# After which a stopping server closes an idle connection: its next request may be on the way. The second is for a
# worker that new ones have replaced, which need not end soon.
IDLE_SECONDS, HANDOVER_IDLE_SECONDS = 1.0, 15.0
DESCRIPTORS = 2  # of a connection: its socket, and the file that is uploaded or downloaded
MIN_CONNECTIONS = 16  # waitress counts listening sockets and their triggers among them
OTHER_DESCRIPTORS = 256  # for database connections, logs, modules
LOCK_SECONDS = 1.0  # that a starting server waits for another one with a socket in the same directory
TURN_SECONDS = 0.5  # that a turn of the main loop waits at most, so that a worker sends its heartbeats
ABORT_SECONDS = 3.5  # for threads to clean up when their transfers were cut
END_SECONDS = 4.0  # after shutdown_timeout; then a process that has not ended is killed


class ListenerMixin:
    """What our TCP and Unix listeners add to waitress'."""

    channel_class = Channel
    connections: Connections  # of all listeners of this process

    def __init__(self: Any, application: WSGIApplication, *args: Any, **named: Any) -> None:
        super().__init__(application, *args, **named)  # type: ignore[call-arg]
        self.application = ForwardingReader(application, self.adj)  # in place of waitress' middleware

    def maintenance(self: Any, now: float) -> None:
        """Close connections that are idle, or whose client has read nothing of its answer, for ``channel_timeout``.

        Waitress would only mark the second, and close them when their client reads.
        """
        super().maintenance(now)  # type: ignore[misc]
        for channel in list(self.active_channels.values()):
            if channel.total_outbufs_len and channel.last_activity < now - self.adj.channel_timeout:
                channel.handle_close()


class Listener(ListenerMixin, TcpWSGIServer):
    """A listening TCP socket."""

    def accept(self) -> Any:
        """Accept a connection and return it with its address; None if there is none, or its client has too many."""
        accepted = super().accept()
        if accepted is None or self.connections.allow(accepted[1]):
            return accepted
        self.connections.refuse(*accepted)
        return None


class UnixListener(ListenerMixin, UnixWSGIServer):
    """A listening socket in the file system."""


def bind(options: Options, inherited: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Return listening sockets, one for each address of the options: an inherited one that has it, or a new one.

    Raises OSError naming the address.
    """
    known = {(each.family, each.getsockname()): each for each in inherited}
    if not options.unix_socket:
        addresses = [(family, address) for family, _, _, address in options.listen]
        return [known.get(each) or _listen(options, *each) for each in addresses]
    listening = known.get((socket.AF_UNIX, options.unix_socket))
    if listening is None:
        with _locked(Path(options.unix_socket).parent):
            _remove_stale(Path(options.unix_socket))
            listening = _listen(options, socket.AF_UNIX, options.unix_socket)
    else:
        os.chmod(options.unix_socket, options.unix_socket_perms)  # noqa: PTH101 - the setting is text
    return [listening]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory, so that no other starting server removes a socket that is bound and does not listen yet.

    Any user who can read the directory can hold the lock, so after LOCK_SECONDS the start goes on without it.
    """
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):  # a directory that may not be read, or is none: bind() fails if it must
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, descriptor)
            deadline = time.monotonic() + LOCK_SECONDS
            while not _lock(descriptor) and time.monotonic() < deadline:
                time.sleep(0.01)
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_stale(path: Path) -> None:
    """Remove a socket that refuses connections, as one does whose server ended; ``bind()`` judges everything else."""
    with contextlib.suppress(PermissionError):  # the directory may not be searched or written to: bind() fails
        if path.is_socket() and not path.is_symlink():
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)  # connect() would wait where the backlog is full, which is a socket in use
                if client.connect_ex(str(path)) == errno.ECONNREFUSED:
                    path.unlink()


def _listen(options: Options, family: socket.AddressFamily, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        if family == socket.AF_UNIX:  # before anybody can connect
            os.chmod(address, options.unix_socket_perms)  # noqa: PTH101 - the setting is text
        listener.listen(options.backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address_url(family, address)}: {error.strerror}") from error
    return listener


def address_url(family: int, address: Any) -> str:
    """Return an address as text: ``http://127.0.0.1:9292``, ``unix:/run/pyrimage.sock``."""
    if family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"


def announce(sockets: Sequence[socket.socket]) -> None:
    """Log where the server listens, and tell systemd (``Type=notify``) that it is ready."""
    for listening in sockets:
        log.info("Serving on %s", address_url(listening.family, listening.getsockname()))
    waiting = os.environ.get("NOTIFY_SOCKET", "")
    if waiting:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.setblocking(False)  # another program may have the name by now, and never read
            notifier.sendto(b"READY=1", waiting.replace("@", "\0", 1) if waiting[0] == "@" else waiting)


def raise_descriptor_limit(options: Options) -> None:
    """Raise the limit of open files to what ``connection_limit`` needs, or lower that to what the system allows.

    Without a free descriptor the main loop would try again and again to accept a connection. Raises ValueError where
    fewer than MIN_CONNECTIONS would be possible.
    """
    # A thread has a duplicate of its connection's descriptor, or the file of a connection that is gone.
    others = OTHER_DESCRIPTORS + options.upload_threads + options.relay_threads
    wanted = DESCRIPTORS * options.connection_limit + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options.connection_limit = (hard - others) // DESCRIPTORS
    if options.connection_limit < MIN_CONNECTIONS:
        raise ValueError(f"the system allows {hard} open files (ulimit -Hn); the threads and others need {others}")
    log.warning(
        "connection_limit is lowered to %d: it needs %d open files, and the system allows %d (ulimit -Hn)",
        options.connection_limit,
        wanted,
        hard,
    )


class Serving:
    """An application on listening sockets, in this process: ``run()`` serves until ``stop()``."""

    def __init__(self, app: WSGIApplication, options: Options, sockets: Sequence[socket.socket]) -> None:
        self.options = options
        self.channels: dict[int, Any] = {}  # by descriptor: listeners, their triggers and connections
        self.connections = Connections(options)
        self.dispatcher = Dispatcher(options.threads, options.upload_threads, options.relay_threads)
        self.listeners = [self._listener(app, listening) for listening in sockets]
        self.is_stopping = self.cuts_transfers = False
        self._deadline = 0.0  # when transfers are cut
        self.idle_seconds = IDLE_SECONDS

    def _listener(self, app: WSGIApplication, listening: socket.socket) -> Any:
        made = (UnixListener if listening.family == socket.AF_UNIX else Listener)(
            app,
            self.channels,
            True,
            listening,
            dispatcher=self.dispatcher,
            adj=self.options,
            bind_socket=False,
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
        )
        made.connections = self.connections
        return made

    def stop(self) -> None:
        """Make ``run`` return; takes no lock, for a signal handler may call it."""
        if not self.is_stopping:
            self._deadline = time.monotonic() + self.options.shutdown_timeout
            # First: as soon as is_stopping is set, a loop in another thread may close the trigger.
            self.listeners[0].trigger._physical_pull()
            self.is_stopping = True

    def stop_after_handover(self) -> None:
        """Make ``run`` return, but leave kept connections open for longer: other workers serve on."""
        self.idle_seconds = HANDOVER_IDLE_SECONDS
        self.stop()

    def cut_transfers(self) -> None:
        """Cut the transfers that still run after ``stop``, at once; a signal handler may call it."""
        self.cuts_transfers = True

    def run(self) -> None:
        """Serve until ``stop`` is called; then let transfers end, within ``shutdown_timeout`` seconds."""
        while not self.is_stopping:
            self._turn(min(self.options.asyncore_loop_timeout, TURN_SECONDS))
        for listener in self.listeners:
            self._accept_backlog(listener)
            wasyncore.dispatcher.close(listener)  # its own close() ends its trigger, which connections still need
        while (connections := self._connections()) and time.monotonic() < self._deadline and not self.cuts_transfers:
            for connection in connections:
                if connection.is_idle(self.idle_seconds):
                    connection.will_close = True
            self._turn(IDLE_SECONDS / 4)
        if connections:
            log.warning("%d connections are cut: they took longer than shutdown_timeout", len(connections))
        for connection in connections:
            connection.abort()
        self._turn(0)  # closes them, which wakes threads that wait for their clients to read
        self.dispatcher.shutdown(timeout=ABORT_SECONDS)
        wasyncore.close_all(self.channels)

    def _accept_backlog(self, listener: Any) -> None:
        """Accept what waits in the backlog, and no more than fits there: other processes may listen on the socket."""
        waiting = select.poll()
        waiting.register(listener.socket, select.POLLIN)
        for _ in range(self.options.backlog):
            if not waiting.poll(0):
                break
            listener.handle_accept()  # there may be none: another process was quicker

    def _turn(self, seconds: float) -> None:
        wasyncore.loop(timeout=seconds, use_poll=self.options.asyncore_use_poll, map=self.channels, count=1)

    def _connections(self) -> list[Channel]:
        return [channel for channel in self.channels.values() if isinstance(channel, Channel)]
