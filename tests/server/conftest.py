"""What tests of our server share: a pid file, and who holds it."""

import atexit
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrimage.server import pidfile
from pyrimage.server.pidfile import PidFile, hold
from servers.holders import Program, Start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a pid file, in a directory that holds nothing else."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run/api.pid"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """A function that starts a program, which ends with the test."""
    with contextlib.ExitStack() as programs:
        yield lambda: programs.enter_context(Program(path))


@pytest.fixture
def keeper(start: Start) -> Program:
    """A program that holds the file."""
    made = start()
    assert made.ask("take()") == "None"
    return made


@pytest.fixture
def take(path: Path) -> Iterator[Callable[[], PidFile]]:
    """A function that takes the file for this process; it is released with the test."""
    with contextlib.ExitStack() as taken:

        def take_now() -> PidFile:
            made = hold(str(path))
            assert made is not None
            taken.callback(made.release)
            return made

        yield take_now
    atexit.unregister(pidfile._release_own)
