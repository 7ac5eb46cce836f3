"""How a supervisor knows that the loop of a worker turns: the worker's end of their line, and what the system tells."""

import contextlib
import logging
import os
import socket
import time
from pathlib import Path

from waitress import wasyncore

from .serving import TURN_SECONDS, Serving

log = logging.getLogger(__package__)

BEAT_SECONDS = TURN_SECONDS  # between two words of a worker
PID_BYTES = 4


class Lifeline(wasyncore.dispatcher):
    """A worker's end of the line to its supervisor, to which its loop writes the worker's pid again and again."""

    def __init__(self, line: socket.socket, serving: Serving) -> None:
        super().__init__(line, serving.channels)
        self.connected = True  # which waitress leaves to whoever has connected the socket
        self._serving = serving
        self._next_beat = 0.0
        serving.connections.heartbeat = self.beat

    def beat(self) -> None:
        """Tell the supervisor that this process serves, if it is time to."""
        if self.writable():
            self.handle_write()

    def handle_write(self) -> None:
        """Tell the supervisor that this process serves."""
        self._next_beat = time.monotonic() + BEAT_SECONDS
        with contextlib.suppress(OSError):  # it is gone: the loop hears of that
            self.send(os.getpid().to_bytes(PID_BYTES))

    def writable(self) -> bool:
        """Say whether it is time to."""
        return time.monotonic() >= self._next_beat

    def handle_read(self) -> None:
        """Find the end of the line: nobody writes to a worker."""
        self.recv(PID_BYTES)

    def handle_close(self) -> None:
        """Stop, for the supervisor died."""
        if self.connected:
            log.warning("the supervisor is gone: worker %d ends", os.getpid())
            self.close()
            self._serving.stop()


def pids(said: bytes) -> list[int]:
    """Return the workers that have written to the line."""
    return [int.from_bytes(said[start : start + PID_BYTES]) for start in range(0, len(said), PID_BYTES)]


def waits_for_disk(pid: int) -> bool:
    """Tell whether a thread of a process is in the uninterruptible sleep (``D``) of whoever waits for a disk."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            if stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "D":
                return True
    return False
