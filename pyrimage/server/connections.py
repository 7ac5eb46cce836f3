"""The connections of a process, counted: how many each client has open, and which of them linger."""

import contextlib
import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel

from .options import Options

log = logging.getLogger("waitress")

PART = 4  # of its limit, that one client may have
MOST_LINGERING = 64
QUIET_SECONDS = 60.0  # from one log line about refused connections to the next: they may be many
SCRATCH = memoryview(bytearray(256 * 1024))  # for what is read to be ignored


class Connections:
    """What the listeners of a process share; used in its main loop, and by a thread that closes its own connection.

    lingering: connections that were answered for the last time and are still read, the oldest first. heartbeat: tells
    the supervisor, if it is time to, that the main loop goes on; a turn with thousands of connections may take long.
    """

    def __init__(self, options: Options) -> None:
        self.most = options.connections_per_client  # of one client, 0 for any number
        if self.most is None:
            self.most = max(options.connection_limit // PART, 1)
        self.lingering: dict[HTTPChannel, None] = {}
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        self._trusted = client_of((options.trusted_proxy or "",))
        self._refused, self._quiet_until = 0, 0.0
        self.heartbeat: Callable[[], None] | None = None  # of a worker

    def allow(self, address: tuple[Any, ...]) -> bool:
        """Tell whether the client at this address may have another connection; a trusted proxy has many clients."""
        client = client_of(address)
        return not self.most or self._trusted in (client, "*") or self._open.get(client, 0) < self.most

    def refuse(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Answer a new connection, whatever it is for, and close it."""
        self._refused += 1
        if time.monotonic() > self._quiet_until:
            name = client_of(address)
            log.warning("%s has %d connections (connections_per_client), %d refused", name, self.most, self._refused)
            self._refused, self._quiet_until = 0, time.monotonic() + QUIET_SECONDS
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_refusal(f"Your address has {self.most} connections open"))
            connection.shutdown(socket.SHUT_WR)
            connection.recv_into(SCRATCH)  # the kernel resets what is closed with a request that nobody has read

    def opened(self, channel: HTTPChannel) -> None:
        """Count a connection."""
        client = client_of(channel.addr)
        with self._lock:
            self._open[client] = self._open.get(client, 0) + 1

    def closed(self, channel: HTTPChannel) -> None:
        """Count it no more."""
        self.lingering.pop(channel, None)
        client = client_of(channel.addr)
        with self._lock:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def linger(self, channel: HTTPChannel) -> None:
        """Take a connection among those that linger; the one that has done so for longest may have to go."""
        if len(self.lingering) >= MOST_LINGERING:
            next(iter(self.lingering)).handle_close()
        self.lingering[channel] = None


def client_of(address: tuple[Any, ...]) -> str:
    """Return the host of a socket's address; that of IPv4 is the same on a socket of IPv6."""
    return str(address[0]).removeprefix("::ffff:")


def _refusal(message: str) -> bytes:
    fields = {
        "code": 503,
        "title": "Service Unavailable",
        "message": f"{message} (setting connections_per_client of the server)",
    }
    body = json.dumps({"error": fields}).encode()
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Retry-After: 5",
        "X-Content-Type-Options: nosniff",
        f"x-openstack-request-id: req-{uuid.uuid4()}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
