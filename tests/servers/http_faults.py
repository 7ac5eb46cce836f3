"""A proxy before an HTTP service that knows its requests, and what shall become of some of them.

::

    with HttpFaults(server.url) as proxy:
        proxy.add(re.compile("PUT /images/.*"), Lost(), times=1)
        ask(proxy.url)
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

SECONDS = 60

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Lost:
    """The connection breaks: before the service has the request, or when it has answered. body: or so far in it."""

    before: bool = False
    body: int = 0


@dataclass(frozen=True)
class Replaced:
    """An answer that the service did not give, as it is sent. forwards: the service had the request all the same."""

    raw: bytes
    forwards: bool = False


@dataclass(frozen=True)
class Changed:
    """The service's answer, with something else in it."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Held:
    """The service answers, but nothing of that arrives before the client has given up."""


@dataclass(frozen=True)
class Twice:
    """The service gets the request twice, one after the other or both at once; the client gets the last answer."""

    at_once: bool = False


Fault = Lost | Replaced | Changed | Held | Twice


class Received(NamedTuple):
    """What the service answered."""

    status: int
    headers: Headers
    body: bytes


def spell(status: str, media_type: str, body: bytes) -> bytes:
    """Spell an answer as it is sent: ``spell("503 Slow Down", "text/plain", b"later")``."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    fault: Fault
    times: int | None


class HttpFaults:
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
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
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
    proxy: HttpFaults

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.proxy.fault_of(f"{self.command} {self.path}"):
            case Lost(before=True):
                self._break()
            case Replaced(raw, forwards):
                if forwards:
                    self._forward(body)
                self.wfile.write(raw)
                self._break()
            case fault:
                self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        """Forward a request, and give the answer as far as the fault lets it come."""
        answer = self._forward_twice(body, at_once=fault.at_once) if isinstance(fault, Twice) else self._forward(body)
        match fault:
            case Lost(body=0):
                self._break()
            case Lost(body=cut):
                self._answer(answer, cut)
                self._break()
            case Held():
                self.connection.settimeout(SECONDS)
                with contextlib.suppress(OSError):
                    self.connection.recv(1)  # the client has nothing more to say: it hangs up
                self.close_connection = True
            case Changed(change):
                headers = [(name, change(value.encode()).decode()) for name, value in answer.headers]
                self._answer(answer._replace(headers=headers, body=change(answer.body)))
            case _:
                self._answer(answer)

    def _forward_twice(self, body: bytes, *, at_once: bool) -> Received:
        if not at_once:
            self._forward(body)
            return self._forward(body)
        with ThreadPoolExecutor(2) as threads:
            other, mine = (threads.submit(self._forward, body) for _ in range(2))
            other.result()
            return mine.result()

    def _forward(self, body: bytes) -> Received:
        target = self.proxy.target
        client = http.client.HTTPConnection(target.hostname or "", target.port, timeout=SECONDS)
        try:
            client.request(self.command, self.path, body, dict(self.headers.items()))
            answer = client.getresponse()
            data = answer.read()
        finally:
            client.close()
        kept = () if self.command == "HEAD" else ("content-length",)
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in (*_OWN, *kept)]
        return Received(answer.status, headers, data)

    def _answer(self, answer: Received, cut: int | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204 and self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:cut])

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


_OWN = ("transfer-encoding", "connection", "date", "server")
