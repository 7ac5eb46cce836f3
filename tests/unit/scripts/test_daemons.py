"""Handles of processes: what is done by one is never done to another that got the same number."""

import signal
import subprocess

import psutil

from pyrimage.scripts.daemons import handles_of


def test_a_handle_is_of_a_process_that_lives() -> None:
    with (
        subprocess.Popen(["sleep", "1000"]) as alive,
        subprocess.Popen(["true"]) as ended,
    ):
        processes = [psutil.Process(alive.pid), psutil.Process(ended.pid)]
        ended.wait()
        with handles_of(processes) as handles:
            (handle,) = handles
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert alive.wait() == -signal.SIGKILL
