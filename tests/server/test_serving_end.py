"""The end of a server: what runs is finished, nothing new begins."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrimage.server import channel
from pyrimage.server import serving as module
from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind
from servers.in_process_server import (
    MIB,
    SECONDS,
    Answer,
    Gate,
    Reader,
    Running,
    answers,
    download,
    echo,
    receive_all,
    request,
    said_of_the_connection,
    serving,
    sparse,
)
from servers.processes import wait_until

UPLOAD = request("PUT /", "Transfer-Encoding: chunked")
HALVES = {"line": b"GET", "header": b"GET / HTTP/1.1\r\n", "body": request("PUT /", "Content-Length: 9") + b"x"}


def stop(server: Running) -> None:
    """Stop, and wait until nobody can connect any more."""
    address = server.serving.listeners[0].socket.getsockname()
    server.serving.stop()

    def is_closed() -> bool:
        try:
            socket.create_connection(address, timeout=SECONDS).close()
        except ConnectionError:
            return True
        return False

    wait_until(is_closed, SECONDS)


def pause(server: Running) -> None:
    """Wait until nothing has come or gone for longer than idle connections are kept."""
    (connection,) = server.connections()
    wait_until(lambda: time.time() - connection.last_activity > 0.5, SECONDS)


@contextlib.contextmanager
def slow_request(raw: bytes, **settings: int) -> Iterator[tuple[Running, socket.socket, Callable[[], None]]]:
    """Serve a request that is answered when the function is called."""
    app = Gate()
    with serving(app, **settings) as server:
        client = server.send(raw)
        assert app.entered.acquire(timeout=SECONDS)
        yield server, client, app.opened.set


@pytest.mark.parametrize(
    "raw", [request("GET /slow"), request("GET /slow", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")]
)
def test_a_request_that_runs_is_answered_and_its_connection_closed(raw: bytes) -> None:
    """Also to an older client that wants to keep it: it is told only that it ends."""
    with slow_request(raw) as (server, client, answer):
        stop(server)
        answer()
        said = receive_all(client)
    assert (Answer.parse(said).status, said_of_the_connection(said)) == (200, [b"close"])


def test_an_upload_that_runs_is_taken_whole() -> None:
    reader = Reader()
    reader.may_read.set()
    with serving(reader) as server:
        client = server.send(UPLOAD + b"3\r\nabc\r\n")
        reader.wait_for_entry()
        stop(server)
        client.sendall(b"3\r\ndef\r\n0\r\n\r\n")
        (answer,) = answers(receive_all(client))
    assert (answer.status, answer.headers["connection"]) == (204, "close")
    assert reader.outcome() == (b"abcdef", None)


def test_a_download_that_runs_is_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to a client that pauses for longer than idle connections are kept."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    with serving(download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB)) as server:
        client = server.send(request("GET /"))
        start = client.recv(1)
        stop(server)
        pause(server)
        assert len(Answer.parse(start + receive_all(client)).body) == 64 * MIB


def test_a_request_that_is_half_sent_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rest is waited for longer than for a request that has not begun."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    with serving(echo) as server:
        client = server.send(b"GET / HTTP/1.1\r\n")
        wait_until(lambda: any(each.request for each in server.connections()), SECONDS)
        stop(server)
        pause(server)
        client.sendall(b"Host: x\r\n\r\n")
        (answer,) = answers(receive_all(client))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_request_on_an_idle_connection_is_answered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 5.0)
    with serving(Gate()) as server:
        idle = server.send(request("GET /"))
        server.wait_for_line()
        stop(server)
        idle.sendall(request("GET /"))
        first, second = answers(receive_all(idle))
    assert (first.status, "connection" in first.headers) == (200, False)
    assert (second.status, second.headers["connection"]) == (200, "close")


def test_idle_connections_are_closed_soon() -> None:
    with slow_request(request("GET /slow"), shutdown_timeout=1000) as (server, client, answer):
        fresh, idle = server.connect(), server.send(request("GET /"))
        server.wait_for_line()
        stop(server)
        assert (receive_all(fresh), len(answers(receive_all(idle)))) == (b"", 1)
        assert server.thread.is_alive()  # for the one that runs
        answer()
        assert answers(receive_all(client))[0].status == 200


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_half_a_request_is_not_waited_for_until_the_end(half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """S40: or whoever sends a byte could hold up every stop."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(channel, "PARTIAL_REQUEST_SECONDS", 0.1)
    with serving(echo, shutdown_timeout=1000) as server:
        client = server.send(half)
        wait_until(lambda: any(each.request for each in server.connections()), SECONDS)
        server.serving.stop()
        assert receive_all(client) == b""


def test_a_blank_line_behind_a_request_is_not_the_half_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients send it."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(channel, "PARTIAL_REQUEST_SECONDS", 1000.0)
    with serving(echo, shutdown_timeout=1000) as server:
        client = server.send(request("GET /") + b"\r\n")
        server.wait_for_line()
        wait_until(lambda: any(each.request for each in server.connections()), SECONDS)
        server.serving.stop()
        assert len(answers(receive_all(client))) == 1


def test_a_worker_that_was_replaced_leaves_idle_connections_more_time() -> None:
    with serving(echo) as server:
        server.serving.stop_after_handover()
        assert server.serving.idle_seconds > module.IDLE_SECONDS


@pytest.mark.parametrize("cut", [True, False])
def test_an_upload_that_takes_too_long_is_cut_and_hears_of_it(cut: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Or one that somebody wants to be cut."""
    reader = Reader()
    reader.may_read.set()
    with serving(reader, shutdown_timeout=1000 if cut else 0) as server:
        server.send(UPLOAD + b"3\r\nabc\r\n")
        reader.wait_for_entry()
        server.serving.stop()
        server.serving.stop()  # again does no harm
        if cut:
            server.serving.cut_transfers()
        got, error = reader.outcome()
        server.thread.join(SECONDS)
        assert not server.thread.is_alive()
    assert (got, isinstance(error, ConnectionError)) == (b"abc", True)
    assert "1 connections are cut: they took longer than shutdown_timeout" in caplog.messages


def test_a_download_that_takes_too_long_is_cut_and_logged(tmp_path: Path) -> None:
    with serving(download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB), shutdown_timeout=0) as server:
        client = server.send(request("GET /"))
        client.recv(1)
        server.serving.stop()
        server.thread.join(SECONDS)
    assert re.search(rf" 200 \d+/{64 * MIB} ", server.lines()[0])


@pytest.mark.parametrize(("backlog", "served"), [(1024, 3), (2, 2)])
def test_clients_that_connected_before_the_end_are_served_up_to_the_backlog(backlog: int, served: int) -> None:
    """Others may go on to listen there, so clients could come for ever."""
    options = read_options({"listen": "127.0.0.1:0", "upload_threads": 1, "backlog": str(backlog)})
    (listening,) = bind(options)
    clients = [socket.create_connection(listening.getsockname(), timeout=SECONDS) for _ in range(3)]
    for client in clients:
        client.sendall(request("GET /"))
    server = Serving(echo, options, [listening])
    server.stop()
    server.run()
    received = []
    for client in clients:
        with client, contextlib.suppress(ConnectionError):
            received += answers(receive_all(client))
    assert [answer.status for answer in received] == [200] * served
