"""A proxy before an S3 service that knows its requests, and what shall become of some of them.

::

    with S3Faults(bucket.url) as proxy:
        proxy.add(COMPLETE, Lost(), times=1)
        store = bucket.store(s3_store_host=proxy.url)
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

SECONDS = 60

# What a request is, by its method and path.
CREATE = re.compile(r"POST .*\?uploads$")
PART = re.compile(r"PUT .*partNumber=.*")
SECOND_PART = re.compile(r"PUT .*partNumber=2(&.*)?$")
COMPLETE = re.compile(r"POST .*\?uploadId=.*")
PUT = re.compile(r"PUT [^?]*$")
ABORT = re.compile(r"DELETE .*uploadId=.*")
DELETE = re.compile(r"DELETE [^?]*$")
LIST_UPLOADS = re.compile(r"GET .*\?uploads.*")
GET = re.compile(r"GET [^?]*$")
HEAD = re.compile(r"HEAD .*")


@dataclass(frozen=True)
class Lost:
    """The connection breaks: before the service has the request, or when it has answered. body: or so far in it."""

    before: bool = False
    body: int = 0


@dataclass(frozen=True)
class Refused:
    """An answer that the service did not give."""

    status: int
    code: str


@dataclass(frozen=True)
class Changed:
    """The service's answer, with something else in it."""

    change: Callable[[bytes], bytes]


Fault = Lost | Refused | Changed


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    times: int | None


class S3Faults:
    """The proxy, in threads of its own. seen: each request that came, as ``PUT /bucket/key?partNumber=1``.

    tls: what a server that speaks TLS needs, which has a certificate for 127.0.0.1.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.target = urlsplit(url)
        self.seen: list[str] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, pattern: re.Pattern[str], fault: Fault, times: int | None = None) -> None:
        """Let requests of a kind fail: the next ones, or all."""
        with self._lock:
            self._rules.append(_Rule(pattern, fault, times))

    def heal(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._rules.clear()

    def count(self, pattern: re.Pattern[str]) -> int:
        """Return how many requests of a kind came."""
        return sum(1 for each in self.seen if pattern.fullmatch(each))

    def fault_of(self, request: str) -> Fault | None:
        """Take note of a request, and say what shall become of it."""
        with self._lock:
            self.seen.append(request)
            for rule in self._rules:
                if rule.times != 0 and rule.pattern.fullmatch(request):
                    rule.times = rule.times and rule.times - 1
                    return rule.fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Faults

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_of(f"{self.command} {self.path}")
        if fault == Lost(before=True):
            self._break()
        elif isinstance(fault, Refused):
            xml = f"<Error><Code>{fault.code}</Code><Message>No.</Message></Error>".encode()
            self._answer(fault.status, [("Content-Type", "application/xml")], xml)
        else:
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        target = self.proxy.target
        client = http.client.HTTPConnection(target.hostname or "", target.port, timeout=SECONDS)
        client.request(self.command, self.path, body, dict(self.headers.items()))
        answer = client.getresponse()
        data = answer.read()
        client.close()
        if isinstance(fault, Lost) and not fault.body:
            self._break()
            return
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN]
        if isinstance(fault, Changed):
            data = fault.change(data)
            headers = [(name, fault.change(value.encode()).decode()) for name, value in headers]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(answer.status, headers, data, length=length, cut=fault.body if isinstance(fault, Lost) else None)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        length: str | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


_OWN = ("content-length", "transfer-encoding", "connection", "date", "server")
