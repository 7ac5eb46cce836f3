"""Bodies that the application reads from the socket: whole, however they come and are read; and 100 Continue."""

import random
import socket
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from servers.in_process_server import (
    CHUNKED,
    CONTINUE,
    MIB,
    SECONDS,
    THRESHOLD,
    Reader,
    Running,
    answers,
    chunked,
    receive_all,
    refuse,
    request,
    serving,
    upload,
)

RANDOM = random.Random(5)

WAYS: dict[str, Callable[..., bytes]] = {
    "at once": lambda source: source.read(),
    "7 bytes": lambda source: b"".join(iter(lambda: source.read(7), b"")),
    "what is there": lambda source: b"".join(iter(lambda: source.read1(MIB), b"")),
    "lines": lambda source: b"".join(source),
    "into a buffer": lambda source: b"".join(iter(lambda: into_buffer(source, MIB), b"")),
    "into a small one": lambda source: b"".join(iter(lambda: into_buffer(source, 7), b"")),
}


def into_buffer(source: object, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: source.readinto(buffer)])  # type: ignore[attr-defined]


def give_back(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the body, read in the way that the query names."""
    content = WAYS[environ["QUERY_STRING"].replace("_", " ")](environ["wsgi.input"])
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that gives bodies back."""
    place = str(tmp_path_factory.mktemp("socket") / "socket")
    with serving(give_back, unix_socket=place, inbuf_overflow=THRESHOLD) as running:
        yield running


# Whole bodies

SIZES = [1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 70000, 2 * MIB + 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunk", [0, 1000, MIB])
@pytest.mark.parametrize("size", SIZES)
def test_a_body_arrives_whole_however_it_is_read(server: Running, size: int, chunk: int, way: str) -> None:
    content = RANDOM.randbytes(size)
    client = server.send(upload(content, chunk, f"/?{way.replace(' ', '_')}", "Connection: close"))
    (answer,) = answers(receive_all(client))
    assert (answer.status, answer.body == content) == (200, True)


def test_a_body_may_come_in_ever_so_many_chunks(server: Running) -> None:
    """The framing of all is longer than that of one may be; each comes whole, in a segment of its own."""
    content = RANDOM.randbytes(4 * 2000)
    head, segment = request("PUT /?at_once", CHUNKED, "Connection: close"), len(b"4\r\nabcd\r\n")
    head = head.replace(b"localhost", b"localhost" + b"x" * (-len(head) % segment))  # whose end is a segment's
    client = server.drip(head + chunked(content, 4)[:-2] + b"A: b\r\n\r\n", segment)
    assert answers(receive_all(client))[0].body == content


@pytest.mark.parametrize("chunk", [0, 1, 500, 5000])
@pytest.mark.parametrize("size", [THRESHOLD, THRESHOLD + 1])
def test_a_body_arrives_whole_byte_by_byte(server: Running, size: int, chunk: int) -> None:
    content = RANDOM.randbytes(size)
    client = server.drip(upload(content, chunk, "/?what_is_there", "Connection: close"))
    (answer,) = answers(receive_all(client))
    assert (answer.status, answer.body == content) == (200, True)


@pytest.mark.parametrize("chunk", [0, 999])
@pytest.mark.parametrize("recv_bytes", [1, 13, 4096])
def test_a_body_arrives_whole_with_whatever_the_loop_reads_at_once(recv_bytes: int, chunk: int) -> None:
    content = RANDOM.randbytes(10 * THRESHOLD)
    with serving(give_back, recv_bytes=recv_bytes, inbuf_overflow=THRESHOLD) as server:
        assert server.exchange(upload(content, chunk, "/?at_once", "Connection: close")).body == content


def test_a_connection_goes_on_behind_bodies_that_were_read(server: Running) -> None:
    contents = [RANDOM.randbytes(size) for size in SIZES if size < MIB]  # nobody reads the answers while these are sent
    raw = b"".join(upload(content, chunk, "/?at_once") for content in contents for chunk in (0, 77))
    client = server.send(raw)
    client.shutdown(socket.SHUT_WR)
    expected = [content for content in contents for _ in (0, 77)]
    assert [answer.body for answer in answers(receive_all(client))] == expected


@pytest.mark.parametrize(
    "raw", [b"3;a=" + b"b" * 8000 + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nA: " + b"b" * 8000 + b"\r\n\r\n"]
)
def test_long_framing_with_an_end_is_read(server: Running, raw: bytes) -> None:
    client = server.send(request("PUT /?at_once", CHUNKED, "Connection: close") + raw)
    assert answers(receive_all(client))[0].body == b"abc"


def test_the_body_says_that_it_can_be_read() -> None:
    said: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said.append(environ["wsgi.input"].readable())
        return refuse(environ, start_response)

    with serving(app) as server:
        server.exchange(upload(b"x", 1))
    assert said == [True]


# 100 Continue


@pytest.mark.parametrize("field", [CHUNKED, "Content-Length: 2147483648"])
def test_a_client_is_told_to_continue_when_the_application_reads(field: str) -> None:
    reader = Reader()
    with serving(reader) as server:
        client = server.send(request("PUT /", field, "Expect: 100-continue"))
        reader.wait_for_entry()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(SECONDS)
        reader.may_read.set()
        assert client.recv(100) == CONTINUE


@pytest.mark.parametrize("chunk", [0, 1000])
def test_a_client_is_told_to_continue_once(server: Running, chunk: int) -> None:
    content = RANDOM.randbytes(100000)
    raw = upload(content, chunk, "/?7_bytes", "Expect: 100-continue", "Connection: close")
    assert [answer.status for answer in answers(receive_all(server.send(raw)))] == [100, 200]


@pytest.mark.parametrize("field", [CHUNKED, "Content-Length: 2147483648"])
def test_a_client_that_is_refused_is_not_told_to_continue(field: str) -> None:
    with serving(refuse) as server:
        answer = server.exchange(request("PUT /", field, "Expect: 100-continue"))
    assert (answer.status, answer.headers["connection"], len(answer.body)) == (403, "close", MIB)


@pytest.mark.parametrize(
    ("length", "status", "text"), [("0", 204, ""), ("+1", 400, "Content-Length"), ("100", 413, "max_request_body_size")]
)
def test_no_client_is_told_to_continue_after_the_answer(length: str, status: int, text: str) -> None:
    """S49: where there is no body, or none is wanted. Waitress would read on, and answer never."""
    reader = Reader()
    reader.may_read.set()
    with serving(reader, max_request_body_size=100) as server:
        answer = server.get("/", f"Content-Length: {length}", "Expect: 100-continue", method="PUT")
    assert (answer.status, text in answer.body.decode()) == (status, True)
