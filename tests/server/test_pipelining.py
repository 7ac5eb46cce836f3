"""Many requests on one connection: one is answered at a time, and none before the last answer is sent."""

import threading
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from servers.in_process_server import (
    MIB,
    SECONDS,
    Running,
    answers,
    download,
    echo,
    receive_all,
    request,
    serving,
    sparse,
)
from servers.processes import wait_until

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
        assert files.opened == 4 * THREADS
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
