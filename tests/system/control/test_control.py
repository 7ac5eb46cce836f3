"""``pyrimage-control`` and its daemons: what is said of them is true, and they stop in their time."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.controlled import NOT_RUNNING, Controlled, descriptors, leaves_nothing, refuses
from servers.processes import OWNED, PROGRAMS, children, wait_until
from servers.pyrimage import READY_SECONDS
from servers.transfers import REST, begin_upload

pytestmark = pytest.mark.system

SECRET = "sixteen letters.."
MARGIN_SECONDS = 15  # between the end of shutdown_timeout and SIGKILL


class Notified:
    """Somebody who is waiting for another program's readiness, as systemd does."""

    def __enter__(self) -> "Notified":
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("")
        self.name = self._socket.getsockname().decode().replace("\0", "@")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> bytes | None:
        try:
            return self._socket.recv(100)
        except BlockingIOError:
            return None


# A server that runs


@dataclass(frozen=True)
class Started:
    """A daemon that several tests look at."""

    place: Controlled
    began: float
    answered: int


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A daemon whose caller has an open file and a connection, and waits for word of another program."""
    with Controlled(tmp_path_factory.mktemp("started")) as place:
        kept = place.directory / "kept"
        began = time.monotonic()
        with kept.open("w") as file, socket.socket() as connection, Notified() as notified:
            subprocess.run(
                [*OWNED, str(PROGRAMS / "pyrimage-control"), "api", "start", str(place.ini)],
                env={**place.clean_environment(), "NOTIFY_SOCKET": notified.name, "PYRIMAGE_REGISTRY_SECRET": SECRET},
                pass_fds=[file.fileno(), connection.fileno()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
            )
            answered = place.request("GET", "/images").status  # start has returned, so it answers
            assert notified.heard() is None
        place.wait_for_workers(2)
        yield Started(place, began, answered)


def test_start_returns_when_the_server_answers(started: Started) -> None:
    assert started.answered == 200


def test_status_tells_the_pid_the_uptime_the_address_and_the_workers(started: Started) -> None:
    place = started.place
    wait_until(lambda: "up 0:00:00," not in place.control("api", "status")[0], 30)
    (line,) = place.control("api", "status")
    said = re.fullmatch(r"pyrimage-api runs: pid (\d+), up 0:(\d\d):(\d\d), http://127.0.0.1:(\d+), 2 workers", line)
    assert said is not None, line
    pid, minutes, seconds, port = map(int, said.groups())
    assert (pid, port) == (place.pid, place.port)
    assert 1 <= 60 * minutes + seconds <= time.monotonic() - started.began
    assert place.pid_file().read_text(encoding="ascii") == f"{pid}\n"
    assert b"pyrimage-api" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_daemon_is_one(started: Started) -> None:
    place, pid = started.place, started.place.pid
    state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    parent, session, terminal = int(state[1]), int(state[3]), int(state[4])
    assert terminal == 0
    assert os.getsid(0) != session != pid  # no leader: it never gets a terminal
    assert parent != os.getpid()
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    opened = descriptors(pid)
    assert (opened[0], opened[1], opened[2]) == ("/dev/null", str(place.log_file), str(place.log_file))
    for made in (place.pid_file(), place.log_file, place.database):
        assert made.stat().st_mode & 0o027 == 0, made
    assert place.run_directory.stat().st_mode & 0o777 == 0o700


def test_a_daemon_has_the_environment_but_no_file_of_whoever_started_it(started: Started) -> None:
    place = started.place
    expected = {"/dev/null", str(place.log_file), str(place.pid_file())}
    for pid in (place.pid, *place.workers()):
        opened = descriptors(pid)
        files = {each for each in opened.values() if each.startswith("/") and str(place.datadir.parent) not in each}
        assert files <= expected
    assert len(descriptors(place.pid)) <= 9  # three, pid file, listener, the line to the workers, the signals' own
    environment = Path(f"/proc/{place.pid}/environ").read_bytes().split(b"\0")
    assert f"PYRIMAGE_REGISTRY_SECRET={SECRET}".encode() in environment


# Starts


def test_status_of_a_server_on_a_socket_file(alone: Controlled) -> None:
    ini = alone.ini.read_text(encoding="utf-8")
    listen = f"listen = 127.0.0.1:{alone.port}"
    alone.ini.write_text(ini.replace(listen, f"unix_socket = {alone.directory}/socket"), encoding="utf-8")
    alone.control("api", "start", alone.ini)
    (line,) = alone.control("api", "status")
    assert line.endswith(f", unix:{alone.directory}/socket, 1 worker")


def test_a_daemon_that_is_started_by_a_link_survives_the_terminal_and_takes_the_ini_of_the_search_path(
    alone: Controlled,
) -> None:
    (bin_directory := alone.directory / "bin").mkdir()
    link = bin_directory / "pyrimage-control"
    link.symlink_to(PROGRAMS / "pyrimage-control")
    said = alone.run("/usr/bin/script", "-qec", f"{link} api start", "/dev/null")
    assert (said.status, f"Starting pyrimage-api with {alone.ini}" in said.out) == (0, True), said
    assert alone.request("GET", "/images").status == 200
    assert len(children(alone.pid)) == 1
    assert alone.control("api", "restart")[1] == f"Starting pyrimage-api with {alone.ini} (pyrimage.auth = none)"
    assert alone.request("GET", "/images").status == 200


def test_all_goes_on_with_the_registry_when_the_api_fails(alone: Controlled) -> None:
    with closing(socket.create_server(("127.0.0.1", alone.port))):
        said = alone.try_control("all", "start", alone.ini)
    assert said.status == 1
    assert f"cannot listen on http://127.0.0.1:{alone.port}: Address already in use\n" in said.err
    assert f"Starting pyrimage-registry with {alone.ini}" in said.out
    assert alone.try_control("all", "status").lines[0] == "No pyrimage-api running"
    assert alone.try_control("registry", "status").status == 0
    assert alone.try_control("all", "status").status == NOT_RUNNING
    assert alone.control("all", "stop")[0] == "No pyrimage-api running"
    alone.wait_for_nobody()
    alone.control("api", "start", alone.ini)
    assert alone.try_control("all", "status").status == NOT_RUNNING  # also where the last is the one


# Stops


def test_stop_returns_when_the_server_has_ended(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    pid = place.pid
    assert place.control("api", "stop") == [f"Stopping pyrimage-api pid: {pid} signal: 15"]
    assert not Path(f"/proc/{pid}/exe").exists()
    assert refuses(place.port)
    assert leaves_nothing(place)


def test_a_stop_lets_a_transfer_end_within_the_time_that_the_server_was_started_with(place: Controlled) -> None:
    place.control("api", "start", place.ini, "--shutdown-timeout", "300")
    with begin_upload(place) as upload, stopping(place) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Waiting for transfers to end, {300 + MARGIN_SECONDS} s at most ...\n"
        upload.send(REST)
        assert upload.getresponse().status == 201
        assert process.wait(READY_SECONDS) == 0
    assert leaves_nothing(place)


@contextmanager
def stopping(place: Controlled, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [*OWNED, str(PROGRAMS / "pyrimage-control"), "api", "stop", *options]
    environment = place.clean_environment()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd="/", env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_transfer_that_takes_longer_is_cut(place: Controlled) -> None:
    place.control("api", "start", place.ini, "--shutdown-timeout=1")
    with begin_upload(place) as upload:
        assert len(place.control("api", "stop")) == 1
        with pytest.raises(ConnectionError):
            upload.getresponse()
    assert leaves_nothing(place)
    assert (place.sql("SELECT * FROM claims"), place.files()) == ([], [])


def test_a_server_that_does_not_end_is_killed_and_nothing_is_left(place: Controlled) -> None:
    place.control("api", "start", place.ini, "--shutdown-timeout=0")
    pid, workers = place.pid, place.wait_for_workers(2)
    with begin_upload(place):
        for each in (pid, *workers):
            os.kill(each, signal.SIGSTOP)
        began = time.monotonic()
        lines = place.control("api", "stop", "--shutdown-timeout=0")
    assert lines == [f"Stopping pyrimage-api pid: {pid} signal: 15", f"Killing pyrimage-api pid: {pid} signal: 9"]
    assert time.monotonic() - began >= MARGIN_SECONDS
    place.wait_for_nobody()
    assert not place.pid_file().exists()
