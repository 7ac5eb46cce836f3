"""What one connection may hold: every request is answered once, and no byte is taken for a request that is not one.

Each row goes over a real socket twice: in one piece, and so that the server gets every byte for itself.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from pyrimage.server.body import MAX_FRAMING
from servers.in_process_server import MIB, Running, answers, serving

THRESHOLD = 8  # longer bodies are streamed
GET = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"


def put(path: str, *fields: str, body: str = "", version: str = "1.1") -> str:
    return "\r\n".join([f"PUT {path} HTTP/{version}", "Host: x", *fields, "", body])


def sized(path: str, body: str, *fields: str) -> str:
    return put(path, f"Content-Length: {len(body)}", *fields, body=body)


def chunked(path: str, body: str, *fields: str) -> str:
    return put(path, "Transfer-Encoding: chunked", *fields, body=body)


class Row(NamedTuple):
    raw: str
    statuses: list[int]
    seen: list[str]  # by the application: path and body


LONG, SHORT, CHUNKS = "0123456789", "01234567", "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
UNDERSTOOD = {
    "two uploads": Row(sized("/1", LONG) + sized("/2", LONG), [200, 200], [f"/1 {LONG}", f"/2 {LONG}"]),
    "two small bodies": Row(sized("/1", SHORT) + sized("/2", SHORT), [200, 200], [f"/1 {SHORT}", f"/2 {SHORT}"]),
    "upload between others": Row(GET + sized("/1", LONG) + GET, [200] * 3, ["/next ", f"/1 {LONG}", "/next "]),
    "chunks between others": Row(GET + chunked("/1", CHUNKS) + GET, [200] * 3, ["/next ", f"/1 abc{LONG}", "/next "]),
    "two chunked bodies": Row(chunked("/1", CHUNKS) * 2 + GET, [200] * 3, [f"/1 abc{LONG}"] * 2 + ["/next "]),
    "small body behind chunks": Row(chunked("/1", CHUNKS) + sized("/2", "a"), [200] * 2, [f"/1 abc{LONG}", "/2 a"]),
    "trailer": Row(chunked("/1", "3\r\nabc\r\n0\r\nDigest: x\r\nA: b\r\n\r\n") + GET, [200] * 2, ["/1 abc", "/next "]),
    "folded trailer": Row(chunked("/1", "0\r\nA: b\r\n c\r\n\r\n") + GET, [200] * 2, ["/1 ", "/next "]),
    "long trailer": Row(chunked("/1", "0\r\n" + "A: b\r\n" * 100 + "\r\n") + GET, [200] * 2, ["/1 ", "/next "]),
    "extension": Row(chunked("/1", '3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n') + GET, [200] * 2, ["/1 abc", "/next "]),
    "no bytes in chunks": Row(chunked("/1", "0\r\n\r\n") + GET, [200] * 2, ["/1 ", "/next "]),
    "zeros before a size": Row(
        chunked("/1", f"{'0' * 15}3\r\nabc\r\n{'0' * 16}\r\n\r\n") + GET, [200] * 2, ["/1 abc", "/next "]
    ),
    "chunk like a request": Row(
        chunked("/1", f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n") + GET, [200] * 2, [f"/1 {SMUGGLED}", "/next "]
    ),
    "body like a request": Row(sized("/1", SMUGGLED) + GET, [200] * 2, [f"/1 {SMUGGLED}", "/next "]),
    "expectation behind another": Row(
        GET + sized("/1", LONG, "Expect: 100-continue") + GET, [200, 100, 200, 200], ["/next ", f"/1 {LONG}", "/next "]
    ),
    "expectation behind chunks": Row(
        chunked("/1", CHUNKS) + sized("/2", LONG, "Expect: 100-continue"),
        [200, 100, 200],
        [f"/1 abc{LONG}", f"/2 {LONG}"],
    ),
    "blank lines before a request": Row("\r\n\r\n\r\n" + GET + "\r\n" + GET, [200] * 2, ["/next "] * 2),
    "unread small body": Row(sized("/refuse", SHORT) + GET, [403, 200], ["/refuse", "/next "]),
    "target of the whole server": Row(f"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n{GET}", [200] * 2, ["* ", "/next "]),
    "target with a host": Row(GET.replace("/next", "Http://x:1/next?a") + GET, [200] * 2, ["/next "] * 2),
    "connection that ends": Row(put("/1", "Connection: x , Close") + SMUGGLED, [200], ["/1 "]),
    "connection that ends, said on two lines": Row(
        put("/1", "Connection: keep-alive", "Connection: close") + SMUGGLED, [200], ["/1 "]
    ),
    "connection that goes on": Row(put("/1", "Connection: keep-alive, closed") + GET, [200] * 2, ["/1 ", "/next "]),
    "HTTP/1.0": Row(
        put("/1", f"Content-Length: {len(LONG)}", body=LONG, version="1.0") + SMUGGLED, [200], [f"/1 {LONG}"]
    ),
    "half of a body": Row(put("/1", "Content-Length: 100", body=LONG), [], ["/1"]),
    "half of a small body": Row(put("/1", "Content-Length: 8", body="0123"), [], []),
    "half of a chunk": Row(chunked("/1", "3\r\nab"), [], ["/1"]),
    "half of a chunk's size": Row(chunked("/1", "3"), [], ["/1"]),
    "half of a chunk's end": Row(chunked("/1", "3\r\nabc\r"), [], ["/1"]),
    "chunks without the last": Row(chunked("/1", "3\r\nabc\r\n"), [], ["/1"]),
    "half of a trailer": Row(chunked("/1", "3\r\nabc\r\n0\r\nA: b\r\n"), [], ["/1"]),
}

# The application never sees these.
HEADERS = {
    "bare LF between headers": (400, "PUT / HTTP/1.1\r\nHost: x\nContent-Length: 1\r\n\r\na"),
    "bare LF at the header's end": (400, put("/", "Content-Length: 10\n\n")),
    "bare CR": (400, put("/", "X: a\rContent-Length: 10")),
    "vertical tab before chunked": (400, put("/", "Transfer-Encoding: \x0bchunked", body=CHUNKS)),
    "next line before chunked": (501, put("/", "Transfer-Encoding: \x85chunked", body=CHUNKS)),
    "blank before the colon": (400, put("/", "Transfer-Encoding : chunked", body=CHUNKS)),
    "gzip, chunked": (501, put("/", "Transfer-Encoding: gzip, chunked", body=CHUNKS)),
    "chunked, identity": (501, put("/", "Transfer-Encoding: chunked, identity", body=CHUNKS)),
    "xchunked": (501, put("/", "Transfer-Encoding: xchunked", body=CHUNKS)),
    "two encodings": (400, put("/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKS)),
    "encoding and identity": (501, put("/", "Transfer-Encoding: chunked", "transfer-encoding: identity", body=CHUNKS)),
    "empty encoding": (400, put("/", "Transfer-Encoding:", body=CHUNKS)),
    "encoding of a comma": (400, put("/", "Transfer-Encoding: ,", body=CHUNKS)),
    "one encoding twice": (400, put("/", "Transfer-Encoding: chunked, chunked", body=CHUNKS)),
    "encoding and a comma": (400, put("/", "Transfer-Encoding: chunked,", body=CHUNKS)),
    "folded encoding": (400, put("/", "Transfer-Encoding:", " chunked", body=CHUNKS)),
    "encoding that goes on in a fold": (400, put("/", "Transfer-Encoding: chunked", " ,", body=CHUNKS)),
    "encoding in HTTP/1.0": (400, put("/", "Transfer-Encoding: chunked", body=CHUNKS, version="1.0")),
    "encoding in HTTP/1.0, kept": (
        400,
        put("/", "Transfer-Encoding: chunked", "Connection: keep-alive", body=CHUNKS, version="1.0"),
    ),
    "encoding in HTTP/2.0": (400, put("/", "Transfer-Encoding: chunked", body=CHUNKS, version="2.0")),
    "length before chunked": (400, put("/", "Content-Length: 6", "Transfer-Encoding: chunked", body=CHUNKS)),
    "length behind chunked": (400, put("/", "Transfer-Encoding: chunked", "Content-Length: 6", body=CHUNKS)),
    "two lengths": (400, put("/", "Content-Length: 10", "Content-Length: 20", body=LONG)),
    "one length twice": (400, put("/", "Content-Length: 10", "Content-Length: 10", body=LONG)),
    "list of lengths": (400, put("/", "Content-Length: 10, 10", body=LONG)),
    "+10": (400, put("/", "Content-Length: +10", body=LONG)),
    "-1": (400, put("/", "Content-Length: -1", body=LONG)),
    "0x10": (400, put("/", "Content-Length: 0x10", body=LONG)),
    "1_0": (400, put("/", "Content-Length: 1_0", body=LONG)),
    "superscript": (400, put("/", "Content-Length: \xb9", body=LONG)),
    "empty length": (400, put("/", "Content-Length:", body=LONG)),
    "target of another scheme": (400, "GET a+b://x//images/abc HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target without a slash": (400, "GET images HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target of another host": (400, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target that is the server": (400, "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab in the target": (400, "GET /images/abc%2\tfmembers HTTP/1.1\r\nHost: x\r\n\r\n"),
    "control character before the target": (400, "GET \x01/images/abc HTTP/1.1\r\nHost: x\r\n\r\n"),
    "control character in the target": (400, "GET /images\x7f HTTP/1.1\r\nHost: x\r\n\r\n"),
    "control character behind the target": (400, "GET /images\x0b\r\nHost: x\r\n\r\n"),
    "two types": (400, put("/", "Content-Type: a/b", "content-type: a/b")),
}

# These are met while the application reads.
CHUNKS_REFUSED = {
    "NUL in an extension": "3;a=\0\r\nabc\r\n0\r\n\r\n",
    "LF in an extension": "3;a\nb\r\nabc\r\n0\r\n\r\n",
    "extension without a semicolon": "3 a\r\nabc\r\n0\r\n\r\n",
    "size with a sign": "+3\r\nabc\r\n0\r\n\r\n",
    "size below zero": "-3\r\nabc\r\n0\r\n\r\n",
    "size as 0x3": "0x3\r\nabc\r\n0\r\n\r\n",
    "size with _": "0_3\r\nabc\r\n0\r\n\r\n",
    "size behind a blank": " 3\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": "00000000000000003\r\nabc\r\n0\r\n\r\n",
    "size of nothing in 17 digits": "3\r\nabc\r\n00000000000000000\r\n\r\n",
    "bare LF before the line's end": "3\n\r\nabc\r\n0\r\n\r\n",
    "bare LF in the last size": "0\n\r\n\r\n",
    "LF at an extension's end": "3;a\n\r\nabc\r\n0\r\n\r\n",
    "bare LF behind the last chunk": "0\r\n\n",
    "bare LF in the trailer": "0\r\nA: b\nC: d\r\n\r\n",
    "bare LF at the trailer's end": "0\r\nA: b\n\n",
    "bare CR in the trailer": "0\r\nA: b\rc\r\n\r\n",
    "NUL in the trailer": "0\r\nA: \0\r\n\r\n",
    "trailer without a colon": "0\r\nA\r\n\r\n",
    "trailer with a blank before the colon": "0\r\nA : b\r\n\r\n",
    "trailer that begins with a fold": "0\r\n A: b\r\n\r\n",
    "trailer without a name": "0\r\n: b\r\n\r\n",
    "trailer of 101 lines": "0\r\n" + "A: b\r\n" * 101 + "\r\n",
    "trailer like a request": "0\r\n" + SMUGGLED,
    "size that is none": "g\r\nabc\r\n0\r\n\r\n",
    "bare LF behind the size": "3\nabc\r\n0\r\n\r\n",
    "chunk that goes on": "3\r\nabcd\r\n0\r\n\r\n",
    "chunk that ends with LF": "3\r\nabc\n0\r\n\r\n",
    "chunk without an end": "3\r\nabc3\r\nabc\r\n0\r\n\r\n",
    "long chunk that goes on": "A\r\n0123456789xx\r\n0\r\n\r\n",
    "request behind a broken chunk": f"1\r\nxx\r\n\r\n{SMUGGLED}",
}
ROWS = {
    **UNDERSTOOD,
    **{name: Row(raw + SMUGGLED, [status], []) for name, (status, raw) in HEADERS.items()},
    **{name: Row(chunked("/1", body) + SMUGGLED, [400], ["/1"]) for name, body in CHUNKS_REFUSED.items()},
    # S49: the rest of a refused upload.
    "unread upload": Row(sized("/refuse", SMUGGLED * 3) + SMUGGLED, [403], ["/refuse"]),
    "unread upload, not sent": Row(
        put("/refuse", "Content-Length: 10", "Expect: 100-continue") + SMUGGLED, [403], ["/refuse"]
    ),
    "unread chunks": Row(chunked("/refuse", CHUNKS) + SMUGGLED, [403], ["/refuse"]),
    "unread chunks, not sent": Row(chunked("/refuse", "", "Expect: 100-continue") + SMUGGLED, [403], ["/refuse"]),
    "failure over an upload": Row(sized("/fail", LONG) + SMUGGLED, [500], ["/fail"]),
    "failure over chunks": Row(chunked("/fail", CHUNKS) + SMUGGLED, [500], ["/fail"]),
}


class Application:
    """Note what comes; refuse the path /refuse and fail at /fail before the body is read."""

    def __init__(self, answers_errors: bool) -> None:
        self.answers_errors = answers_errors  # itself, as pyrimage does; else the server has to
        self.seen: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, status = environ["PATH_INFO"], "200 OK"
        self.seen.append(path)
        if path == "/fail":
            raise RuntimeError("it failed")
        if path == "/refuse":
            status = "403 Forbidden"
        else:
            try:
                self.seen[-1] += " " + environ["wsgi.input"].read().decode("latin-1")
            except ValueError:
                if not self.answers_errors:
                    raise
                status = "400 Bad Request"
        start_response(status, [("Content-Length", "0")])
        return []


@pytest.fixture(scope="module", params=[True, False], ids=["application answers", "server answers"])
def application(request: pytest.FixtureRequest) -> Application:
    return Application(request.param)


@pytest.fixture(scope="module")
def server(application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("socket") / "socket"
    with serving(application, unix_socket=str(place), inbuf_overflow=THRESHOLD) as running:
        yield running


def exchange(server: Running, raw: bytes, by_byte: bool) -> list[int]:
    """Send, say that no more will come, and return the statuses of all answers."""
    client, received = server.drip(raw) if by_byte else server.send(raw), b""
    with contextlib.suppress(OSError):  # who sends more behind what was to be the last is cut off
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(MIB):
            received += piece
    return [answer.status for answer in answers(received)]


@pytest.mark.parametrize("by_byte", [False, True], ids=["one piece", "byte by byte"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_connection_holds_these_requests_and_no_others(
    application: Application, server: Running, row: Row, by_byte: bool
) -> None:
    """S48 and S49."""
    application.seen.clear()
    raw = row.raw.encode("latin-1")
    assert exchange(server, raw, by_byte) == row.statuses
    assert application.seen == row.seen


def test_a_request_behind_a_long_broken_chunk_is_not_read(application: Application, server: Running) -> None:
    """S48 and S49: where the bytes of the chunk went past waitress, its receiver calls the broken body complete."""
    application.seen.clear()
    raw = chunked("/1", f"{2 * MAX_FRAMING:x}\r\n{'x' * 2 * MAX_FRAMING}x\r\n\r\n{SMUGGLED}").encode()
    assert (exchange(server, raw, by_byte=False), application.seen) == ([400], ["/1"])
