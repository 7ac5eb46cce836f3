"""What tests of the server share: a server whose main loop does not run, and a pid file with its holders."""

import atexit
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from pyrimage.server import pidfile
from pyrimage.server.channel import Channel
from pyrimage.server.options import read_options
from pyrimage.server.pidfile import PidFile, hold
from pyrimage.server.serving import Serving, bind
from servers.holders import Program, Start
from servers.in_process_server import SECONDS, echo

# The machines are shared: how long an example takes proves nothing.
hypothesis.settings.register_profile("server", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("server")


@pytest.fixture(scope="module")
def stopped_loop() -> Iterator[Serving]:
    """A server whose main loop does not run: nothing is received or sent but what the test calls for."""
    options = read_options({"listen": "127.0.0.1:0", "threads": 1, "upload_threads": 1, "relay_threads": 1})
    made = Serving(echo, options, bind(options))
    yield made
    made.stop()
    made.run()


@pytest.fixture
def connect(stopped_loop: Serving) -> Iterator[Callable[[], tuple[Channel, socket.socket]]]:
    """A function that returns a connection of that server, and its client."""
    (listener,) = stopped_loop.listeners
    with contextlib.ExitStack() as clients:

        def connect() -> tuple[Channel, socket.socket]:
            client = clients.enter_context(socket.create_connection(listener.socket.getsockname(), SECONDS))
            listener.handle_accept()
            return list(listener.active_channels.values())[-1], client

        yield connect
    for channel in list(listener.active_channels.values()):
        channel.lingers = False
        channel.handle_close()


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
