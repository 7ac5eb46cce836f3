"""Bodies that the application reads from the socket: whole, refused, slow or cut off."""

import contextlib
import errno
import logging
import os
import random
import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from waitress.channel import ClientDisconnected

from pyrimage.server import body
from pyrimage.server.body import MAX_FRAMING
from servers.in_process_server import (
    CHUNKED,
    CONTINUE,
    MIB,
    SECONDS,
    THRESHOLD,
    Answer,
    Reader,
    Running,
    answers,
    chunked,
    leave_by_reset,
    receive_all,
    request,
    serving,
    upload,
)

RANDOM = random.Random(5)
SIZED, HUGE = "Content-Length: 10000", "Content-Length: 2147483648"


def read_into(source: object, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: source.readinto(buffer)])  # type: ignore[attr-defined]


WAYS: dict[str, Callable[..., bytes]] = {
    "at-once": lambda source: source.read(),
    "7-bytes": lambda source: b"".join(iter(lambda: source.read(7), b"")),
    "what-is-there": lambda source: b"".join(iter(lambda: source.read1(MIB), b"")),
    "lines": lambda source: b"".join(source),
    "into-a-buffer": lambda source: b"".join(iter(lambda: read_into(source, MIB), b"")),
}


def give_back(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the body, read in the way that the query names."""
    content = WAYS[environ["QUERY_STRING"]](environ["wsgi.input"])
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that gives bodies back."""
    path = str(tmp_path_factory.mktemp("socket") / "socket")
    with serving(give_back, unix_socket=path, inbuf_overflow=THRESHOLD) as running:
        yield running


Outcome = tuple[Answer, bytes, Exception | None]


def outcome_of(raw: bytes, lets_through: bool = True, **settings: Any) -> Outcome:
    """Send a request; return the answer, and what the application got of the body and what ended that."""
    reader = Reader(lets_through)
    reader.may_read.set()
    with serving(reader, **{"inbuf_overflow": THRESHOLD, **settings}) as server:
        return server.exchange(raw), *reader.outcome()


# Whole bodies. How they follow each other on a connection: test_smuggling.py


SIZES = [1, THRESHOLD, THRESHOLD + 1, 70000, 2 * MIB + 1]


@pytest.mark.parametrize("chunk", [0, 1000, MIB])
@pytest.mark.parametrize(("turn", "way"), list(enumerate(WAYS)))
def test_a_body_arrives_whole_however_it_is_read(server: Running, turn: int, way: str, chunk: int) -> None:
    """Every way meets every framing; the sizes take turns, so that each meets all of both."""
    size = SIZES[(turn + (0, 1000, MIB).index(chunk)) % len(SIZES)]
    content = RANDOM.randbytes(size)
    answer = server.exchange(upload(content, chunk, f"/?{way}", "Connection: close"))
    assert (answer.status, answer.body == content) == (200, True)


def test_a_body_may_come_in_ever_so_many_chunks(server: Running) -> None:
    """The framing of all is longer than that of one may be; each comes whole, in a segment of its own."""
    content = RANDOM.randbytes(4 * MAX_FRAMING // 4)
    head, segment = request("PUT /?at-once", CHUNKED, "Connection: close"), len(b"4\r\nabcd\r\n")
    head = head.replace(b"localhost", b"localhost" + b"x" * (-len(head) % segment))  # whose end is a segment's
    client = server.drip(head + chunked(content, 4)[:-2] + b"A: b\r\n\r\n", segment)
    assert answers(receive_all(client))[0].body == content


def test_a_connection_goes_on_behind_bodies_that_come_in_one_stream(server: Running) -> None:
    contents = [RANDOM.randbytes(size) for size in (1, THRESHOLD + 1, 70000) for _ in range(2)]
    client = server.send(b"".join(upload(each, 77 * (at % 2), "/?at-once") for at, each in enumerate(contents)))
    client.shutdown(socket.SHUT_WR)
    assert [answer.body for answer in answers(receive_all(client))] == contents


# 100 Continue


@pytest.mark.parametrize("field", [CHUNKED, HUGE])
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


# Refused bodies

TOO_LONG = {
    "extension": b"3;a=" + b"b" * 20480,
    "size": b"0" * 20480,
    "blank lines": b"\r\n" * 10240,
    "trailer": b"0\r\n" + b"A: b\r\n" * 3500,
    "trailer of one line": b"0\r\nA: " + b"b" * 20480,
    "blank lines behind data": b"3\r\nabc\r\n" + b"\r\n" * 20480,
}


@pytest.mark.parametrize("raw", TOO_LONG.values(), ids=TOO_LONG)
def test_framing_without_an_end_is_refused_early(raw: bytes) -> None:
    """S40: 20 KiB of it, or twice that behind data, whatever would follow."""
    answer, _, error = outcome_of(request("PUT /", CHUNKED) + raw)
    assert (answer.status, answer.message, str(error)) == (400, "Chunk header or trailer is too long", answer.message)


@pytest.mark.parametrize(
    ("raw", "text"), [(b"x\r\n", "Invalid chunk size"), (b"0\r\n\n", "Trailer: end lines with CR and LF")]
)
def test_what_came_before_a_broken_chunk_is_read_first(raw: bytes, text: str) -> None:
    """S48: and the rest is not waited for."""
    answer, got, error = outcome_of(request("PUT /", CHUNKED) + b"3\r\nabc\r\n" + raw, lets_through=False)
    assert (got, type(error), str(error)) == (b"abc", ValueError, text)
    assert (answer.status, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize("size", [99, 100, 2000])
def test_a_chunked_body_of_the_maximum_or_more_is_refused(size: int, chunk: int) -> None:
    """S34."""
    raw = upload(b"x" * size, chunk, "/", "Connection: close")
    answer, got, error = outcome_of(raw, max_request_body_size=100)
    if size < 100:
        assert (answer.status, len(got), error) == (204, size, None)
    else:
        assert isinstance(error, OSError)
        assert (error.errno, answer.status, len(got) <= 100) == (errno.EFBIG, 413, True)
        assert "max_request_body_size" in answer.message


# Clients that leave, or that nobody reads from


@pytest.mark.parametrize("start", [request("PUT /", CHUNKED) + b"FFFFFFFFF\r\n", request("PUT /", HUGE)])
def test_what_is_not_read_stays_with_the_client(start: bytes) -> None:
    """S40: what is taken is what the kernels of both sides buffer."""
    reader, taken = Reader(), 0
    with serving(reader) as server:
        client = server.send(start)
        reader.wait_for_entry()
        client.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while taken < 512 * MIB:
                taken += client.send(b"x" * MIB)
        client.close()
        got, error = reader.outcome()
    assert 0 < taken < 64 * MIB
    assert (len(got), isinstance(error, ConnectionError)) == (taken, True)


LEAVE: dict[str, Callable[[socket.socket], None]] = {
    "close": socket.socket.close,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
    "reset": leave_by_reset,
}


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("start", [b"", b"x" * 5000])
@pytest.mark.parametrize("field", [CHUNKED, SIZED])
def test_a_client_that_leaves_is_an_error_and_gets_no_answer(
    field: str, start: bytes, leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And never the end of the body."""
    reader = Reader(lets_through=True)
    with serving(reader, inbuf_overflow=THRESHOLD, log_socket_errors=not start) as server:
        client = server.send(request("PUT /", field) + (b"2710\r\n" if field == CHUNKED and start else b"") + start)
        reader.wait_for_entry()
        LEAVE[leave](client)
        got, error = reader.outcome()
        assert start.startswith(got)  # a reset may overtake it
        assert isinstance(error, ConnectionError)
        assert leave != "half-close" or receive_all(client) == b""
    assert len(server.lines()) == 1
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
        client = server.send(request("PUT /", HUGE, *fields))
        client.recv(1)
        leave_by_reset(client)
        server.wait_for_line()
    assert len(errors) == 1


# Slow clients


def test_silence_is_a_timeout_and_is_answered_408(caplog: pytest.LogCaptureFixture) -> None:
    """S40."""
    caplog.set_level(logging.INFO)
    answer, got, error = outcome_of(request("PUT /", CHUNKED) + b"7d0\r\nabc", upload_timeout=1)
    assert (got, type(error)) == (b"abc", TimeoutError)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "upload_timeout" in answer.message
    assert re.search(r" PUT / 408 \d+ [1-9]\d{3,4}ms ", caplog.text)


def drip(field: str, pieces: Iterable[bytes], rate: int) -> Outcome:
    """Send a piece every 10 ms, or faster if the server is slow, to one that wants so many bytes per second."""
    reader = Reader(lets_through=True)
    reader.may_read.set()
    with serving(reader, upload_min_rate=rate, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", field, "Connection: close"))
        for piece in pieces:
            if select.select([client], [], [], 0.01 if piece else 0.2)[0]:
                break
            client.sendall(piece)
        return answers(receive_all(client))[0], *reader.outcome()


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rate be judged after a moment of waiting."""
    monkeypatch.setattr(body, "WINDOW_SECONDS", 0.05)


SLOW = {
    "chunks": (CHUNKED, []),
    "sized": (HUGE, []),
    "after it was fast": (HUGE, [b"x" * 4 * MIB]),
}


@pytest.mark.usefixtures("short_window")
@pytest.mark.parametrize(("field", "first"), SLOW.values(), ids=SLOW)
def test_less_than_the_minimum_rate_is_a_timeout_and_is_answered_408(field: str, first: list[bytes]) -> None:
    """S40: who sends a byte now and then is never silent for long."""
    answer, _, error = drip(field, [*first, *[b"1\r\nx\r\n"] * 500], 100_000)
    assert (type(error), answer.status, "upload_min_rate" in answer.message) == (TimeoutError, 408, True)


PATIENT = {
    "no minimum": (CHUNKED, [b"1\r\nx\r\n"] * 20 + [b"0\r\n\r\n"], 0),
    "at the minimum": (CHUNKED, [b"1\r\nx\r\n"] * 20 + [b"0\r\n\r\n"], 1),
    "a pause, and enough behind it": (SIZED, [b"", b"x" * 10000], 1),  # or upload_timeout could not be longer
}


@pytest.mark.usefixtures("short_window")
@pytest.mark.parametrize(("field", "pieces", "rate"), PATIENT.values(), ids=PATIENT)
def test_a_client_that_keeps_the_minimum_rate_may_take_its_time(field: str, pieces: list[bytes], rate: int) -> None:
    answer, _, error = drip(field, pieces, rate)
    assert (answer.status, error) == (204, None)


@pytest.mark.usefixtures("short_window")
def test_the_time_that_the_application_takes_is_not_the_clients() -> None:
    may_read, never = threading.Event(), threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        may_read.wait(SECONDS)
        while environ["wsgi.input"].read(65536):
            never.wait(0.1)
        start_response("204 No Content", [])
        return []

    with serving(app, upload_min_rate=2 * MIB, inbuf_overflow=THRESHOLD) as server:
        client = server.send(request("PUT /", "Content-Length: 327680", "Connection: close"))
        client.sendall(b"x" * 327680)
        may_read.set()
        assert Answer.parse(receive_all(client)).status == 204


# Faults that are not the client's


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space is left"), ValueError("it failed")])
def test_a_fault_of_the_application_is_its_own(fault: Exception, reads: bool) -> None:
    """Though it has a type that errors of the body have."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with contextlib.suppress(ValueError):
            if reads:
                environ["wsgi.input"].read()
        raise fault

    with serving(app) as server:
        assert server.exchange(request("PUT /", CHUNKED) + b"x\r\n").status == 500


def test_an_error_after_the_answer_began_breaks_the_connection() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "100")])
        yield b"abc"
        environ["wsgi.input"].read()

    with serving(app) as server:
        answer = server.exchange(request("PUT /", CHUNKED) + b"x\r\n")
    assert (answer.status, answer.body, len(server.lines())) == (200, b"abc", 1)


def test_a_server_without_descriptors_does_not_say_that_the_client_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def dup(_: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket.socket, "dup", dup)
    answer, _, error = outcome_of(request("PUT /", HUGE))
    assert isinstance(error, OSError)
    assert (answer.status, error.errno, isinstance(error, ConnectionError)) == (500, errno.EMFILE, False)
