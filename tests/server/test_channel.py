"""Connections: what a turn of the loop sends, slow requests, two pools of threads, and requests in advance."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from pyrimage.server import downloads
from pyrimage.server.channel import Channel
from pyrimage.server.downloads import Download, FileDownload
from pyrimage.server.options import read_options
from pyrimage.server.parser import Parser
from pyrimage.server.tasks import Task
from servers.in_process_server import (
    MIB,
    SECONDS,
    Gate,
    Reader,
    Running,
    answers,
    download,
    echo,
    leave_by_reset,
    receive_all,
    request,
    serving,
    sparse,
    upload,
)
from servers.processes import wait_until

Connect = Callable[[], tuple[Channel, socket.socket]]

# The loop


def begin_download(channel: Channel, path: Path) -> FileDownload:
    """Let a thread answer with a file; nothing is sent yet, for the connection is not the loop's turn."""
    file = FileDownload(Task(channel, Parser(channel.adj)), path.open("rb"))
    file.prepare(path.stat().st_size)
    channel.write_soon(file)
    return file


def test_a_turn_of_the_loop_sends_no_more_of_a_file_than_its_part(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the fastest reader would have the loop for itself."""
    monkeypatch.setattr(downloads, "BYTES_PER_TURN", 10000)
    monkeypatch.setattr(Download, "turn_left", 10000)
    channel, client = connect()
    begin_download(channel, sparse(tmp_path / "image", 35000))
    left = [channel.total_outbufs_len]
    while channel.total_outbufs_len:
        channel.handle_write()
        left.append(channel.total_outbufs_len)
    assert left == [25000, 15000, 5000, 0]
    assert client.recv(35000, socket.MSG_WAITALL) == bytes(35000)


def test_the_thread_that_answers_leaves_it_to_the_loop_to_close(connect: Connect, tmp_path: Path) -> None:
    channel, client = connect()
    leave_by_reset(client)
    file = begin_download(channel, sparse(tmp_path / "image", MIB))
    assert channel.connected
    channel.handle_write()
    assert (channel.connected, file.file.closed) == (False, True)


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
    assert (answer.status, "channel_timeout" in answer.message) == (408, True)


def test_a_small_body_has_as_much_time_as_the_header_had() -> None:
    parser = Parser(read_options({}))
    parser.began -= 1000
    parser.received(request("PUT /", "Content-Length: 3"))
    parser.received(b"ab")
    assert (parser.completed, parser.error) == (False, None)


# The pools


def test_uploads_do_not_keep_other_requests_waiting() -> None:
    reader = Reader()
    reader.may_read.set()
    with serving(reader, threads=1, upload_threads=1) as server:
        for _ in range(3):
            server.send(request("PUT /", "Content-Length: 2147483648"))
        reader.wait_for_entry()
        assert server.get().status == 204
        assert server.get("/", "Content-Length: 0", method="PUT").status == 204
        server.disconnect()


def test_other_requests_do_not_keep_uploads_waiting() -> None:
    app = Gate()
    with serving(app, threads=1, upload_threads=1) as server:
        server.send(request("GET /slow"))
        assert app.entered.acquire(timeout=SECONDS)
        answers_of = [server.exchange(upload(b"abc", 3, "/", "Connection: close")) for _ in range(3)]
        assert [answer.json["body"] for answer in answers_of] == ["abc"] * 3
        app.opened.set()


def test_many_slow_uploads_take_no_memory_of_the_loops() -> None:
    """S40: what waits for a thread holds no more than was read with its header."""
    reader = Reader()
    with serving(reader, upload_threads=1, recv_bytes=65536, connection_limit=1000) as server:
        for _ in range(50):
            client = server.send(request("PUT /", f"Content-Length: {2**40}"))
            client.setblocking(False)
            for _ in itertools.repeat(None, 100):
                try:
                    client.send(b"x" * 65536)
                except BlockingIOError:
                    break
        wait_until(lambda: sum(bool(each.requests) for each in server.connections()) == 50, SECONDS)
        held = [len(each.requests[0].body_start) for each in server.connections()]
        server.disconnect()
        reader.may_read.set()
    assert max(held) <= 65536


def test_a_thread_waits_for_a_client_that_does_not_read_a_long_answer() -> None:
    """Also when it is not the first one of the connection."""
    pieces = iter([bytes(65536)] * 400)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/long":
            return echo(environ, start_response)
        start_response("200 OK", [])
        return pieces

    with serving(app, outbuf_high_watermark=65536) as server:
        server.connect(receive_buffer=4096).sendall(request("GET /") + request("GET /long"))
        wait_until(lambda: any(each.total_outbufs_len for each in server.connections()), SECONDS)
        other = server.connect()
        other.settimeout(0.3)
        with pytest.raises(TimeoutError):
            other.recv(1)
        server.disconnect()
    assert len(list(pieces)) > 0


# Many requests on one connection: one is answered at a time, and none before the last answer is sent

SIZE = 64 * MIB  # more than the sockets of both sides hold
THREADS = 2


class Files:
    """An application that sends a large file at ``/slow``, and the environ elsewhere; it counts the files."""

    def __init__(self, directory: Path) -> None:
        self._download = download(sparse(directory / "image", SIZE), SIZE)
        self._lock = threading.Lock()
        self.opened = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/slow":
            return echo(environ, start_response)
        with self._lock:
            self.opened += 1
        return self._download(environ, start_response)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def fill(server: Running, count: int) -> None:
    """Let clients ask for the file many times over, and read nothing; return when each has an answer on its way."""
    for _ in range(count):
        server.connect(receive_buffer=4096).sendall(request("GET /slow") * 50)
    wait_until(lambda: sum(each.is_waiting for each in server.connections()) == count, SECONDS)


def test_clients_that_do_not_read_hold_no_thread_and_one_file_each(files: Files) -> None:
    """S40."""
    with serving(files, threads=THREADS) as server:
        fill(server, 4 * THREADS)
        assert server.get("/").status == 200
        server.disconnect()
    assert files.opened == 4 * THREADS


def test_who_reads_in_the_end_gets_every_answer_in_order(files: Files) -> None:
    with serving(files, threads=THREADS) as server:
        client = server.send(request("GET /slow") + request("GET /a") + request("GET /b", "Connection: close"))
        wait_until(lambda: any(each.is_waiting for each in server.connections()), SECONDS)
        found = answers(receive_all(client))
    assert len(found[0].body) == SIZE
    assert [answer.json["PATH_INFO"] for answer in found[1:]] == ["/a", "/b"]


def test_who_never_reads_is_let_go(files: Files) -> None:
    """S40: a request that waits behind an answer is no reason to keep a connection for ever."""
    with serving(files, threads=THREADS, channel_timeout=1, cleanup_interval=1) as server:
        fill(server, 2)
        wait_until(lambda: not server.connections(), SECONDS)
        assert server.get("/").status == 200
