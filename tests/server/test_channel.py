"""Connections: what a pass of the loop sends, slow requests, and two pools of threads."""

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrimage.server import tasks
from pyrimage.server.channel import Channel
from pyrimage.server.options import read_options
from pyrimage.server.parser import Parser
from pyrimage.server.serving import Serving, bind
from pyrimage.server.tasks import Download, Task
from servers.in_process_server import (
    MIB,
    SECONDS,
    Gate,
    Reader,
    answers,
    chunked,
    echo,
    leave_by_reset,
    receive_all,
    request,
    serving,
    sparse,
)
from servers.processes import wait_until

# The loop


@pytest.fixture
def connected() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel whose loop does not run, and its client."""
    options = read_options({"listen": "127.0.0.1:0", "threads": 1, "upload_threads": 1})
    (listening,) = bind(options)
    server = Serving(echo, options, [listening])
    with socket.create_connection(listening.getsockname()) as client:
        server.listeners[0].handle_accept()
        (made,) = [place for place in server.channels.values() if isinstance(place, Channel)]
        yield made, client
    server.stop()
    server.run()


def test_a_pass_of_the_loop_sends_no_more_of_a_file_than_its_part(
    connected: tuple[Channel, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the fastest reader would have the loop for itself."""
    made, client = connected
    monkeypatch.setattr(tasks, "BYTES_PER_TURN", 10000)
    monkeypatch.setattr(Download, "turn_left", 10000)
    file = Download(Task(made, Parser(made.adj)), sparse(tmp_path / "image", 35000).open("rb"))
    file.prepare(35000)
    made.write_soon(file)
    left = [made.total_outbufs_len]
    while made.total_outbufs_len:
        made.handle_write()
        left.append(made.total_outbufs_len)
    assert left == [25000, 15000, 5000, 0]
    assert client.recv(35000, socket.MSG_WAITALL) == bytes(35000)


def test_the_thread_that_answers_leaves_it_to_the_loop_to_close(
    connected: tuple[Channel, socket.socket], tmp_path: Path
) -> None:
    made, client = connected
    leave_by_reset(client)
    file = Download(Task(made, Parser(made.adj)), sparse(tmp_path / "image", MIB).open("rb"))
    file.prepare(MIB)
    made.write_soon(file)
    assert made.connected
    made.handle_write()
    assert (made.connected, file.file.closed) == (False, True)


# Slow requests

SLOW = {
    "header": [b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 100],
    "small body": [request("PUT /", "Content-Length: 100"), *[b"x"] * 99],
}


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW)
def test_a_request_that_is_not_complete_in_time_is_answered_408(pieces: list[bytes]) -> None:
    """S40: a byte now and then keeps no connection."""
    with serving(echo, channel_timeout=0) as server:
        client = server.connect()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(0.01)
        received = b""
        for piece in pieces:
            client.sendall(piece)
            try:
                received = client.recv(MIB)
            except TimeoutError:
                continue
            break
        client.settimeout(SECONDS)
        (answer,) = answers(received + receive_all(client))
        line = server.wait_for_line()
    assert (answer.status, "channel_timeout" in answer.message) == (408, True)
    assert answer.headers["x-openstack-request-id"] in line


def test_the_time_of_a_request_begins_with_its_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo, channel_timeout=1) as server:
        client = server.connect()
        client.settimeout(1.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.sendall(b"Connection: close\r\n\r\n")
        assert answers(receive_all(client))[0].status == 200


# The pools


def test_uploads_do_not_keep_other_requests_waiting() -> None:
    reader = Reader()
    reader.may_read.set()
    with serving(reader, threads=1, upload_threads=1) as server:
        stuck = [server.send(request("PUT /", "Content-Length: 2147483648")) for _ in range(3)]
        reader.wait_for_entry()
        assert server.get().status == 204
        assert server.get("/", "Content-Length: 0", method="PUT").status == 204
        for client in stuck:
            client.close()


def test_other_requests_do_not_keep_uploads_waiting() -> None:
    app = Gate()
    with serving(app, threads=1, upload_threads=1) as server:
        server.send(request("GET /slow"))
        assert app.entered.acquire(timeout=SECONDS)
        raw = request("PUT /", "Transfer-Encoding: chunked", "Connection: close") + chunked(b"abc", 3)
        assert server.exchange(raw).json["body"] == "abc"
        app.opened.set()


def test_an_upload_that_waited_for_a_thread_is_served() -> None:
    reader = Reader()
    with serving(reader, upload_threads=1) as server:
        raw = request("PUT /", "Transfer-Encoding: chunked", "Connection: close") + chunked(b"abc", 3)
        clients = [server.send(raw) for _ in range(3)]
        reader.wait_for_entry()
        outcomes = [reader.outcome() for _ in clients]
        assert [answers(receive_all(client))[0].status for client in clients] == [204] * 3
    assert outcomes == [(b"abc", None)] * 3


def test_many_slow_uploads_take_no_memory_of_the_loops(tmp_path: Path) -> None:
    """S40: what waits for a thread holds no more than was read with its header."""
    reader = Reader()
    with serving(reader, upload_threads=1, recv_bytes=65536, connection_limit=1000) as server:
        clients = [server.send(request("PUT /", f"Content-Length: {2**40}")) for _ in range(50)]
        for client in clients:
            client.setblocking(False)
            for _ in itertools.repeat(None, 100):
                try:
                    client.send(b"x" * 65536)
                except BlockingIOError:
                    break
        wait_until(lambda: sum(bool(place.requests) for place in server.connections()) == 50, SECONDS)
        held = [len(place.requests[0].body_start) for place in server.connections()]
        server.disconnect()
        reader.may_read.set()
    assert max(held) <= 65536
