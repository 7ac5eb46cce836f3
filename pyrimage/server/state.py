"""What a supervisor passes on at a reload: to the process that tries the configuration, and to itself over ``exec``."""

import json
import os
import socket
from dataclasses import astuple, dataclass

from .pidfile import PidFile

# Environment variables that hold it as JSON.
STATE = "PYRIMAGE_SERVER_STATE"
TRIAL = "PYRIMAGE_SERVER_TRIAL"


@dataclass
class State:
    """What a supervisor keeps over ``exec``.

    pipe: the supervisor's and the workers' end. workers: by pid, the time of ``time.monotonic()`` at which each is
    killed, None if it was not told to end. grace_seconds: that workers of the previous configuration get to end.
    """

    listening: list[socket.socket]
    pipe: tuple[socket.socket, socket.socket]
    workers: dict[int, float | None]
    grace_seconds: float
    pid_file: PidFile | None

    def dump(self) -> str:
        """Return it as JSON. Its keys stay as they are: another release may read them after an upgrade."""
        return json.dumps(
            {
                "pid": os.getpid(),
                "listening": [listening.fileno() for listening in self.listening],
                "line": [end.fileno() for end in self.pipe],
                "workers": list(self.workers.items()),
                "patience": self.grace_seconds,
                "pid_file": self.pid_file and astuple(self.pid_file),
            }
        )


def take_state() -> State | None:
    """Return the state of this process before ``exec``, if there was one, and remove it from the environment."""
    found = json.loads(os.environ.pop(STATE, "{}"))
    if found.get("pid") != os.getpid():
        return None
    ours, theirs = _adopt(found["line"])
    pid_file = found["pid_file"] and PidFile(*found["pid_file"])
    return State(_adopt(found["listening"]), (ours, theirs), dict(found["workers"]), found["patience"], pid_file)


def take_trial() -> list[socket.socket] | None:
    """Return the supervisor's listening sockets if this process is to try a configuration; None otherwise."""
    found = os.environ.pop(TRIAL, None)
    return None if found is None else _adopt(json.loads(found))


def _adopt(descriptors: list[int]) -> list[socket.socket]:
    adopted = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in adopted:
        each.set_inheritable(False)
    return adopted
