"""A pyrimage that ``pyrimage-control`` starts in the background: an API and a registry, and a ``HOME`` of their own.

::

    with Controlled(tmp_path) as place:
        place.control("api", "start", place.ini)
        place.request("GET", "/images").json

None of its processes outlives the block, nor the tests if these are killed.
"""

import errno
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from pyrimage.server.pidfile import holder
from servers.processes import clean_environment, free_port, run, wait_until
from servers.pyrimage import READY_SECONDS, Server
from servers.reaper import processes_of

REAPER = Path(__file__).with_name("reaper.py")
SYSTEM_RUN_DIRECTORY = Path("/run/pyrimage")
NOT_RUNNING = 3

# What is said after three seconds, and on a busy machine only.
WAITING = re.compile(r"^Waiting for .* \.\.\.\n", re.MULTILINE)


class Said(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Both outputs' lines."""
        return [*self.out.splitlines(), *self.err.splitlines()]


class Controlled(Server):
    """An installation below ``directory``, which is also the ``HOME`` of its programs. Its database is up to date.

    The run directory is that of a user, below ``HOME``; where a service is installed, the tests would come near it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sample: str = "production",
        main: Mapping[str, str] | None = None,
        server: Mapping[str, str] | None = None,
    ) -> None:
        if SYSTEM_RUN_DIRECTORY.exists():
            pytest.skip(f"{SYSTEM_RUN_DIRECTORY} is there: pyrimage-control would use it")
        workers = {"workers": "2"} if sample == "production" else {}
        main = {"pyrimage.auto_migrate": "true", **(main or {})}
        super().__init__(directory, sample=sample, main=main, server={**workers, **(server or {})})
        self.registry_port = free_port()
        self.configure("server:registry", {"listen": f"127.0.0.1:{self.registry_port}"})
        self.run_directory = directory / ".pyrimage/run"
        self.log_file = self.run_directory / "api.log"

    def __enter__(self) -> Self:
        self._reaper = subprocess.Popen(
            [sys.executable, str(REAPER), str(self.directory)], stdin=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._reaper.communicate(timeout=READY_SECONDS)
        for log in sorted(self.directory.rglob("*.log")):
            print(f"{log}:\n{log.read_text(encoding='utf-8', errors='replace')[-5000:]}")

    def pid_file(self, server: str = "api") -> Path:
        """Return where the pid file of a server is if no other place is named."""
        return self.run_directory / f"{server}.pid"

    @property
    def pid(self) -> int:
        """The number of the API server's process."""
        pid = holder(self.pid_file())
        if not pid:
            raise RuntimeError("the server does not run")
        return pid

    @property
    def environment(self) -> dict[str, str]:
        """What every program of this place has in its environment, beside the usual."""
        return {"HOME": str(self.directory)}

    def try_control(
        self, *words: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Said:
        """Run ``pyrimage-control``, however it ends."""
        return self.run("pyrimage-control", *words, cwd=cwd, environment=environment)

    def control(
        self, *words: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> list[str]:
        """Run ``pyrimage-control`` and return the lines that it prints; nothing may go wrong."""
        said = self.try_control(*words, cwd=cwd, environment=environment)
        if (said.status, said.err) != (0, ""):
            raise AssertionError(f"{words}: {said}\n{self.log()}")
        return said.out.splitlines()

    def run(
        self,
        program: str | Path,
        *words: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Said:
        """Run a program to its end."""
        done = run(
            str(program), *words, cwd=cwd or self.directory, environment={**self.environment, **(environment or {})}
        )
        return Said(done.returncode, done.stdout, WAITING.sub("", done.stderr))

    def processes(self) -> set[int]:
        """Return every process of this place that runs."""
        return processes_of(self.directory)

    def wait_for_nobody(self) -> None:
        """Wait until no process of this place is left."""
        wait_until(lambda: not self.processes(), READY_SECONDS, lambda: f"{self.processes()}\n{self.log()}")

    def log(self) -> str:
        """Return what the API server has logged where nobody said where to log."""
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    def clean_environment(self) -> dict[str, str]:
        """Return the whole environment of this place's programs."""
        return clean_environment(self.directory, self.environment)


def descriptors(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process, and what they lead to."""
    return {int(each.name): str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


def leaves_nothing(place: Controlled) -> bool:
    return not place.processes() and not place.pid_file().exists()


def refuses(port: int) -> bool:
    """Say whether nobody listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
