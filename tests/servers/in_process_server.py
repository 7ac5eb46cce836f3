"""Our server in a thread of the test's process, and a client that is nothing but a socket."""

import contextlib
import fcntl
import json
import logging
import logging.handlers
import queue
import re
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pyrimage.server.channel import Channel
from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind

SECONDS = 20  # nothing waits longer
MIB = 1024 * 1024
THRESHOLD = 1000  # for inbuf_overflow, so that short bodies are streamed too
CHUNKED = "Transfer-Encoding: chunked"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: close() resets the connection


class Answer(NamedTuple):
    """A response: names of headers in lower case, and all that followed until the connection was closed."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Answer":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return cls(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)

    @property
    def json(self) -> dict[str, Any]:
        """The body. Not JSON if a second answer followed."""
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def message(self) -> str:
        """What an error of the server says."""
        return str(self.json["error"]["message"])


def answers(raw: bytes) -> list[Answer]:
    """Return all the responses of a connection."""
    found = []
    while raw:
        answer = Answer.parse(raw)
        length = int(answer.headers.get("content-length", 0))
        found.append(answer._replace(body=answer.body[:length]))
        raw = answer.body[length:]
    return found


class Running:
    """A server under test, and the access lines it writes."""

    def __init__(self, serving: Serving, records: "queue.Queue[logging.LogRecord]", thread: threading.Thread) -> None:
        self.serving, self.thread = serving, thread
        self._records, self._clients = records, contextlib.ExitStack()
        self._place = serving.listeners[0].socket

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        client = self._clients.enter_context(socket.socket(self._place.family))
        client.settimeout(SECONDS)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(self._place.getsockname())
        return client

    def send(self, raw: bytes) -> socket.socket:
        client = self.connect()
        client.sendall(raw)
        return client

    def drip(self, raw: bytes, size: int = 1) -> socket.socket:
        """Send so that the server gets every ``size`` bytes for themselves; a connection that it ends is no error."""
        if self._place.family != socket.AF_UNIX:
            raise ValueError("only the socket of this machine tells whether the other side has read")
        client = self.connect()
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(raw), size):
                client.sendall(raw[start : start + size])
                deadline = time.monotonic() + SECONDS
                while any(fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4))):
                    if time.monotonic() > deadline:
                        raise AssertionError("the server does not read")
                    time.sleep(0)  # let the server's threads run
        return client

    def exchange(self, raw: bytes) -> Answer:
        """Send ``raw``, whose answer must close the connection, and return that answer."""
        return Answer.parse(receive_all(self.send(raw)))

    def get(self, target: str = "/", *header_lines: str, method: str = "GET") -> Answer:
        return self.exchange(request(f"{method} {target}", "Connection: close", *header_lines))

    def wait_for_line(self) -> str:
        """Return the next access line. What is not waited for is there when the server has ended."""
        return self._records.get(timeout=SECONDS).getMessage()

    def lines(self) -> list[str]:
        """Return the access lines that nobody waited for."""
        return [record.getMessage() for record in self._records.queue]

    def statuses(self) -> list[int]:
        """Return the statuses of those lines."""
        return [int(line.split(" ")[3]) for line in self.lines()]

    def connections(self) -> list[Channel]:
        """Return what is open on the server's side."""
        return [place for place in list(self.serving.channels.values()) if isinstance(place, Channel)]

    def cpu_seconds(self) -> float:
        """Return what the loop has used so far."""
        return time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident or 0))

    def disconnect(self) -> None:
        """Close all connections from the client's side."""
        self._clients.close()


def request(start: str, *header_lines: str) -> bytes:
    return "\r\n".join([f"{start} HTTP/1.1", "Host: localhost", *header_lines, "", ""]).encode("latin-1")


def receive_all(client: socket.socket) -> bytes:
    raw = bytearray()
    while piece := client.recv(MIB):
        raw += piece
    return bytes(raw)


def said_of_the_connection(raw: bytes) -> list[bytes]:
    """Return what the headers of an answer say of the connection; ``Answer`` has each name once."""
    return re.findall(rb"\r\nconnection: ([^\r]*)", raw.partition(b"\r\n\r\n")[0], re.IGNORECASE)


def leave_by_reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


@contextlib.contextmanager
def serving(app: WSGIApplication, level: int = logging.INFO, **settings: Any) -> Iterator[Running]:
    """Serve ``app`` in a thread until the block and all work that it asked for have ended."""
    logger, records = logging.getLogger("pyrimage.access"), queue.Queue[logging.LogRecord]()
    handler, level_before = logging.handlers.QueueHandler(records), logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    place = {} if "unix_socket" in settings else {"listen": "127.0.0.1:0"}
    options = read_options({**place, "upload_threads": 8, "relay_threads": 4, "shutdown_timeout": SECONDS, **settings})
    server = Serving(app, options, bind(options))
    loop = threading.Thread(target=server.run)
    loop.start()
    running = Running(server, records, loop)
    try:
        yield running
    finally:
        running.disconnect()
        server.stop()
        loop.join(2 * SECONDS)
        logger.removeHandler(handler)
        logger.setLevel(level_before)
    if loop.is_alive():
        raise AssertionError("the server does not end")


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the environ and the body as JSON."""
    seen = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
    body = json.dumps({**seen, "body": environ["wsgi.input"].read().decode("latin-1")}).encode()
    environ.update({"pyrimage.request_id": "req-of-the-application", "pyrimage.identity": environ.get("HTTP_X_USER")})
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Length", str(MIB))])
    return [b"x" * MIB]


def download(path: Path, length: int, offset: int = 0) -> WSGIApplication:
    """Return an application that sends the file at ``path`` and says that it has ``length`` bytes."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(length))])
        file = path.open("rb")
        if offset:
            file.seek(offset)
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 65536)
        return answer

    return app


class Gate:
    """An application whose requests to /slow wait until the gate is open."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Semaphore(0), threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.entered.release()
            self.opened.wait(SECONDS)
        return echo(environ, start_response)


class Reader:
    """An application that reads the body once it may, notes what ended that, and answers 204 or lets errors through."""

    def __init__(self, lets_through: bool = False) -> None:
        self.lets_through = lets_through
        self.entered, self.may_read = threading.Semaphore(0), threading.Event()
        self.ended: queue.Queue[tuple[bytes, Exception | None]] = queue.Queue()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.entered.release()
        if not self.may_read.wait(SECONDS):
            raise AssertionError("the test does not let the application read")
        body = bytearray()
        try:
            while piece := environ["wsgi.input"].read1(MIB):
                body += piece
        except (OSError, ValueError) as error:
            self.ended.put((bytes(body), error))
            if self.lets_through:
                raise
        else:
            self.ended.put((bytes(body), None))
        start_response("204 No Content", [])
        return []

    def wait_for_entry(self) -> None:
        """Wait until the next request has come here."""
        if not self.entered.acquire(timeout=SECONDS):
            raise AssertionError("no request came")

    def outcome(self) -> tuple[bytes, Exception | None]:
        """Let it read; return what it got of the next body, and the error that ended that."""
        self.may_read.set()
        return self.ended.get(timeout=SECONDS)


def chunked(data: bytes, size: int) -> bytes:
    """Return ``data`` in chunks of ``size`` bytes."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def upload(content: bytes, chunk: int, target: str = "/", *fields: str) -> bytes:
    """Make a request; ``chunk`` is the size of its chunks, 0 for none."""
    field = CHUNKED if chunk else f"Content-Length: {len(content)}"
    return request(f"PUT {target}", field, *fields) + (chunked(content, chunk) if chunk else content)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path
