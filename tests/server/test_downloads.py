"""Files that are sent: by the kernel, in turns with the other connections, and never fewer bytes than promised."""

import io
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from pyrimage.server import downloads
from servers.in_process_server import MIB, Answer, Running, download, receive_all, request, serving, sparse

CONTENT = bytes(range(256)) * 1024
SIZE = 64 * MIB  # more than the sockets of both sides hold


def send_file(file: Any, length: int | None = None) -> WSGIApplication:
    """Return an application that sends an open file."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return answer

    return app


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return sparse(tmp_path / "large", SIZE)


class LikeFile:
    """No more than is asked of a file that can seek."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.seekable, self.seek, self.tell = self._file.seekable, self._file.seek, self._file.tell
        self.read, self.close = self._file.read, self._file.close


def read_ahead(path: Path) -> Any:
    """Return a file whose descriptor stands elsewhere than what reads it."""
    file = path.open("rb")
    file.read(10)
    return file


def piped(path: Path) -> Any:
    """Return a file that cannot seek."""
    reader, writer = os.pipe()
    os.write(writer, path.read_bytes()[:1000])
    os.close(writer)
    return os.fdopen(reader, "rb")


FILES: dict[str, tuple[Callable[[Path], WSGIApplication], bytes]] = {
    "nothing": (lambda path: download(path, 0), b""),
    "start": (lambda path: download(path, 5), CONTENT[:5]),
    "middle": (lambda path: download(path, 100000, 70000), CONTENT[70000:170000]),
    "end": (lambda path: download(path, 1, len(CONTENT) - 1), CONTENT[-1:]),
    "whole": (lambda path: download(path, len(CONTENT)), CONTENT),
    "behind what was read": (lambda path: send_file(read_ahead(path), 100), CONTENT[10:110]),
    "in memory": (lambda _: send_file(io.BytesIO(CONTENT), len(CONTENT)), CONTENT),
    "in memory, empty": (lambda _: send_file(io.BytesIO(), 0), b""),
    "in memory, of no stated length": (lambda _: send_file(io.BytesIO(CONTENT)), CONTENT),
    "like a file": (lambda _: send_file(LikeFile(CONTENT), len(CONTENT)), CONTENT),
    "pipe": (lambda path: send_file(piped(path), 1000), CONTENT[:1000]),
}


@pytest.mark.parametrize("part", [1000, downloads.BYTES_PER_TURN])
@pytest.mark.parametrize(("make", "content"), FILES.values(), ids=FILES)
def test_a_file_is_sent_and_logged_when_it_is_through(
    make: Callable[[Path], WSGIApplication], content: bytes, part: int, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BYTES_PER_TURN", part)
    monkeypatch.setattr(downloads.Download, "turn_left", part)
    with serving(make(image)) as server:
        answer = server.get()
    (line,) = server.lines()
    assert (answer.status, answer.body == content) == (200, True)
    assert line.split(" ")[3:5] == ["200", str(len(content))]


def test_a_connection_goes_on_behind_files_that_the_kernel_sends(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    sendfile = os.sendfile

    def counted(*arguments: Any) -> int:
        sent.append(sendfile(*arguments))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", counted)
    with serving(download(image, len(CONTENT))) as server:
        client = server.send(request("GET /") * 2 + request("GET /", "Connection: close"))
        assert receive_all(client).count(CONTENT) == 3
    assert [line.split(" ")[4] for line in server.lines()] == [str(len(CONTENT))] * 3
    assert sum(sent) == 3 * len(CONTENT)


# S16: files that end early


@pytest.mark.parametrize("size", [0, 99])
def test_a_file_that_is_too_short_is_never_announced_as_whole(tmp_path: Path, size: int) -> None:
    """S16, also where waitress keeps silent about errors of input and output."""
    with serving(download(sparse(tmp_path / "image", size), 100), log_socket_errors=False) as server:
        assert server.get("/").status == 500
    assert [line.split(" ")[3] for line in server.lines()] == ["500"]


class Shrinking(io.BytesIO):
    """A file without a descriptor; nothing is left of it once something was read."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.truncate(0)
        return data


def is_idle(server: Running) -> bool:
    """Tell whether the loop does nothing for a while, once the kernel's buffers are full."""
    other = server.connect()
    for seconds in (0.1, 0.5):
        before = server.cpu_seconds()
        other.settimeout(seconds)
        with pytest.raises(TimeoutError):
            other.recv(1)
    return server.cpu_seconds() - before < 0.1


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_file_that_ends_early_breaks_the_connection(large: Path, in_memory: bool) -> None:
    """S16: it shrinks while it is sent; waitress would try to read the rest for ever."""
    with serving(send_file(Shrinking(b"x" * SIZE)) if in_memory else download(large, SIZE)) as server:
        client = server.send(request("GET /image"))
        start = client.recv(1)
        os.truncate(large, 0)
        assert is_idle(server)  # before the client reads more
        got = Answer.parse(start + receive_all(client))
        line = server.wait_for_line()
    assert (got.headers["content-length"], len(got.body) < SIZE) == (str(SIZE), True)
    assert re.search(rf" 200 \d+/{SIZE} ", line)


# Many at once


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_loop_is_idle_while_clients_read_nothing(large: Path, in_memory: bool) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        made = send_file(io.BytesIO(bytes(SIZE)), SIZE) if in_memory else download(large, SIZE)
        return made(environ, start_response)

    with serving(app) as server:
        for _ in range(10):
            server.send(request("GET /")).recv(1)
        assert is_idle(server)
