"""Servers that take seconds to start: once for all the processes of a test run.

::

    @pytest.fixture(scope="session")
    def s3(run_directory):
        with shared(seaweedfs.serving, run_directory) as running:
            yield running

The first process that wants a server starts a holder, which belongs to none of them, and which ends the server when
the last of them has left the block or has died. Each has a lock as long as it uses the server; the holder waits for it.
"""

import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from servers.machine import TESTS, memory_directory
from servers.processes import RUN_SECONDS

T = TypeVar("T")


@contextmanager
def shared(serving: Callable[..., AbstractContextManager[T]], run: Path, *arguments: object) -> Iterator[T]:
    """Give what ``serving(directory, *arguments)`` gives; the directory is in memory if it can be.

    What the server needs must be installed: look for it before, because a holder cannot skip a test.
    """
    place = run / serving.__module__
    place.mkdir(exist_ok=True)
    record = place / "record"
    with (place / "users").open("w") as users:
        with (place / "start").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            if not record.exists():
                record.write_bytes(_start_holder(place, pickle.dumps((serving, arguments))))
        running: T = pickle.loads(record.read_bytes())  # noqa: S301  # our own holder wrote it
        yield running


def _start_holder(place: Path, wanted: bytes) -> bytes:
    """Start a holder that outlives this process; return its record when the server is ready."""
    log = place / "holder.log"
    command = ["setsid", "--fork", sys.executable, "-m", "servers.shared", str(place)]
    with log.open("ab") as errors:
        # It closes its standard output when it is ready, and not before, unless it fails.
        done = subprocess.run(
            command,
            cwd=TESTS,
            input=wanted,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=2 * RUN_SECONDS,
            check=True,
        )
    if not done.stdout:
        raise AssertionError(log.read_text(encoding="utf-8"))
    return done.stdout


def hold(place: Path) -> None:
    """Run the server that standard input names until nobody uses it."""
    serving, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301  # from the test that started us
    with memory_directory() as directory, serving(directory, *arguments) as running:
        with os.fdopen(sys.stdout.fileno(), "wb") as output:
            pickle.dump(running, output)
        with (place / "users").open() as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            (place / "record").unlink(missing_ok=True)  # whoever comes now starts another


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
