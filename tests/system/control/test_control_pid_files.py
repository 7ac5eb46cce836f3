"""The pid files of ``pyrimage-control``: whose they are, what was left there, and where there is a place for them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pyrimage.server.pidfile import holder
from servers.controlled import Controlled
from servers.processes import OWNED, PROGRAMS
from servers.pyrimage import READY_SECONDS

pytestmark = pytest.mark.system

HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that is none of ours, and must be alive at the end."""
    with subprocess.Popen([*OWNED, "sleep", "1000"]) as process:
        try:
            yield process
            assert process.poll() is None
        finally:
            process.kill()


@contextmanager
def locked(pid_file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another program that holds a file, and must be alive at the end."""
    command = [*OWNED, sys.executable, "-c", HOLD, str(pid_file), "/etc/logrotate.d/pyrimage-api"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        assert process.poll() is None
        process.communicate()


def pid_of(lines: list[str]) -> int:
    """Return the number that a command has printed."""
    (found,) = re.findall(r"pid:? (\d+)", "\n".join(lines))
    return int(found)


def write_pid_file(place: Controlled, text: str) -> Path:
    place.run_directory.mkdir(parents=True, exist_ok=True)
    place.pid_file().write_text(text, encoding="ascii")
    return place.pid_file()


def test_of_two_starts_at_the_same_moment_one_works(alone: Controlled) -> None:
    command = [*OWNED, str(PROGRAMS / "pyrimage-control"), "api", "start", str(alone.ini)]
    starting = [
        subprocess.Popen(
            command,
            cwd=alone.directory,
            env=alone.clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=READY_SECONDS)[0] for process in starting]
    assert sorted(process.returncode for process in starting) == [0, 1, 1], outputs
    assert alone.request("GET", "/images").status == 200
    children = {each.pid for each in psutil.Process(alone.pid).children()}
    assert (len(children), alone.processes()) == (1, {alone.pid, *children})


def test_a_number_that_somebody_else_has_is_nobodys(alone: Controlled) -> None:
    """Though that program seems to be older than the file: in a container numbers come again."""
    with stranger() as process:
        pid_file = write_pid_file(alone, f"{process.pid}\n")
        for command in ("stop", "reload"):
            assert alone.try_control("api", command, alone.ini).out == "No pyrimage-api running\n"
        assert alone.control("api", "start", alone.ini)[0] == f"Removing stale pid file {pid_file}"
        assert alone.pid != process.pid
        assert alone.control("api", "stop", alone.ini)[0].startswith("Stopping")


def test_a_pid_file_that_another_program_holds_gets_it_no_signal(alone: Controlled) -> None:
    pid_file = write_pid_file(alone, "1\n")
    with locked(pid_file) as process:
        for command in ("start", "stop", "status"):
            said = alone.try_control("api", command, alone.ini)
            assert (said.status, said.out) == (1, ""), command
            assert re.fullmatch(
                rf"ERROR: {pid_file} is held by another program, python\S* -c with pid {process.pid}\n", said.err
            )
    assert pid_file.read_text(encoding="ascii") == "1\n"
    assert not alone.processes()


def test_a_pid_file_named_in_the_ini_is_used_by_every_command(alone: Controlled) -> None:
    named = alone.directory / "named.pid"
    alone.configure("server:main", {"pid_file": str(named)})
    assert alone.control("api", "start", alone.ini)[1].endswith(f"output goes to {alone.directory}/named.log")
    pid = holder(named)
    assert pid is not None
    assert f"pid {pid}," in alone.control("api", "status", alone.ini)[0]
    assert not alone.pid_file().exists()
    assert pid_of(alone.control("api", "stop", alone.ini)) == pid
    assert not named.exists()


def test_paths_may_be_relative_to_another_directory(alone: Controlled) -> None:
    (elsewhere := alone.directory / "elsewhere").mkdir()
    (elsewhere / "logs").mkdir()
    options = "../pyrimage.ini", "--pid-file", "x.pid", "--log-dir=logs", "--log-file", "x.log"
    (line,) = alone.control("api", "start", *options, cwd=elsewhere)
    assert Path(line.removeprefix("Starting pyrimage-api with ").partition(" ")[0]).samefile(alone.ini)
    assert alone.request("GET", "/images").status == 200
    assert "Serving on" in (elsewhere / "logs/x.log").read_text(encoding="utf-8")
    assert alone.control("api", "stop", "--pid-file", "x.pid", cwd=elsewhere)[0].startswith("Stopping")


def test_no_place_for_a_pid_file(place: Controlled) -> None:
    (place.directory / "file").touch()
    for home in ("/proc/nowhere", f"{place.directory}/file"):
        said = place.try_control("api", "start", place.ini, environment={"HOME": home})
        assert (said.status, said.out) == (1, "")
        assert said.err == (
            "ERROR: None of /run/pyrimage, ~/.pyrimage/run is yours to write to: make one, or use --pid-file.\n"
        )


def test_a_pid_file_that_may_be_there_is_not_taken_for_none(place: Controlled) -> None:
    place.run_directory.mkdir(parents=True)
    place.pid_file().symlink_to(place.pid_file().name)  # which not even root can read
    for command in ("status", "stop"):
        said = place.try_control("api", command, place.ini)
        assert (said.status, said.out) == (1, "")
        assert str(place.pid_file()) in said.err


def test_what_is_only_asked_makes_no_directory(place: Controlled) -> None:
    assert place.try_control("api", "status", place.ini).status == 3
    assert not place.run_directory.exists()


def test_what_is_beside_a_pid_file_is_never_the_pid_file_itself(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini, "--pid-file=x.log")
    assert holder(alone.directory / "x.log") is not None
    assert (alone.directory / "x.log").read_text(encoding="utf-8").strip().isdigit()
