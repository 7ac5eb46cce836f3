"""Files that are sent: by the kernel, in turns with the other connections, and never fewer bytes than promised."""

import contextlib
import io
import os
import re
import resource
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from pyrimage.server import tasks
from servers.in_process_server import MIB, SECONDS, Answer, download, receive_all, request, serving, sparse
from servers.processes import wait_until

CONTENT = bytes(range(256)) * 1024


def access_lines(app: WSGIApplication) -> list[str]:
    """Return the access lines of one request."""
    with serving(app) as server:
        server.get()
    return server.lines()


def send_file(file: IO[bytes], length: int | None = None) -> WSGIApplication:
    """Return an application that sends an open file."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return answer

    return app


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


# S16: the file shrinks while it is sent; the loop would ask for more for ever.


class Shrinking(io.BytesIO):
    """A file without a descriptor; nothing is left of it once something was read."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.truncate(0)
        return data


def test_a_file_in_memory_that_ends_early_breaks_the_connection() -> None:
    """S16."""
    with serving(send_file(Shrinking(b"x" * 64 * MIB))) as server:
        got = Answer.parse(receive_all(server.send(request("GET /"))))
        wait_until(lambda: server.connections() == [], SECONDS)
    assert (got.headers["content-length"], len(got.body) < 64 * MIB) == (str(64 * MIB), True)
    assert re.search(rf" 200 \d+/{64 * MIB} ", server.lines()[0])


def idle_for(client: socket.socket, seconds: float) -> None:
    client.settimeout(seconds)
    with pytest.raises(TimeoutError):
        client.recv(1)


def test_the_loop_is_idle_while_clients_read_nothing(tmp_path: Path) -> None:
    with serving(download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB)) as server:
        for _ in range(10):
            server.send(request("GET /")).recv(1)
        other = server.connect()
        idle_for(other, 0.1)  # until the kernel's buffers are full
        before = server.cpu_seconds()
        idle_for(other, 0.5)
        assert server.cpu_seconds() - before < 0.1


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_loop_is_idle_after_a_file_ended_early(tmp_path: Path, in_memory: bool) -> None:
    """S16."""
    path = sparse(tmp_path / "image", 64 * MIB)
    with serving(send_file(Shrinking(b"x" * 64 * MIB)) if in_memory else download(path, 64 * MIB)) as server:
        client, other = server.send(request("GET /")), server.connect()
        client.recv(1)
        os.truncate(path, 0)
        idle_for(other, 0.1)
        before = server.cpu_seconds()
        idle_for(other, 0.5)
        assert server.cpu_seconds() - before < 0.1


# Ranges, and files of other kinds


@pytest.mark.parametrize(("offset", "length"), [(0, 5), (3, 5), (70000, 100000), (len(CONTENT) - 1, 1)])
def test_a_range_is_sent_from_where_the_file_stands(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    with serving(download(path, length, offset)) as server:
        assert server.get().body == CONTENT[offset : offset + length]
    assert server.lines()[0].split(" ")[3:5] == ["200", str(length)]


def test_a_range_behind_what_was_read_from_the_file_is_sent(tmp_path: Path) -> None:
    """The descriptor stands elsewhere than the file that reads ahead."""
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        file.read(10)
        with serving(send_file(file, 100)) as server:
            assert server.get().body == CONTENT[10:110]


def test_a_connection_goes_on_behind_a_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    with serving(download(path, len(CONTENT))) as server:
        client = server.send(request("GET /") * 2 + request("GET /", "Connection: close"))
        assert receive_all(client).count(CONTENT) == 3
    assert [line.split(" ")[4] for line in server.lines()] == [str(len(CONTENT))] * 3


@pytest.mark.parametrize(
    ("size", "names_length"), [(0, True), (1, True), (1, False), (len(CONTENT), True), (len(CONTENT), False)]
)
def test_a_file_in_memory_is_sent(size: int, names_length: bool) -> None:
    file = io.BytesIO(CONTENT[:size])
    with serving(send_file(file, size if names_length else None)) as server:
        assert server.get().body == CONTENT[:size]
    assert (server.lines()[0].split(" ")[3:5], file.closed) == (["200", str(size)], True)


class LikeFile:
    """No more than is asked of a file that can seek."""

    def __init__(self, content: bytes) -> None:
        self._held = io.BytesIO(content)
        self.seekable, self.seek, self.tell = self._held.seekable, self._held.seek, self._held.tell
        self.read, self.close = self._held.read, self._held.close

    @property
    def closed(self) -> bool:
        return self._held.closed


def test_what_is_like_a_file_and_has_no_descriptor_is_sent() -> None:
    file: Any = LikeFile(CONTENT)
    with serving(send_file(file, len(CONTENT))) as server:
        assert server.get().body == CONTENT
    assert (server.lines()[0].split(" ")[3:5], file.closed) == (["200", str(len(CONTENT))], True)


def test_a_file_goes_from_the_kernel_to_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    sent: list[int] = []
    sendfile = os.sendfile

    def counted(*arguments: Any) -> int:
        sent.append(sendfile(*arguments))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", counted)
    with serving(download(path, len(CONTENT))) as server:
        assert server.get().body == CONTENT
    assert sum(sent) == len(CONTENT)


# Many at once


def read_on(client: socket.socket) -> None:
    """Read as fast as it comes, until the connection is over."""
    buffer = bytearray(MIB)
    with contextlib.suppress(ConnectionError):
        while client.recv_into(buffer):
            pass


def test_the_fastest_reader_leaves_time_for_the_others(tmp_path: Path) -> None:
    endless, small = sparse(tmp_path / "endless", 2**40), sparse(tmp_path / "small", 8 * MIB)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = endless if environ["PATH_INFO"] == "/endless" else small
        return download(path, path.stat().st_size)(environ, start_response)

    with serving(app) as server:
        client = server.send(request("GET /endless"))
        reader = threading.Thread(target=read_on, args=(client,))
        reader.start()
        try:
            assert [len(server.get().body) for _ in range(5)] == [8 * MIB] * 5
            assert reader.is_alive()
        finally:
            client.shutdown(socket.SHUT_RDWR)
            reader.join(SECONDS)


def test_a_file_is_sent_in_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their size, no byte is lost between them."""
    monkeypatch.setattr(tasks, "BYTES_PER_TURN", 1000)
    monkeypatch.setattr(tasks.Download, "turn_left", 1000)
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    with serving(download(path, len(CONTENT))) as server:
        assert server.get().body == CONTENT


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_slow_readers_hold_no_threads(tmp_path: Path) -> None:
    """S40."""
    app = download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB)
    with serving(app, threads=8, connection_limit=4000, backlog=1024) as server:
        slow = [server.connect(receive_buffer=4096) for _ in range(500)]
        for client in slow:
            client.sendall(request("GET /slow"))
        for client in slow:
            client.recv(1)
        assert len(server.get().body) == 64 * MIB
        assert len(server.connections()) >= 500
