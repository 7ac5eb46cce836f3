"""What a supervisor hands on through the environment: to its next self, and to the trial of a configuration."""

import json
import os
import socket
from dataclasses import astuple, dataclass

from .pidfile import PidFile

# In the environment of the supervisor's next self and of a trial: what is there already, as JSON.
STATE = "PYRIMAGE_SERVER_STATE"
TRIAL = "PYRIMAGE_SERVER_TRIAL"


@dataclass
class State:
    """What a supervisor leaves to its next self: descriptors, and the workers' pids with their deadlines."""

    listening: list[socket.socket]
    line: tuple[socket.socket, socket.socket]
    workers: dict[int, float | None]
    patience: float  # for workers that were started with the configuration before
    pid_file: PidFile | None

    def dump(self) -> str:
        """Return it as text, for this process alone."""
        return json.dumps(
            {
                "pid": os.getpid(),
                "listening": [listening.fileno() for listening in self.listening],
                "line": [end.fileno() for end in self.line],
                "workers": list(self.workers.items()),
                "patience": self.patience,
                "pid_file": self.pid_file and astuple(self.pid_file),
            }
        )


def take_state() -> State | None:
    """Return what the process's former self left, if there was one; nobody else finds it afterwards."""
    found = json.loads(os.environ.pop(STATE, "{}"))
    if found.get("pid") != os.getpid():
        return None
    ours, theirs = _adopt(found["line"])
    pid_file = found["pid_file"] and PidFile(*found["pid_file"])
    return State(_adopt(found["listening"]), (ours, theirs), dict(found["workers"]), found["patience"], pid_file)


def take_trial() -> list[socket.socket] | None:
    """Return the supervisor's listening sockets if this process only tries whether a configuration loads."""
    found = os.environ.pop(TRIAL, None)
    return None if found is None else _adopt(json.loads(found))


def _adopt(descriptors: list[int]) -> list[socket.socket]:
    adopted = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in adopted:
        each.set_inheritable(False)
    return adopted
