"""Heartbeats from the main loops of workers, by which the supervisor finds those that hang."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Collection
from pathlib import Path

from waitress import wasyncore

from .serving import TURN_SECONDS, Serving

log = logging.getLogger(__package__)

# At least so long between two heartbeats, and TURN_SECONDS more at most where the main loop is idle.
BEAT_SECONDS = TURN_SECONDS / 2
LISTEN_SECONDS = 0.5  # that the supervisor waits for heartbeats at most
SILENT_SECONDS = 2 * LISTEN_SECONDS  # without a heartbeat; then it is checked whether the worker waits for a disk
PID_BYTES = 4


class Heartbeat(wasyncore.dispatcher):
    """A worker's end of the pipe to its supervisor: the main loop writes the worker's pid to it as a heartbeat."""

    def __init__(self, pipe: socket.socket, serving: Serving) -> None:
        super().__init__(pipe, serving.channels)
        self.connected = True  # waitress cannot see that of a Unix socket pair
        self._serving = serving
        self._next_beat = 0.0
        serving.connections.heartbeat = self.beat

    def beat(self) -> None:
        """Send a heartbeat if one is due."""
        if self.writable():
            self.handle_write()

    def handle_write(self) -> None:
        """Send a heartbeat."""
        self._next_beat = time.monotonic() + BEAT_SECONDS
        with contextlib.suppress(OSError):  # the supervisor died: the main loop finds the pipe closed
            self.send(os.getpid().to_bytes(PID_BYTES))

    def writable(self) -> bool:
        """Tell whether a heartbeat is due."""
        return time.monotonic() >= self._next_beat

    def handle_read(self) -> None:
        """Notice a closed pipe: the supervisor never writes to it."""
        self.recv(PID_BYTES)

    def handle_close(self) -> None:
        """Stop serving: the supervisor died."""
        if self.connected:
            log.warning("the supervisor is gone: worker %d ends", os.getpid())
            self.close()
            self._serving.stop()


class Watchdog:
    """Counts for how long each worker has sent no heartbeat. timeout: in seconds; 0: no worker is watched.

    A worker is watched from its first heartbeat on. Times are those of ``time.monotonic()``.
    """

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._silences: dict[int, float] = {}  # in seconds, by pid
        self._counted = 0.0  # the time of the last call of note_beats

    def is_watching(self) -> bool:
        """Tell whether ``note_beats`` must be called every LISTEN_SECONDS."""
        return bool(self._silences)

    def note_beats(self, pids: Collection[int], now: float) -> None:
        """Note which workers have sent a heartbeat since the last call; count the time for the others.

        A call counts LISTEN_SECONDS at most: the supervisor itself, or the whole machine, may have been stopped
        meanwhile. Time in which a worker waits for a disk does not count: killing it would lose what it is storing or
        sending, and the disk may come back.
        """
        passed, self._counted = min(now - self._counted, LISTEN_SECONDS), now
        if not self._timeout:
            return
        for pid, before in self._silences.items():
            silence = before + passed
            if silence > min(SILENT_SECONDS, self._timeout) and pid not in pids and waits_for_disk(pid):
                silence = min(before, self._timeout - SILENT_SECONDS)  # time for a heartbeat when the disk is back
            self._silences[pid] = silence
        self._silences |= dict.fromkeys(pids, 0.0)

    def forget(self, pid: int) -> None:
        """Stop watching a worker, until its next heartbeat."""
        self._silences.pop(pid, None)

    def stuck(self) -> dict[int, float]:
        """Return the workers without a heartbeat for longer than the timeout, with the seconds."""
        return {pid: silence for pid, silence in self._silences.items() if silence > self._timeout}


def read_beats(said: bytes) -> list[int]:
    """Return the pids of the workers whose heartbeats were received."""
    return [int.from_bytes(said[start : start + PID_BYTES]) for start in range(0, len(said), PID_BYTES)]


def waits_for_disk(pid: int) -> bool:
    """Tell whether a thread of a process is in uninterruptible sleep (state ``D``), as while it waits for a disk."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            if stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "D":
                return True
    return False
