"""What a worker's loop tells its supervisor. What comes of it: tests/system/workers/test_workers_stuck.py."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind
from pyrimage.server.watchdog import PID_BYTES, Lifeline, pids, waits_for_disk
from servers.loop import SECONDS, echo
from servers.processes import wait_until


@pytest.fixture
def line() -> Iterator[socket.socket]:
    """The supervisor's end of the line to a server, which must end when this does."""
    options = read_options({"listen": "127.0.0.1:0", "asyncore_loop_timeout": "1000", "upload_threads": "1"})
    server = Serving(echo, options, bind(options))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    Lifeline(theirs, server)
    loop = threading.Thread(target=server.run)
    loop.start()
    with ours:
        ours.settimeout(SECONDS)
        yield ours
    loop.join(SECONDS)
    assert not loop.is_alive()


def test_a_loop_tells_again_and_again_that_it_turns(line: socket.socket) -> None:
    assert [pids(line.recv(PID_BYTES)) for _ in range(3)] == [[os.getpid()]] * 3


def test_several_words_may_come_at_once() -> None:
    assert pids(b"".join(pid.to_bytes(PID_BYTES) for pid in (1, 4194304, 17))) == [1, 4194304, 17]


def test_a_turn_with_many_connections_tells_of_each() -> None:
    """Thousands that are ready at once can keep the loop busy for longer than a turn may take."""
    options = read_options({"listen": "127.0.0.1:0"})
    listening = bind(options)
    server = Serving(echo, options, listening)
    beats: list[None] = []
    server.connections.heartbeat = lambda: beats.append(None)
    with contextlib.ExitStack() as opened:
        for _ in range(5):
            opened.enter_context(socket.create_connection(listening[0].getsockname(), SECONDS)).sendall(b"GET")
        loop = threading.Thread(target=server.run)
        loop.start()
        wait_until(lambda: len(beats) == 5, SECONDS)
        server.stop()
    loop.join(SECONDS)
    assert not loop.is_alive()


def test_a_process_that_runs_waits_for_no_disk() -> None:
    assert not waits_for_disk(os.getpid())


def test_a_process_that_has_ended_waits_for_no_disk() -> None:
    assert not waits_for_disk(2**22 + 1)
