"""Services as clients see them: ours, and some that do what ours never would."""

import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from conftest import Installation
from factories import md5
from servers.in_process_server import MIB, SECONDS, Running


@dataclass
class Site:
    """An installation of ours that is served."""

    installation: Installation
    running: Running

    @property
    def port(self) -> int:
        return port_of(self.running)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def port_of(running: Running) -> int:
    """Return the port of a server in this process."""
    port: int = running.serving.listeners[0].socket.getsockname()[1]
    return port


def pattern(size: int) -> bytes:
    """Make bytes of which no two parts are the same."""
    return b"".join(hashlib.sha256(number.to_bytes(8)).digest() for number in range(size // 32 + 1))[:size]


@dataclass
class Stranger:
    """A service that is not ours: it has one image, and says of it what the test wants.

    checksum, sha256: what it says; the right md5 if none, and no sha256. ranges: whether it knows them. asked: the
    requests so far. answers: for paths that are answered otherwise, status, headers and body.
    """

    data: bytes = b"bytes"
    checksum: str | None = None
    sha256: str | None = None
    ranges: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[str, dict[str, str], bytes]] = field(default_factory=dict)
    changes: Callable[[bytes], bytes] = bytes  # what becomes of the bytes on their way

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        self.asked.append({**environ, "body": body})
        if environ["PATH_INFO"] in self.answers:
            status, headers, content = self.answers[environ["PATH_INFO"]]
            start_response(status, [*headers.items(), ("Content-Length", str(len(content)))])
            return [content]
        if environ["REQUEST_METHOD"] in ("POST", "PUT"):
            self.data = body
            content = json.dumps({"image": {"id": "one", "status": "active", **self._told()}}).encode()
            start_response("201 Created", [("Content-Length", str(len(content)))])
            return [content]
        return self._send(environ, start_response)

    def _told(self) -> dict[str, Any]:
        told = {"size": len(self.data), "checksum": self.checksum or md5(self.data)}
        return told if self.sha256 is None else {**told, "sha256": self.sha256}

    def _send(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        told = {"id": "one", "status": "active", **self._told()}
        headers = [(f"x-image-meta-{name}", str(value)) for name, value in told.items()]
        status, data, size = "200 OK", self.changes(self.data), len(self.data)
        if self.ranges:
            headers.append(("Accept-Ranges", "bytes"))
            if found := re.fullmatch("bytes=([0-9]+)-([0-9]+)", environ.get("HTTP_RANGE", "")):
                start, last = int(found[1]), int(found[2])
                status, data = "206 Partial Content", data[start : last + 1]
                headers.append(("Content-Range", f"bytes {start}-{last}/{size}"))
        start_response(status, [*headers, ("Content-Length", str(len(data)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [data]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Listen, and never say anything; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def answering(*statuses: int) -> Iterator[int]:
    """Answer one request on each of so many connections when its head has come, and keep them open; give the port."""
    clients: list[socket.socket] = []

    def answer() -> None:
        for status in statuses:
            clients.append(listener.accept()[0])
            while b"\r\n\r\n" not in clients[-1].recv(MIB):
                pass
            clients[-1].sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
    for each in clients:
        each.close()


@contextlib.contextmanager
def refusing(tls: ssl.SSLContext) -> Iterator[int]:
    """Refuse one upload when its head has come, then read a little and leave, as proxies do; give the port."""
    answer = b'{"error": {"code": 413, "message": "too much"}}'

    def refuse() -> None:
        with listener.accept()[0] as plain, tls.wrap_socket(plain, server_side=True) as client:
            while b"\r\n\r\n" not in client.recv(MIB):
                pass
            client.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
            for _ in range(8):
                client.recv(MIB)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
