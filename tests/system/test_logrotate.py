"""The log of a running server, moved by the real logrotate as the shipped file tells it."""

import collections
import contextlib
import grp
import gzip
import http.client
import itertools
import os
import pwd
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers.machine import installed
from servers.processes import RUN_SECONDS, run, wait_until
from servers.pyrimage import ANSWER_SECONDS, Server

pytestmark = pytest.mark.system

CLIENTS = 4
ROTATIONS = 5
BETWEEN = 200  # requests from one rotation to the next
UMASK = 0o027  # the units'
LONG = "x" * 900  # nearly all that an access line shows of a target

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +[A-Z]+ \[[a-z.]+\] .+")
ACCESS = re.compile(
    r"\S+ \S+ +INFO \[pyrimage\.access\] 127\.0\.0\.1 (GET|HEAD) /healthcheck\?(\d+-\d+)-x* 200 \d+ \d+ms req-\S+ \S+"
)


@dataclass
class Rotation:
    """logrotate with the shipped file, but for the place of the logs and the user."""

    directory: Path
    config: Path
    program: str
    logs: Path = field(init=False)

    def __post_init__(self) -> None:
        self.logs = self.directory / "log"
        self.logs.mkdir(mode=0o750)
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        text = self.config.read_text(encoding="utf-8")
        for old, new in (("/var/log/pyrimage/", f"{self.logs}/"), ("su pyrimage pyrimage", f"su {user} {group}")):
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.config = self.directory / "logrotate.conf"
        self.config.write_text(text, encoding="utf-8")
        self.config.chmod(0o644)  # it refuses one that others may write

    def run(self, *arguments: str, under: Sequence[str] = ()) -> str:
        """Run it, under another program or not; return what it said."""
        state = f"--state={self.directory / 'logrotate.state'}"
        command = [*under, self.program, state, *arguments, str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def lines(self) -> dict[str, list[str]]:
        """Return the lines of each file; only the file's last one may be without an end."""
        return {path.name: self._read(path).splitlines() for path in sorted(self.logs.iterdir())}

    def _read(self, path: Path) -> str:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    program = installed("logrotate")
    done = run("pyrimage-manage", "sample-config", "service", tmp_path / "service", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return Rotation(tmp_path, tmp_path / "service/etc/logrotate.d/pyrimage", program)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def server(rotation: Rotation) -> Iterator[Server]:
    """A server of two workers that writes a log file, started as its unit starts it."""
    server = Server(rotation.directory, server={"workers": "2"})
    server.log_file = rotation.directory / "output"
    try:
        with umask(UMASK):
            server.start("pyrimage-api", str(server.ini), "--log-file", str(rotation.logs / "api.log"))
        yield server
    finally:
        server.stop()


class Load:
    """Clients that ask as fast as they can, each request with a number of its own, until the block ends."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._stopped = threading.Event()
        self._answered: list[list[str]] = [[] for _ in range(CLIENTS)]
        self._pool = ThreadPoolExecutor(CLIENTS)

    def __enter__(self) -> "Load":
        self._clients = [self._pool.submit(self._ask, number) for number in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    @property
    def answered(self) -> list[str]:
        """The numbers of all requests that were answered."""
        return [*itertools.chain(*self._answered)]

    def wait_for_more(self, requests: int) -> None:
        wanted = len(self.answered) + requests
        wait_until(lambda: len(self.answered) >= wanted, ANSWER_SECONDS)

    def _ask(self, client: int) -> None:
        for turn in itertools.count():  # a connection serves some of its requests, for it belongs to one worker
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
            with contextlib.closing(connection):
                for number in range(turn * 20, turn * 20 + 20):
                    if self._stopped.is_set():
                        return
                    method, name = ("GET", "HEAD")[number % 2], f"{client}-{number}"
                    connection.request(method, f"/healthcheck?{name}-{LONG * (number % 3 == 0)}")
                    response = connection.getresponse()
                    response.read()
                    assert response.status == 200
                    self._answered[client].append(name)


def test_logrotate_understands_the_file(rotation: Rotation) -> None:
    (rotation.logs / "registry.log").write_text("2001-01-01 00:00:00     INFO [x] y\n")
    said = rotation.run("--debug", "--force")
    assert "error" not in said
    assert f"renaming {rotation.logs}/registry.log to {rotation.logs}/registry.log.1" in said


def test_server_without_a_log_directory_is_no_error(rotation: Rotation) -> None:
    rotation.logs.rmdir()
    assert rotation.run() == ""


@pytest.mark.parametrize("is_slow", [False, True])
def test_logrotate_under_load_loses_doubles_and_tears_no_line(
    server: Server, rotation: Rotation, is_slow: bool
) -> None:
    # Slow: the server finds its file gone, and makes a new one, before logrotate goes on.
    under = [installed("strace"), "-qq", "-e", "trace=rename", "-e", "inject=rename:delay_exit=20000", "-o", os.devnull]
    with Load(server) as load:
        for _ in range(ROTATIONS):
            load.wait_for_more(BETWEEN)
            assert rotation.run("--force", under=under if is_slow else ()) == ""
        load.wait_for_more(BETWEEN)
    server.stop()  # each line is written by then

    written = rotation.lines()
    packed = [f"api.log.{number}.gz" for number in range(2, ROTATIONS + 1)]
    assert sorted(written) == sorted(["api.log", "api.log.1", *packed])
    lines = [line for name in written for line in written[name]]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    logged = collections.Counter(found[2] for line in lines if (found := ACCESS.fullmatch(line)))
    assert logged == collections.Counter(load.answered)
    assert all(len([line for line in written[name] if ACCESS.fullmatch(line)]) > BETWEEN / 2 for name in written)
