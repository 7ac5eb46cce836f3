"""Bodies that the application reads from the socket: whole, in their time, or an error that says why not."""

import contextlib
import errno
import itertools
import os
import random
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from waitress.channel import ClientDisconnected

from pyrimage.server import body
from servers.loop import (
    CONTINUE,
    MIB,
    SECONDS,
    Reader,
    Running,
    answers,
    chunked,
    leave_by_reset,
    receive_all,
    request,
    serving,
)

THRESHOLD = 1000
RANDOM = random.Random(5)
CHUNKED = "Transfer-Encoding: chunked"


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


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Length", str(MIB))])
    return [b"x" * MIB]


def upload(content: bytes, chunk: int, target: str = "/", *fields: str) -> bytes:
    """Make a request; ``chunk`` is the size of its chunks, 0 for none."""
    field = CHUNKED if chunk else f"Content-Length: {len(content)}"
    return request(f"PUT {target}", field, *fields) + (chunked(content, chunk) if chunk else content)


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


# Back-pressure, and clients that leave


def send_until_it_stalls(client: socket.socket, most: int) -> int:
    """Send until nothing is taken for a while; return how much was."""
    client.settimeout(0.3)
    piece, taken = b"x" * MIB, 0
    with contextlib.suppress(TimeoutError):
        while taken < most:
            taken += client.send(piece)
    return taken


@pytest.mark.parametrize(
    "start", [request("PUT /", CHUNKED) + b"FFFFFFFFF\r\n", request("PUT /", f"Content-Length: {2**36}")]
)
def test_what_is_not_read_stays_with_the_client(start: bytes) -> None:
    """S40: what is taken is what the kernels of both sides buffer."""
    reader = Reader()
    with serving(reader) as server:
        client = server.send(start)
        reader.wait_for_entry()
        taken = send_until_it_stalls(client, 512 * MIB)
        client.close()
        got, error = reader.outcome()
    assert 0 < taken < 64 * MIB
    assert (len(got), isinstance(error, ConnectionError)) == (taken, True)


LEAVE: dict[str, Callable[[socket.socket], None]] = {
    "close": socket.socket.close,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
    "reset": leave_by_reset,
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("start", [b"", b"x" * 5000])
@pytest.mark.parametrize("field", [CHUNKED, "Content-Length: 10000"])
def test_a_client_that_leaves_is_an_error_and_never_the_end(
    field: str, start: bytes, leave: Callable[[socket.socket], None]
) -> None:
    reader = Reader()
    with serving(reader, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", field) + (b"2710\r\n" if field == CHUNKED and start else b"") + start)
        reader.wait_for_entry()
        leave(client)
        got, error = reader.outcome()
    assert start.startswith(got)  # a reset may overtake it
    assert isinstance(error, ConnectionError)


def test_an_error_comes_again_with_the_next_read() -> None:
    errors: list[Exception] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for _ in range(3):
            with pytest.raises(ValueError, match="Invalid chunk size") as caught:
                environ["wsgi.input"].read()
            errors.append(caught.value)
        return refuse(environ, start_response)

    with serving(app) as server:
        server.exchange(request("PUT /", CHUNKED) + b"x\r\n")
    assert len(errors) == 3


@pytest.mark.parametrize("log_socket_errors", [True, False])
def test_a_client_that_left_gets_no_answer(log_socket_errors: bool, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(lets_through=True)
    with serving(reader, inbuf_overflow=THRESHOLD, log_socket_errors=log_socket_errors) as server:
        client = server.send(request("PUT /", "Content-Length: 10000"))
        reader.wait_for_entry()
        client.shutdown(socket.SHUT_WR)
        reader.may_read.set()
        assert receive_all(client) == b""
        server.wait_for_line()
    assert server.lines() == []
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("fields", [[], ["Expect: 100-continue"]])
def test_a_client_that_left_before_the_first_read_is_an_error_in_it(fields: list[str]) -> None:
    errors: list[OSError] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        with contextlib.suppress(ClientDisconnected):
            while True:
                write(b"x" * MIB)
        with pytest.raises(ConnectionError) as caught:
            environ["wsgi.input"].read()
        errors.append(caught.value)
        raise caught.value

    with serving(app) as server:
        client = server.send(request("PUT /", "Content-Length: 2147483648", *fields))
        client.recv(1)
        leave_by_reset(client)
        server.wait_for_line()
    assert len(errors) == 1


# Slow clients


@pytest.mark.parametrize("field", [CHUNKED, "Content-Length: 10000"])
def test_silence_is_a_timeout_and_is_answered_408(field: str) -> None:
    """S40."""
    reader = Reader(lets_through=True)
    with serving(reader, upload_timeout=1, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", field) + b"7d0\r\nabc")
        got, error = reader.outcome()
        (answer,) = answers(receive_all(client))
        line = server.wait_for_line()
    assert (got[-3:], type(error)) == (b"abc", TimeoutError)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "upload_timeout" in answer.message
    assert answer.headers["x-openstack-request-id"] in line
    assert server.lines() == []


def drip_until_answered(client: socket.socket, pieces: Iterable[bytes]) -> bytes:
    """Send a piece every 10 ms, or faster if the server is slow; return the answer."""
    for piece in pieces:
        if select.select([client], [], [], 0.01)[0]:
            break
        client.sendall(piece)
    return receive_all(client)


@pytest.mark.parametrize("field", [CHUNKED, "Content-Length: 1000000"])
def test_less_than_the_minimum_rate_is_a_timeout_and_is_answered_408(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S40: who sends a byte now and then is never silent for long."""
    monkeypatch.setattr(body, "WINDOW_SECONDS", 0.05)
    reader = Reader(lets_through=True)
    with serving(reader, upload_min_rate=MIB, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", field))
        reader.may_read.set()
        (answer,) = answers(drip_until_answered(client, itertools.repeat(b"1\r\nx\r\n")))
    _, error = reader.outcome()
    assert (type(error), answer.status) == (TimeoutError, 408)
    assert "upload_min_rate" in answer.message


@pytest.mark.parametrize("rate", [0, 1])
def test_a_client_at_the_minimum_rate_may_take_its_time(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "WINDOW_SECONDS", 0.01)
    reader = Reader()
    with serving(reader, upload_min_rate=rate) as server:
        client = server.send(request("PUT /", CHUNKED, "Connection: close"))
        reader.may_read.set()
        (answer,) = answers(drip_until_answered(client, [b"1\r\nx\r\n"] * 10 + [b"0\r\n\r\n"]))
    assert (answer.status, reader.outcome()) == (204, (b"x" * 10, None))


def test_a_pause_is_no_low_rate_if_enough_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or upload_timeout could be no longer than the window."""
    monkeypatch.setattr(body, "WINDOW_SECONDS", 0.05)
    reader = Reader()
    with serving(reader, upload_min_rate=1, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", "Content-Length: 5000", "Connection: close"))
        reader.may_read.set()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SECONDS)
        client.sendall(b"x" * 5000)
        (answer,) = answers(receive_all(client))
    assert (answer.status, reader.outcome()) == (204, (b"x" * 5000, None))


def test_the_time_that_the_application_takes_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "WINDOW_SECONDS", 0.05)
    may_read, slow = threading.Event(), threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        may_read.wait(SECONDS)
        while environ["wsgi.input"].read(65536):
            slow.wait(0.1)
        start_response("204 No Content", [])
        return []

    with serving(app, upload_min_rate=2 * MIB, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", "Content-Length: 327680", "Connection: close"))
        client.sendall(b"x" * 327680)
        may_read.set()
        assert answers(receive_all(client))[0].status == 204


# Broken chunks, and too many

BROKEN = {
    "Invalid chunk size": b"3\r\nabc\r\nx\r\n",
    "Invalid chunk extension": b"3\r\nabc\r\n3;\0\r\n",
    "Chunk not properly terminated": b"3\r\nabc\r\n3\r\nabcdef",
}
TOO_LONG = {
    "extension": b"3;a=" + b"b" * 20480,
    "size": b"0" * 20480,
    "blank lines": b"\r\n" * 10240,
    "trailer": b"0\r\n" + b"A: b\r\n" * 3500,
    "trailer of one line": b"0\r\nA: " + b"b" * 20480,
}


@pytest.mark.parametrize(("text", "raw"), BROKEN.items(), ids=BROKEN)
def test_what_came_before_a_broken_chunk_is_read_first(text: str, raw: bytes, tmp_path: Path) -> None:
    """S48."""
    reader = Reader()
    with serving(reader, unix_socket=str(tmp_path / "socket")) as server:
        reader.may_read.set()
        client = server.drip(request("PUT /", CHUNKED) + raw)
        got, error = reader.outcome()
        answer = answers(receive_all(client))[0]
    assert got.startswith(b"abc")
    assert (type(error), str(error)) == (ValueError, text)
    assert (answer.status, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("raw", [*TOO_LONG.values(), b"3\r\nabc\r\n" + b"\r\n" * 20480], ids=[*TOO_LONG, "behind data"])
def test_framing_without_an_end_is_refused_early(raw: bytes) -> None:
    """S40: 20 KiB of it, or twice that behind data, whatever would follow."""
    reader = Reader(lets_through=True)
    with serving(reader) as server:
        client = server.send(request("PUT /", CHUNKED) + raw)
        _, error = reader.outcome()
        (answer,) = answers(receive_all(client))
    assert str(error) == "Chunk header or trailer is too long"
    assert (answer.status, answer.message) == (400, str(error))


@pytest.mark.parametrize(
    "raw", [b"3;a=" + b"b" * 8000 + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nA: " + b"b" * 8000 + b"\r\n\r\n"]
)
def test_long_framing_with_an_end_is_read(server: Running, raw: bytes) -> None:
    client = server.send(request("PUT /?at_once", CHUNKED, "Connection: close") + raw)
    assert answers(receive_all(client))[0].body == b"abc"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("size", [99, 100, 2000])
def test_a_chunked_body_of_the_maximum_or_more_is_refused(size: int, chunk: int) -> None:
    """S34."""
    reader = Reader(lets_through=True)
    reader.may_read.set()
    with serving(reader, max_request_body_size=100) as server:
        answer = server.exchange(upload(b"x" * size, chunk, "/", "Connection: close"))
    got, error = reader.outcome()
    if size < 100:
        assert (answer.status, len(got), error) == (204, size, None)
    else:
        assert isinstance(error, OSError)
        assert (error.errno, answer.status, len(got) <= 100) == (errno.EFBIG, 413, True)
        assert "max_request_body_size" in answer.message


@pytest.mark.parametrize(("status", "raw"), [(400, b"x\r\n"), (413, b"64\r\n" + b"x" * 100)])
def test_an_error_that_the_application_lets_through_is_answered_in_our_shape(status: int, raw: bytes) -> None:
    reader = Reader(lets_through=True)
    reader.may_read.set()
    with serving(reader, max_request_body_size=100) as server:
        answer = server.exchange(request("PUT /", CHUNKED) + raw)
    (line,) = server.lines()
    assert answer.json["error"]["code"] == answer.status == status
    assert f" PUT / {status} {len(answer.body)} " in line
    assert answer.headers["x-openstack-request-id"] in line


def test_an_error_after_the_answer_began_breaks_the_connection() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "100")])
        yield b"abc"
        environ["wsgi.input"].read()

    with serving(app) as server:
        answer = server.exchange(request("PUT /", CHUNKED) + b"x\r\n")
    assert (answer.status, answer.body, len(server.lines())) == (200, b"abc", 1)


def test_a_fault_of_the_application_over_a_streamed_body_is_its_own() -> None:
    """Not the client's, though it has the type that broken chunks have."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise ValueError("it failed")

    with serving(app) as server:
        assert server.exchange(request("PUT /", CHUNKED)).status == 500


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space is left"), ValueError("it failed")])
def test_a_fault_of_the_application_behind_an_error_of_the_body_is_its_own(fault: Exception) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with contextlib.suppress(ValueError):
            environ["wsgi.input"].read()
        raise fault

    with serving(app) as server:
        assert server.exchange(request("PUT /", CHUNKED) + b"x\r\n").status == 500


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open no file more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    with contextlib.ExitStack() as undo:
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                undo.callback(os.close, os.dup(0))
        yield


def test_a_server_that_may_open_no_file_does_not_say_that_the_client_left() -> None:
    errors: list[OSError] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with no_descriptor_left(), pytest.raises(OSError, match="Too many open files") as caught:
            environ["wsgi.input"].read()
        errors.append(caught.value)
        raise caught.value

    with serving(app) as server:
        answer = server.exchange(request("PUT /", "Content-Length: 2147483648"))
    assert (answer.status, answer.json["error"]["code"]) == (500, 500)
    assert [(error.errno, isinstance(error, ConnectionError)) for error in errors] == [(errno.EMFILE, False)]
