"""``pyrimage-api`` and ``pyrimage-registry``, which a test starts in the foreground."""

import shutil
from pathlib import Path
from typing import Any

from servers.controlled import Controlled
from servers.processes import PROGRAMS
from servers.pyrimage import READY_SECONDS


class Programs(Controlled):
    """An installation whose servers run in the foreground; standard output and error are kept apart."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.log_file = directory / "server.log"  # standard error
        self.output = directory / "stdout"

    def serve(self, *options: str | Path, program: str = "pyrimage-api", **environment: str) -> None:
        """Run a program on the ini until it answers."""
        # A shell, for standard output to go elsewhere.
        line = f'exec "$@" > {self.output}'
        command = [str(PROGRAMS / program), str(self.ini), *map(str, options)]
        shell = str(shutil.which("bash"))
        self.start(shell, "-c", line, "bash", *command, **self.environment, **environment)

    def stdout(self) -> str:
        """Return what was printed on standard output."""
        return self.output.read_text(encoding="utf-8")

    def ended(self) -> int:
        """Wait until the server has ended; return its exit status."""
        if self.process is None:
            raise RuntimeError("the server does not run")
        return self.process.wait(READY_SECONDS)

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        if self.process is None:
            raise RuntimeError("the server does not run")
        return self.process.pid
