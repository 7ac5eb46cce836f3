"""The server over real sockets. Its settings, and what it shares with waitress, are in test_waitress_canary.py."""

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from waitress.channel import HTTPChannel

from pyrimage.server import SHOWN, make_server

SECONDS = 10  # nothing here waits longer
MIB = 1024 * 1024
A_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


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


class Running:
    """A server under test, and the access lines it writes."""

    def __init__(self, server: Any, records: "queue.Queue[logging.LogRecord]", clients: contextlib.ExitStack) -> None:
        self._records, self._clients = records, clients
        self._address = server.effective_host, int(server.effective_port)

    def send(self, raw: bytes) -> socket.socket:
        client = self._clients.enter_context(socket.create_connection(self._address, timeout=SECONDS))
        client.sendall(raw)
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


def request(start: str, *header_lines: str) -> bytes:
    return "\r\n".join([f"{start} HTTP/1.1", "Host: localhost", *header_lines, "", ""]).encode("latin-1")


def receive_all(client: socket.socket) -> bytes:
    raw = bytearray()
    while piece := client.recv(MIB):
        raw += piece
    return bytes(raw)


@contextlib.contextmanager
def serving(app: WSGIApplication, level: int = logging.INFO, **settings: Any) -> Iterator[Running]:
    """Serve ``app`` in a thread until the block and all work that it asked for have ended."""
    logger, records = logging.getLogger("pyrimage.access"), queue.Queue[logging.LogRecord]()
    handler, level_before = logging.handlers.QueueHandler(records), logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    server = make_server(app, listen="127.0.0.1:0", **settings)
    loop = threading.Thread(target=server.run)
    loop.start()

    def close_all() -> None:
        for place in list(server._map.values()):
            place.handle_close() if isinstance(place, HTTPChannel) else place.close()

    try:
        with contextlib.ExitStack() as clients:
            yield Running(server, records, clients)
    finally:
        server.task_dispatcher.shutdown(timeout=SECONDS)
        server.trigger.pull_trigger(close_all)  # runs in the loop, which ends when nothing is open
        loop.join(SECONDS)
        logger.removeHandler(handler)
        logger.setLevel(level_before)
    assert not loop.is_alive()


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the environ and the body as JSON."""
    seen = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
    body = json.dumps({**seen, "body": environ["wsgi.input"].read().decode("latin-1")}).encode()
    environ.update({"pyrimage.request_id": "req-of-the-application", "pyrimage.identity": environ.get("HTTP_X_USER")})
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["pyrimage.request_id"] = "req-of-the-application"
    raise RuntimeError("the secret of the traceback")


def stream(*pieces: bytes | Exception, length: int | None = None) -> WSGIApplication:
    """Return an application that sends ``pieces``, and raises those that are exceptions."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return app


def download(path: Path, length: int) -> WSGIApplication:
    """Return an application that sends the file at ``path`` and says that it has ``length`` bytes."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(length))])
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](path.open("rb"), 65536)
        return answer

    return app


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def access_lines(app: WSGIApplication, target: str = "/", **settings: Any) -> list[str]:
    """Return the access lines of one request."""
    with serving(app, **settings) as server:
        server.get(target)
    return server.lines()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(echo) as running:
        yield running


def test_underscores_in_our_headers_arrive_as_hyphens(server: Running) -> None:
    seen = server.get("/", "x-image-meta-disk_format: raw", "X-Image-Meta-Property-a_b_c: d_e").json
    assert seen["HTTP_X_IMAGE_META_DISK_FORMAT"] == "raw"
    assert seen["HTTP_X_IMAGE_META_PROPERTY_A_B_C"] == "d_e"


DROPPED = ["content_length", "transfer_encoding", "x_auth_token", "x_forwarded_for", "x-glance_x", "a-x-image-meta-b_c"]


@pytest.mark.parametrize("name", [*DROPPED, "x_image_meta_name", "x-image_meta-name", "x-image-meta_name"])
def test_every_other_header_with_an_underscore_stays_dropped(server: Running, name: str) -> None:
    """S50, also where a header of ours is there and names are rewritten."""
    seen = server.get("/", f"{name}: 7", "x-image-meta-min_ram: 1").json
    assert seen["HTTP_X_IMAGE_META_MIN_RAM"] == "1"
    assert "7" not in seen.values()
    assert "pyrimage.forwarded" not in seen


@pytest.mark.parametrize("second", ["disk_format", "disk-format", "DISK_Format"])
def test_one_of_our_headers_twice_is_refused_and_named(server: Running, second: str) -> None:
    """S50."""
    answer = server.get("/", "x-image-meta-disk_format: raw", f"x-image-meta-{second}: raw")
    assert answer.status == 400
    assert "x-image-meta-disk-format: send it once" in answer.json["error"]["message"]


def test_a_chunked_body_is_marked_and_has_no_length(server: Running) -> None:
    header = request("PUT /", "Connection: close", "Transfer-Encoding: chunked", "Content-Length: 9")
    seen = server.exchange(header + b"3\r\nabc\r\n0\r\n\r\n").json
    assert (seen["body"], seen["pyrimage.chunked"]) == ("abc", True)
    assert "CONTENT_LENGTH" not in seen


def test_a_body_of_known_length_is_not_marked(server: Running) -> None:
    seen = server.exchange(request("PUT /", "Connection: close", "Content-Length: 3") + b"abc").json
    assert (seen["body"], seen["CONTENT_LENGTH"]) == ("abc", "3")
    assert "pyrimage.chunked" not in seen


@pytest.mark.parametrize("name", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Other"])
def test_a_forwarding_header_is_noted(server: Running, name: str) -> None:
    assert server.get("/", f"{name}: 192.0.2.1").json["pyrimage.forwarded"] is True


def test_other_headers_are_not_taken_for_forwarding(server: Running) -> None:
    assert "pyrimage.forwarded" not in server.get("/", "Viable: 1", "Not-Forwarded: 1", "X-Real-IPs: 1").json


def test_a_client_may_go_on_with_two_gibibytes(server: Running) -> None:
    client = server.send(request("PUT /", "Content-Length: 2147483648", "Expect: 100-continue"))
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("length", "status", "text"), [("0", 200, ""), ("+1", 400, "Content-Length"), ("100", 413, "max_request_body_size")]
)
def test_no_client_is_told_to_continue_after_the_answer(length: str, status: int, text: str) -> None:
    """S49: where there is no body, or none is wanted. Waitress would read on, and answer never."""
    with serving(echo, max_request_body_size=100) as server:
        answer = server.get("/", f"Content-Length: {length}", "Expect: 100-continue", method="PUT")
    assert (answer.status, text in answer.body.decode()) == (status, True)


PUT, CHUNKED = "PUT / HTTP/1.1\r\nHost: x\r\n", "Transfer-Encoding: chunked\r\n"
REFUSED = {
    "bare LF between headers": (400, "GET / HTTP/1.1\r\nHost: x\nx-image-meta-a_b: 1\r\n\r\n"),
    "bare LF in the request line": (400, "GET /\n HTTP/1.1\r\nHost: x\r\n\r\n"),
    "blank before the colon": (400, PUT + "x-image-meta-a_b : 1\r\n\r\n"),
    "no colon": (400, PUT + "x-image-meta-a_b\r\n\r\n"),
    "NUL in a name": (400, PUT + "x-image-meta-a_\0: 1\r\n\r\n"),
    "name that is folded": (400, PUT + "x-image-meta-a_b\r\n : 1\r\n\r\n"),
    "vertical tab before chunked": (400, PUT + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "unknown transfer encoding": (501, PUT + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, PUT + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n1"),
    "length with a sign": (400, PUT + "Content-Length: +10\r\n\r\n"),
    "hexadecimal length": (400, PUT + "Content-Length: 0x10\r\n\r\n"),
    "length of 5000 digits": (400, PUT + f"Content-Length: {'9' * 5000}\r\n\r\n"),
    "target that is no URL": (400, "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "bad chunk extension": (400, PUT + CHUNKED + "\r\n1;a=\0\r\nx\r\n0\r\n\r\n"),
    "bad chunk size": (400, PUT + CHUNKED + "\r\n0x1\r\nx\r\n0\r\n\r\n"),
    "chunk without end": (400, PUT + CHUNKED + "\r\n1\r\nxx\r\n0\r\n\r\n"),
    "header too large": (431, PUT + "a: b\r\n" * 2000 + "\r\n"),
}


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED)
def test_refused_in_our_shape_and_the_rest_never_read(status: int, raw: str) -> None:
    """S48 and S49: what waitress refuses stays refused, with one answer, a request id and an access line."""
    with serving(echo, max_request_header_size=8000) as server:
        answer = server.exchange(raw.encode("latin-1") + SMUGGLED)
        line = server.wait_for_line()
    error = answer.json["error"]  # which fails if two answers came
    assert answer.status == error["code"] == status
    assert set(error) == {"code", "title", "message"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert A_REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])
    assert f" {status} {len(answer.body)} " in line
    assert answer.headers["x-openstack-request-id"] in line
    assert server.lines() == []


@pytest.mark.parametrize("accept", ["text/plain", "text/plain, */*", "text/html", "text/plain;q=0.5, application/json"])
def test_a_refusal_is_plain_text_for_who_wants_only_that(server: Running, accept: str) -> None:
    answer = server.get("/", f"Accept: {accept}", "Content-Length: x")
    expected = "text/plain; charset=UTF-8" if accept == "text/plain" else "application/json"
    assert answer.headers["content-type"] == expected
    assert b"Content-Length is invalid" in answer.body


def test_a_refused_head_has_the_length_but_no_body(server: Running) -> None:
    twice = ("x-image-meta-name: a", "x-image-meta-name: b")
    head, get = server.get("/", *twice, method="HEAD"), server.get("/", *twice)
    assert (head.status, head.body) == (400, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_a_failed_application_is_a_500_with_its_request_id_and_no_traceback() -> None:
    with serving(fail, expose_tracebacks=True) as server:
        answer = server.get("/", "Accept: text/plain")
        line = server.wait_for_line()
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-openstack-request-id"] == "req-of-the-application"
    assert re.fullmatch(rf"127.0.0.1 GET / 500 {len(answer.body)} \d+ms req-of-the-application -", line)
    assert server.lines() == []


def test_the_access_line_says_who_asked_for_what_and_got_how_much() -> None:
    with serving(echo) as server:
        answer = server.get("/images?limit=2", "X-User: alice", "Authorization: Basic c2VjcmV0")
    (line,) = server.lines()
    length = len(answer.body)
    assert re.fullmatch(rf"127.0.0.1 GET /images\?limit=2 200 {length} \d+ms req-of-the-application alice", line)


def test_hostile_characters_cannot_forge_an_access_line() -> None:
    with serving(echo) as server:
        server.get("/\x1b[2J\x0b\\n", "X-User: eve\x85")
    (line,) = server.lines()
    assert line.split(" ")[2] == r"/\x1b[2J\x0b\\n"
    assert line.endswith(r" eve\x85")


def test_a_long_target_is_cut_in_the_access_line() -> None:
    (line,) = access_lines(echo, target="/" + "a" * 100000)
    assert line.split(" ")[2] == "/" + "a" * (SHOWN - 1) + "..."


COUNTED = {
    "5": [stream(b"abc", b"de"), stream(b"abc", b"de", length=5), stream(b"abcdefg", length=5)],
    "3/5": [stream(b"abc", length=5), stream(b"abc", OSError(), length=5)],
    "3/?": [stream(b"abc", OSError())],
}


@pytest.mark.parametrize(("count", "app"), [(count, app) for count, apps in COUNTED.items() for app in apps])
def test_the_access_line_counts_the_body_and_says_if_it_was_cut_short(count: str, app: WSGIApplication) -> None:
    (line,) = access_lines(app)
    assert line.split(" ")[3:5] == ["200", count]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_client_that_leaves_is_logged_with_what_it_got(tmp_path: Path, as_file: bool) -> None:
    app = download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB) if as_file else stream(*[b"x" * MIB] * 64)
    with serving(app) as server:
        client = server.send(request("GET /", "Connection: close"))
        for _ in range(32):
            client.recv(MIB)
        client.close()  # waitress may close the file twice now
        line = server.wait_for_line()
    assert re.search(rf" 200 \d+/{64 * MIB if as_file else '[?]'} ", line)
    assert server.lines() == []


def test_nothing_is_done_for_a_log_that_nobody_reads() -> None:
    asked: list[bool] = []

    class Identity:
        def __str__(self) -> str:
            asked.append(True)
            return "alice"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["pyrimage.identity"] = Identity()
        start_response("204 No Content", [])
        return []

    assert (access_lines(app, level=logging.WARNING), asked) == ([], [])
    assert (len(access_lines(app)), asked) == (1, [True])


@pytest.mark.parametrize("size", [0, 1, 8 * MIB])
def test_a_file_is_sent_and_logged_when_it_is_through(tmp_path: Path, size: int) -> None:
    with serving(download(sparse(tmp_path / "image", size), size)) as server:
        answer = server.get("/")
    (line,) = server.lines()
    assert (answer.status, len(answer.body)) == (200, size)
    assert line.split(" ")[3:5] == ["200", str(size)]


def test_what_cannot_seek_is_sent_and_logged() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    (line,) = access_lines(download(Path(f"/dev/fd/{reader}"), 3))
    os.close(reader)
    assert line.split(" ")[3:5] == ["200", "3"]


def test_a_file_that_ends_early_breaks_the_connection(tmp_path: Path) -> None:
    """S16: the file shrinks while it is sent; waitress would try to read the rest for ever."""
    path = sparse(tmp_path / "image", 64 * MIB)
    with serving(download(path, 64 * MIB)) as server:
        client = server.send(request("GET /image"))
        start = client.recv(1)
        os.truncate(path, 0)
        got = start + receive_all(client)
        line = server.wait_for_line()
    assert len(Answer.parse(got).body) < 64 * MIB
    assert re.search(rf" 200 \d+/{64 * MIB} ", line)


@pytest.mark.parametrize("size", [0, 1, 50, 99])
def test_a_file_that_is_too_short_is_never_announced_as_whole(tmp_path: Path, size: int) -> None:
    """S16, also where waitress keeps silent about errors of input and output."""
    with serving(download(sparse(tmp_path / "image", size), 100), log_socket_errors=False) as server:
        assert server.get("/").status == 500
    assert [line.split(" ")[3] for line in server.lines()] == ["500"]
