"""Clients that send a body slowly, or not at all, or leave: back-pressure, and errors that say why."""

import contextlib
import itertools
import select
import socket
import threading
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from waitress.channel import ClientDisconnected

from pyrimage.server import body
from servers.in_process_server import (
    CHUNKED,
    MIB,
    SECONDS,
    THRESHOLD,
    Reader,
    answers,
    leave_by_reset,
    receive_all,
    refuse,
    request,
    serving,
)

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
