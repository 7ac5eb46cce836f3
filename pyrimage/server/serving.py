"""One process that serves: its listeners, its loop, and how it ends without cutting a transfer."""

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

# A stopping server leaves an idle connection so long, for the next request may be on its way; the second where others
# serve on, and there is no hurry.
IDLE_SECONDS, LEISURE_SECONDS = 1.0, 15.0
DESCRIPTORS = 2  # of a connection: its socket, and the file that it brings or takes
FEWEST = 16  # connections; listening sockets and their triggers count among them
OTHER_DESCRIPTORS = 256  # the database's, logs, modules
LOCK_SECONDS = 1.0  # that a start waits for another one in the directory of its socket
TURN_SECONDS = 0.5  # that the loop waits at most: each of its turns tells the supervisor that it is not stuck
ABORT_SECONDS = 3.5  # for threads to clean up after a transfer that was cut in the end
END_SECONDS = 4.0  # beyond shutdown_timeout, after which a process is ended that has not done so by itself


class Maintained:
    """What our listeners do beside waitress'."""

    channel_class = Channel
    connections: Connections  # of all listeners of this process

    def __init__(self: Any, application: WSGIApplication, *args: Any, **named: Any) -> None:
        super().__init__(application, *args, **named)  # type: ignore[call-arg]
        self.application = ForwardingReader(application, self.adj)  # instead of what waitress has put around it

    def maintenance(self: Any, now: float) -> None:
        """Close connections that were idle for too long, and those whose client takes nothing of its answer.

        For the second waitress would wait until it can write to them.
        """
        super().maintenance(now)  # type: ignore[misc]
        for channel in list(self.active_channels.values()):
            if channel.total_outbufs_len and channel.last_activity < now - self.adj.channel_timeout:
                channel.handle_close()


class Listener(Maintained, TcpWSGIServer):
    """A listening socket."""

    def accept(self) -> Any:
        """Accept a connection and return it with its address, or None; refuse it where its client has enough."""
        accepted = super().accept()
        if accepted is None or self.connections.allow(accepted[1]):
            return accepted
        self.connections.refuse(*accepted)
        return None


class UnixListener(Maintained, UnixWSGIServer):
    """One in the file system."""


def bind(options: Options, held: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Return listening sockets, one for each place of the options: that of ``held`` that lies there, or a new one.

    Raises OSError naming the place.
    """
    known = {(each.family, each.getsockname()): each for each in held}
    if not options.unix_socket:
        places = [(family, address) for family, _, _, address in options.listen]
        return [known.get(place) or _listen(options, *place) for place in places]
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
    """Keep others that start from taking a socket that is bound, and does not listen yet, for one that was left behind.

    Whoever can read the directory can hold the lock, so nobody waits for it for long.
    """
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):  # one that may be written to and not read; a wrong one is found by bind()
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
    """Remove a socket of which the system says that nobody listens there; leave everything else to ``bind()``."""
    with contextlib.suppress(PermissionError):  # in a directory that this user may not search, or not write to
        if path.is_socket() and not path.is_symlink():
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)  # one whose backlog is full is in use, too
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
        raise OSError(error.errno, f"cannot listen on {place(family, address)}: {error.strerror}") from error
    return listener


def place(family: int, address: Any) -> str:
    """Name an address as people do: ``http://127.0.0.1:9292``, ``unix:/run/pyrimage.sock``."""
    if family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"


def announce(sockets: Sequence[socket.socket]) -> None:
    """Log where the server listens, and tell whoever started it (systemd's ``Type=notify``) that it does."""
    for listening in sockets:
        log.info("Serving on %s", place(listening.family, listening.getsockname()))
    waiting = os.environ.get("NOTIFY_SOCKET", "")
    if waiting:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.setblocking(False)  # whoever has taken the name since then may never read
            notifier.sendto(b"READY=1", waiting.replace("@", "\0", 1) if waiting[0] == "@" else waiting)


def allow_descriptors(options: Options) -> None:
    """Raise the limit of open files to what ``connection_limit`` needs; lower the latter where the system refuses.

    Else the server would try for ever to accept a connection that it has no descriptor for. Raises ValueError where
    hardly a connection would be left.
    """
    others = OTHER_DESCRIPTORS + options.upload_threads  # each reads from a second descriptor of its connection
    wanted = DESCRIPTORS * options.connection_limit + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options.connection_limit = (hard - others) // DESCRIPTORS
    if options.connection_limit < FEWEST:
        raise ValueError(f"the system allows {hard} open files (ulimit -Hn); upload_threads and others need {others}")
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
        self.dispatcher = Dispatcher(options.threads, options.upload_threads)
        self.listeners = [self._listener(app, listening) for listening in sockets]
        self.is_stopping = self.is_hurried = False
        self._deadline = 0.0  # of transfers
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
        """Let ``run`` end; may be called by a signal handler, so it takes no lock."""
        if not self.is_stopping:
            self._deadline = time.monotonic() + self.options.shutdown_timeout
            self.listeners[0].trigger._physical_pull()  # before it is said: the loop of another thread may then end
            self.is_stopping = True

    def stop_at_leisure(self) -> None:
        """Let ``run`` end, but leave clients that keep their connections more time to use them once more."""
        self.idle_seconds = LEISURE_SECONDS
        self.stop()

    def hurry(self) -> None:
        """Let transfers that still run after ``stop`` be cut at once; may be called by a signal handler."""
        self.is_hurried = True

    def run(self) -> None:
        """Serve until ``stop`` is called; then let transfers end, within ``shutdown_timeout`` seconds."""
        while not self.is_stopping:
            self._turn(min(self.options.asyncore_loop_timeout, TURN_SECONDS))
        for listener in self.listeners:
            self._accept_waiting(listener)
            wasyncore.dispatcher.close(listener)  # not its trigger, which wakes the loop for its connections
        while (connections := self._connections()) and time.monotonic() < self._deadline and not self.is_hurried:
            for connection in connections:
                if connection.is_idle(self.idle_seconds):
                    connection.will_close = True
            self._turn(IDLE_SECONDS / 4)
        if connections:
            log.warning("%d connections are cut: they took longer than shutdown_timeout", len(connections))
        for connection in connections:
            connection.abort()
        self._turn(0)  # threads that wait for a client to take an answer hear of it
        self.dispatcher.shutdown(timeout=ABORT_SECONDS)
        wasyncore.close_all(self.channels)

    def _accept_waiting(self, listener: Any) -> None:
        """Accept who has connected before the end; bounded, for other processes may go on to listen here."""
        waiting = select.poll()
        waiting.register(listener.socket, select.POLLIN)
        for _ in range(self.options.backlog):
            if not waiting.poll(0):
                break
            listener.handle_accept()  # which may refuse one, and another process may have been quicker

    def _turn(self, seconds: float) -> None:
        wasyncore.loop(timeout=seconds, use_poll=self.options.asyncore_use_poll, map=self.channels, count=1)

    def _connections(self) -> list[Channel]:
        return [channel for channel in self.channels.values() if isinstance(channel, Channel)]
