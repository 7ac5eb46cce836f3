"""What a supervisor leaves to its next self. Workers, signals and SIGHUP: tests/system/workers/."""

import json
import os
import socket
import threading

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.pidfile import PidFile
from pyrimage.server.state import STATE, TRIAL, State, take_state, take_trial
from pyrimage.server.supervisor import Supervisor


def test_what_a_process_left_to_itself_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, line = socket.create_server(("127.0.0.1", 0)), socket.socketpair()
    place = listening.getsockname()
    monkeypatch.setenv(STATE, State([listening], line, {17: None, 18: 2.5}, 70.0, PidFile("/run/api.pid", 9)).dump())
    for each in (listening, *line):
        each.set_inheritable(True)
        each.detach()
    taken = take_state()
    assert taken is not None
    assert [each.getsockname() for each in taken.listening] == [place]
    assert (taken.workers, taken.grace_seconds) == ({17: None, 18: 2.5}, 70.0)
    assert taken.pid_file == PidFile("/run/api.pid", 9)
    assert not any(each.get_inheritable() for each in (*taken.listening, *taken.pipe))
    for each in (*taken.listening, *taken.pipe):
        each.close()
    assert take_state() is None


def test_what_another_process_left_is_not_taken_and_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE, json.dumps({"pid": os.getppid(), "listening": [0], "line": [1, 2], "workers": []}))
    assert take_state() is None
    assert STATE not in os.environ


def test_a_process_that_is_no_trial_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRIAL, raising=False)
    assert take_trial() is None


def test_workers_are_refused_where_there_are_threads() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with pytest.raises(ValueError, match="threads"):
        Supervisor(read_options({"workers": "1"}), None, None)
    over.set()
    thread.join()
