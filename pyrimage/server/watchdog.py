"""How a supervisor knows that the loop of a worker turns: the worker's end of their line, and what the system tells."""

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

# After a beat, so long at least until the next; a turn that ends just before then adds TURN_SECONDS.
BEAT_SECONDS = TURN_SECONDS / 2
LISTEN_SECONDS = 0.5  # that a supervisor waits for beats at most
SILENT_SECONDS = 2 * LISTEN_SECONDS  # from which on it is looked at what a worker waits for
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


class Watchdog:
    """For how long the loops of workers did not beat, while their supervisor listened; ``timeout`` 0: for no matter.

    A worker is watched from its first beat on. Times are those of ``time.monotonic()``.
    """

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._silences: dict[int, float] = {}  # in seconds, by pid
        self._counted = 0.0  # up to when

    def is_watching(self) -> bool:
        """Say whether ``note_beats`` need be called, every LISTEN_SECONDS."""
        return bool(self._silences)

    def note_beats(self, pids: Collection[int], now: float) -> None:
        """Take note of who has beaten since the last call, and of those that have not.

        A time in which the supervisor did not listen, or nobody ran, counts for little: beats may not have come. Nor
        does the time in which a worker waits for a disk: what can be stored or sent when a stalled one goes on would be
        lost.
        """
        passed, self._counted = min(now - self._counted, LISTEN_SECONDS), now
        if not self._timeout:
            return
        for pid, before in self._silences.items():
            silence = before + passed
            if silence > min(SILENT_SECONDS, self._timeout) and pid not in pids and waits_for_disk(pid):
                silence = min(before, self._timeout - SILENT_SECONDS)  # it is to beat, later
            self._silences[pid] = silence
        self._silences |= dict.fromkeys(pids, 0.0)

    def forget(self, pid: int) -> None:
        """Watch a worker no more, until its next beat."""
        self._silences.pop(pid, None)

    def stuck(self) -> dict[int, float]:
        """Return the workers that did not beat for longer than the timeout, and for how many seconds."""
        return {pid: silence for pid, silence in self._silences.items() if silence > self._timeout}


def read_beats(said: bytes) -> list[int]:
    """Return the pids of the workers that have written to the line."""
    return [int.from_bytes(said[start : start + PID_BYTES]) for start in range(0, len(said), PID_BYTES)]


def waits_for_disk(pid: int) -> bool:
    """Tell whether a thread of a process is in the uninterruptible sleep (``D``) of whoever waits for a disk."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            if stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "D":
                return True
    return False
