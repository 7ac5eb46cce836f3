"""What a worker's loop tells its supervisor. What comes of it: tests/system/workers/test_workers_stuck.py."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind
from pyrimage.server.watchdog import LISTEN_SECONDS, PID_BYTES, Heartbeat, Watchdog, read_beats, waits_for_disk
from servers.in_process_server import SECONDS, echo
from servers.processes import wait_until


@pytest.fixture
def line() -> Iterator[socket.socket]:
    """The supervisor's end of the line to a server, which must end when this does."""
    options = read_options({"listen": "127.0.0.1:0", "asyncore_loop_timeout": "1000", "upload_threads": "1"})
    server = Serving(echo, options, bind(options))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    Heartbeat(theirs, server)
    loop = threading.Thread(target=server.run)
    loop.start()
    with ours:
        ours.settimeout(SECONDS)
        yield ours
    loop.join(SECONDS)
    assert not loop.is_alive()


def test_a_loop_tells_again_and_again_that_it_turns(line: socket.socket) -> None:
    assert [read_beats(line.recv(PID_BYTES)) for _ in range(3)] == [[os.getpid()]] * 3


def test_several_beats_may_come_at_once() -> None:
    assert read_beats(b"".join(pid.to_bytes(PID_BYTES) for pid in (1, 4194304, 17))) == [1, 4194304, 17]


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


NOBODY = 2**22 + 1  # no process has this number, so none of it waits for a disk


def test_a_silence_begins_with_the_last_beat_and_not_with_what_was_noted_before() -> None:
    watchdog = Watchdog(timeout=1)
    for beat in (0.0, 0.5, 1.0):
        watchdog.note_beats([NOBODY], beat)
    for later in (1.5, 2.0):
        watchdog.note_beats([], later)
    assert watchdog.stuck() == {}
    watchdog.note_beats([], 2.25)
    assert watchdog.stuck() == {NOBODY: 1.25}


def test_a_beat_ends_a_silence_of_any_length() -> None:
    watchdog = Watchdog(timeout=1)
    watchdog.note_beats([NOBODY], 0.0)
    for later in (0.5, 1.0, 1.5):
        watchdog.note_beats([], later)
    watchdog.note_beats([NOBODY], 2.0)
    assert watchdog.stuck() == {}


def test_a_time_in_which_nobody_listened_counts_for_little() -> None:
    watchdog = Watchdog(timeout=1)
    watchdog.note_beats([NOBODY], 0.0)
    watchdog.note_beats([], 1000.0)
    assert watchdog.stuck() == {}
    watchdog.note_beats([], 1000.0 + LISTEN_SECONDS)
    watchdog.note_beats([], 1000.0 + 2 * LISTEN_SECONDS)
    assert watchdog.stuck() == {NOBODY: 3 * LISTEN_SECONDS}


def test_a_worker_is_watched_from_its_first_beat_until_it_is_forgotten() -> None:
    watchdog = Watchdog(timeout=1)
    watchdog.note_beats([], 0.0)
    assert not watchdog.is_watching()
    watchdog.note_beats([NOBODY], 0.5)
    assert watchdog.is_watching()
    watchdog.forget(NOBODY)
    assert not watchdog.is_watching()


def test_nobody_is_watched_without_a_timeout() -> None:
    watchdog = Watchdog(timeout=0)
    watchdog.note_beats([NOBODY], 0.0)
    assert not watchdog.is_watching()
    watchdog.note_beats([], 1.0)
    assert watchdog.stuck() == {}
