"""How many connections each client has open in this process, and which of them linger."""

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

SHARE = 4  # one client may have a quarter of connection_limit
MAX_LINGERING = 64
WARNING_INTERVAL_SECONDS = 60.0  # between two log lines about refused connections, of which there may be many
SCRATCH = memoryview(bytearray(256 * 1024))  # for bytes that are discarded


class Connections:
    """The connections of all listeners of a process; used by the main loop, and by threads that close a connection.

    lingering: connections whose last answer is sent and which are still read, the oldest first. heartbeat: in a worker,
    sends a heartbeat to the supervisor if one is due.
    """

    def __init__(self, options: Options) -> None:
        self.limit = options.connections_per_client  # for one client; 0 for none
        if self.limit is None:
            self.limit = max(options.connection_limit // SHARE, 1)
        self.lingering: dict[HTTPChannel, None] = {}
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        self._trusted = client_of((options.trusted_proxy or "",))
        self._refused, self._next_warning = 0, 0.0
        self.heartbeat: Callable[[], None] | None = None

    def allow(self, address: tuple[Any, ...]) -> bool:
        """Tell whether this address may open another connection; a trusted proxy always may, for its many clients."""
        client = client_of(address)
        return not self.limit or self._trusted in (client, "*") or self._open.get(client, 0) < self.limit

    def refuse(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Answer a new connection with 503 before its request is read, and close it."""
        self._refused += 1
        if time.monotonic() > self._next_warning:
            name = client_of(address)
            log.warning("%s has %d connections (connections_per_client), %d refused", name, self.limit, self._refused)
            self._refused, self._next_warning = 0, time.monotonic() + WARNING_INTERVAL_SECONDS
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_refusal(f"Your address has {self.limit} connections open"))
            connection.shutdown(socket.SHUT_WR)
            connection.recv_into(SCRATCH)  # closing with unread bytes would reset the connection, and lose the answer

    def opened(self, channel: HTTPChannel) -> None:
        """Count a connection."""
        client = client_of(channel.addr)
        with self._lock:
            self._open[client] = self._open.get(client, 0) + 1

    def closed(self, channel: HTTPChannel) -> None:
        """Stop counting a connection."""
        self.lingering.pop(channel, None)
        client = client_of(channel.addr)
        with self._lock:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def linger(self, channel: HTTPChannel) -> None:
        """Let a connection linger; where too many do, close the one that has for longest."""
        if len(self.lingering) >= MAX_LINGERING:
            next(iter(self.lingering)).handle_close()
        self.lingering[channel] = None


def client_of(address: tuple[Any, ...]) -> str:
    """Return the host of a socket's address; an IPv4 client is the same one on an IPv6 socket."""
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
