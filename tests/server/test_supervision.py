"""Heartbeats, and what a supervisor passes on. What comes of it, with processes: tests/system/workers/."""

import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from pyrimage.server import watchdog as module
from pyrimage.server.options import read_options
from pyrimage.server.pidfile import PidFile
from pyrimage.server.serving import Serving, bind
from pyrimage.server.state import STATE, TRIAL, State, take_state, take_trial
from pyrimage.server.supervisor import Supervisor
from pyrimage.server.watchdog import LISTEN_SECONDS, PID_BYTES, Heartbeat, Watchdog, read_beats, waits_for_disk
from servers.in_process_server import SECONDS, echo, serving
from servers.processes import wait_until

# What a worker's loop tells


@pytest.fixture
def pipe() -> Iterator[socket.socket]:
    """The supervisor's end of the pipe to a server, which must end when this does."""
    options = read_options({"listen": "127.0.0.1:0", "asyncore_loop_timeout": "1000", "upload_threads": "1"})
    server = Serving(echo, options, bind(options))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    made = Heartbeat(theirs, server)
    assert server.connections.heartbeat == made.beat
    loop = threading.Thread(target=server.run)
    loop.start()
    with ours:
        ours.settimeout(SECONDS)
        yield ours
    loop.join(SECONDS)
    assert not loop.is_alive()


def test_a_loop_sends_heartbeats_while_it_turns(pipe: socket.socket) -> None:
    assert [read_beats(pipe.recv(PID_BYTES)) for _ in range(3)] == [[os.getpid()]] * 3
    assert read_beats(b"".join(pid.to_bytes(PID_BYTES) for pid in (1, 4194304, 17))) == [1, 4194304, 17]


def test_a_turn_with_many_connections_tells_of_each() -> None:
    """Thousands that are ready at once can keep the loop busy for longer than a turn may take."""
    beats: list[None] = []
    with serving(echo) as server:
        server.serving.connections.heartbeat = lambda: beats.append(None)
        for _ in range(5):
            server.send(b"GET")
        wait_until(lambda: len(beats) == 5, SECONDS)


# What a supervisor makes of it

WORKER = 17


@pytest.fixture
def in_disk_sleep(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The workers that wait for a disk."""
    waiting: set[int] = set()
    monkeypatch.setattr(module, "waits_for_disk", waiting.__contains__)
    return waiting


SILENCES: dict[str, tuple[int, list[tuple[float, bool]], dict[int, float]]] = {
    "begins with the last beat": (1, [(0, True), (0.5, True), (1.0, True), (1.5, False), (2.0, False)], {}),
    "is too long": (1, [(0, True), (0.5, False), (1.0, False), (1.25, False)], {WORKER: 1.25}),
    "ends with a beat": (1, [(0, True), (0.5, False), (1.0, False), (1.5, False), (2.0, True)], {}),
    "while nobody listened": (1, [(0, True), (1000, False)], {}),
    "after nobody listened": (1, [(0, True), (1000, False), (1000.5, False), (1001, False)], {WORKER: 1.5}),
    "before the first beat": (1, [(0, False), (0.5, False), (1.0, False), (1.5, False)], {}),
    "without a timeout": (0, [(0, True), (0.5, False), (1.0, False)], {}),
}


@pytest.mark.usefixtures("in_disk_sleep")
@pytest.mark.parametrize(("timeout", "beats", "stuck"), SILENCES.values(), ids=SILENCES)
def test_a_worker_is_stuck_when_its_silence(
    timeout: int, beats: list[tuple[float, bool]], stuck: dict[int, float]
) -> None:
    watchdog = Watchdog(timeout)
    for at, has_come in beats:
        watchdog.note_beats([WORKER] * has_come, at)
    assert watchdog.stuck() == stuck
    assert watchdog.is_watching() is (timeout > 0 and beats[0][1])
    watchdog.forget(WORKER)
    assert not watchdog.is_watching()


def test_a_worker_that_waits_for_a_disk_is_not_stuck_until_it_could_send_a_beat(in_disk_sleep: set[int]) -> None:
    watchdog, now = Watchdog(5), 0.0
    watchdog.note_beats([WORKER], now)

    def wait(seconds: float) -> bool:
        nonlocal now
        for _ in range(int(seconds / LISTEN_SECONDS)):
            now += LISTEN_SECONDS
            watchdog.note_beats([], now)
        return bool(watchdog.stuck())

    in_disk_sleep.add(WORKER)
    assert not wait(100)
    in_disk_sleep.clear()
    assert not wait(1)
    assert wait(5)


def test_a_process_that_runs_or_has_ended_waits_for_no_disk() -> None:
    assert not waits_for_disk(os.getpid())
    assert not waits_for_disk(2**22 + 1)


# What it passes on over exec


def test_what_a_process_left_to_itself_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, pipe = socket.create_server(("127.0.0.1", 0)), socket.socketpair()
    address = listening.getsockname()
    monkeypatch.setenv(STATE, State([listening], pipe, {17: None, 18: 2.5}, 70.0, PidFile("/run/api.pid", 9)).dump())
    for each in (listening, *pipe):
        each.set_inheritable(True)
        each.detach()
    taken = take_state()
    assert taken is not None
    assert [each.getsockname() for each in taken.listening] == [address]
    assert (taken.workers, taken.grace_seconds) == ({17: None, 18: 2.5}, 70.0)
    assert taken.pid_file == PidFile("/run/api.pid", 9)
    assert not any(each.get_inheritable() for each in (*taken.listening, *taken.pipe))
    for each in (*taken.listening, *taken.pipe):
        each.close()
    assert take_state() is None


def test_what_another_process_left_is_not_taken_and_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE, json.dumps({"pid": os.getppid(), "listening": [0], "line": [1, 2], "workers": []}))
    monkeypatch.delenv(TRIAL, raising=False)
    assert (take_state(), take_trial()) == (None, None)
    assert STATE not in os.environ


def test_workers_are_refused_where_there_are_threads() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with pytest.raises(ValueError, match="threads"):
        Supervisor(read_options({"workers": "1"}), None, None)
    over.set()
    thread.join()
