"""Somebody else's web server: it runs in threads of the test's process, and does whatever the test wants."""

import contextlib
import re
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers.machine import installed

SECONDS = 20  # nothing waits longer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def offset(self) -> int:
        """Where the part begins that is asked for."""
        return int((re.findall("bytes=([0-9]+)-", self.headers.get("range", "")) or [0])[0])


Behaviour = Callable[[Asked], Iterable[bytes]]  # the raw answer, in pieces; the connection is closed after the last


def nothing(asked: Asked) -> list[bytes]:
    return [b"HTTP/1.1 404 None\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]


class Origin(socketserver.ThreadingTCPServer):
    """Answers each path as ``paths`` says, others with 404; ``asked`` are the requests so far."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = context
        self.port: int = self.server_address[1]
        self.paths: dict[str, Behaviour] = {}
        self.asked: list[Asked] = []
        self.over = threading.Event()  # what never comes waits for this

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.context else 'http'}://{host}:{self.port}{path}"

    def put(self, path: str, data: bytes, **more: Any) -> str:
        """Let data lie there; return its URL."""
        self.paths[path] = blob(data, **more)
        return self.url(path)

    def redirect(self, path: str, to: str | None, code: int = 302) -> str:
        line = "" if to is None else f"Location: {to}\r\n"
        self.paths[path] = lambda asked: [f"HTTP/1.1 {code} Elsewhere\r\n{line}Content-Length: 0\r\n\r\n".encode()]
        return self.url(path)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave are what tests are about."""


class _Handler(socketserver.StreamRequestHandler):
    server: Origin

    def setup(self) -> None:
        if self.server.context is not None:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.request.close()

    def handle(self) -> None:
        start = self.rfile.readline().decode("latin-1").split(" ")
        lines = iter(lambda: self.rfile.readline().decode("latin-1").strip(), "")
        pairs = [line.split(": ", 1) for line in lines]
        asked = Asked(start[0], start[1], {name.lower(): value for name, value in pairs})
        self.rfile.read(int(asked.headers.get("content-length", 0)))
        self.server.asked.append(asked)
        behave = self.server.paths.get(asked.target, nothing)
        with contextlib.suppress(OSError):
            for piece in behave(asked):
                self.wfile.write(piece)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """Serve until the block ends."""
    with Origin(context) as origin:
        thread = threading.Thread(target=origin.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield origin
        finally:
            origin.over.set()
            origin.shutdown()
            thread.join(SECONDS)


@dataclass
class blob:  # noqa: N801 - tests call it like a function
    """Answer with data. broken: how many bytes of each answer come before the connection is closed, None for all."""

    data: bytes
    ranges: bool = True
    length: bool = True
    etag: str = '"one"'
    heads: str = "200 OK"  # the status of the answer to HEAD
    more: str = ""  # header lines
    broken: list[int | None] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Iterator[bytes]:
        offset = asked.offset if self.ranges else 0
        stop = len(self.data)
        is_part = self.ranges and "range" in asked.headers
        if is_part and (last := asked.headers["range"].rpartition("-")[2]):
            stop = min(stop, int(last) + 1)
        body = self.data[offset:stop]
        status = "206 Partial Content" if is_part else "200 OK" if asked.method == "GET" else self.heads
        lines = [f"HTTP/1.1 {status}", f"ETag: {self.etag}", *filter(None, [self.more])]
        if is_part:
            lines.append(f"Content-Range: bytes {offset}-{stop - 1}/{len(self.data)}")
        if self.length:
            lines.append(f"Content-Length: {len(body)}")
        yield "\r\n".join([*lines, "Connection: close", "", ""]).encode()
        if asked.method == "GET":
            yield body[: self.broken.pop(0) if self.broken else None]


def closed_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def certified(directory: Path, name: str, days: int = 2) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that nobody else signed, for so many days; return it, and what a server with it needs.

    name: a host's name, or an IPv4 address. days: none makes one that has expired.
    """
    key, asked, certificate = (directory / each for each in ("key.pem", "asked.pem", "certificate.pem"))
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    more = (
        "-addext",
        f"subjectAltName={'IP' if name[0].isdecimal() else 'DNS'}:{name}",
        "-addext",
        "basicConstraints=CA:TRUE",
    )
    sign = ("-req", "-in", asked, "-signkey", key, "-copy_extensions", "copyall", "-days", str(days))
    for command in (("req", *kind, *more, "-keyout", key, "-out", asked), ("x509", *sign, "-out", certificate)):
        subprocess.run([installed("openssl"), *command], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
