"""``pyrimage-control``: servers in the background, their pid files, and what goes wrong."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pyrimage.server.pidfile import holder
from servers.controlled import END, Controlled, Said, begun_upload, descriptors, refuses
from servers.processes import OWNED, PROGRAMS, wait_until
from servers.pyrimage import READY_SECONDS
from traffic import children, is_alive

pytestmark = pytest.mark.system

NOT_RUNNING = 3
MARGIN_SECONDS = 15  # between the end of shutdown_timeout and SIGKILL
HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Controlled]:
    with Controlled(tmp_path) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Controlled]:
    """A server without workers, which starts faster."""
    with Controlled(tmp_path, sample="development") as made:
        yield made


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


def leaves_nothing(place: Controlled) -> bool:
    return not place.processes() and not place.pid_file().exists()


# What is said is true.


def test_status_tells_the_pid_the_uptime_the_address_and_the_workers(place: Controlled) -> None:
    began = time.monotonic()
    place.control("api", "start", place.ini)
    place.wait_for_workers(2)
    time.sleep(1)  # so that there is an uptime
    (line,) = place.control("api", "status")
    said = re.fullmatch(r"pyrimage-api runs: pid (\d+), up 0:(\d\d):(\d\d), http://127.0.0.1:(\d+), 2 workers", line)
    assert said is not None, line
    pid, minutes, seconds, port = map(int, said.groups())
    assert (pid, port) == (place.pid, place.port)
    assert 1 <= 60 * minutes + seconds <= time.monotonic() - began
    assert place.pid_file().read_text(encoding="ascii") == f"{pid}\n"
    assert b"pyrimage-api" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_status_of_a_server_without_workers_and_of_one_on_a_socket_file(alone: Controlled) -> None:
    ini = alone.ini.read_text(encoding="utf-8")
    listen = f"listen = 127.0.0.1:{alone.port}"
    alone.ini.write_text(ini.replace(listen, f"unix_socket = {alone.directory}/socket"), encoding="utf-8")
    alone.control("api", "start", alone.ini)
    (line,) = alone.control("api", "status")
    assert line.endswith(f", unix:{alone.directory}/socket, no workers")


def test_start_returns_when_the_server_answers(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini)
    assert alone.request("GET", "/images").status == 200


def test_stop_returns_when_the_server_has_ended(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    pid = place.pid
    assert place.control("api", "stop") == [f"Stopping pyrimage-api pid: {pid} signal: 15"]
    assert not Path(f"/proc/{pid}/exe").exists()
    assert refuses(place.port)
    assert leaves_nothing(place)


def test_every_command_takes_the_ini_of_the_search_path(alone: Controlled) -> None:
    assert alone.control("api", "start")[0] == f"Starting pyrimage-api with {alone.ini}"
    assert alone.control("api", "restart")[1] == f"Starting pyrimage-api with {alone.ini}"
    assert alone.request("GET", "/images").status == 200


def test_all_goes_on_with_the_registry_when_the_api_fails(alone: Controlled) -> None:
    with closing(socket.create_server(("127.0.0.1", alone.port))):
        said = alone.try_control("all", "start", alone.ini)
    assert said.status == 1
    assert f"Starting pyrimage-registry with {alone.ini}" in said.out
    assert alone.try_control("all", "status").lines[0] == "No pyrimage-api running"
    assert alone.try_control("registry", "status").status == 0
    assert alone.try_control("all", "status").status == NOT_RUNNING
    assert alone.control("all", "stop")[0] == "No pyrimage-api running"
    alone.wait_for_nobody()
    alone.control("api", "start", alone.ini)
    assert alone.try_control("all", "status").status == NOT_RUNNING  # also where the last is the one


# Pid files.


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
    assert alone.processes() == {alone.pid}


def test_a_pid_file_that_a_killed_server_left_is_removed(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    os.kill(place.pid, signal.SIGKILL)
    place.wait_for_nobody()  # workers end without their supervisor
    assert place.pid_file().exists()
    assert place.try_control("api", "status") == (NOT_RUNNING, "No pyrimage-api running\n", "")
    lines = place.control("api", "start", place.ini)
    assert lines[0] == f"Removing stale pid file {place.pid_file()}"
    assert place.request("GET", "/images").status == 200


def test_a_number_that_somebody_else_got_later_is_nobodys(alone: Controlled) -> None:
    with stranger() as process:
        pid_file = write_pid_file(alone, f"{process.pid}\n")
        os.utime(pid_file, (time.time() - 3600,) * 2)
        assert alone.control("api", "stop", alone.ini) == ["No pyrimage-api running"]
        assert alone.control("api", "start", alone.ini)[0] == f"Removing stale pid file {pid_file}"
        assert alone.pid != process.pid


def test_the_pid_file_of_a_program_that_runs_is_left_alone(alone: Controlled) -> None:
    with stranger() as process:
        pid_file = write_pid_file(alone, f"{process.pid}\n")
        said = alone.try_control("api", "start", alone.ini)
        assert (said.status, said.out) == (1, "")
        assert said.err == (
            f"ERROR: the pid file {pid_file} belongs to another program, sleep with pid {process.pid}: "
            "name another one\n"
        )
        assert alone.try_control("api", "stop", alone.ini).out == "No pyrimage-api running\n"
        assert alone.try_control("api", "restart", alone.ini).status == 1
        assert pid_file.read_text(encoding="ascii") == f"{process.pid}\n"
    assert not alone.processes()


def test_a_pid_file_that_another_program_holds_gets_it_no_signal(alone: Controlled) -> None:
    pid_file = write_pid_file(alone, "1\n")
    with locked(pid_file) as process:
        for command in ("start", "stop", "restart", "reload", "status"):
            said = alone.try_control("api", command, alone.ini)
            assert (said.status, said.out) == (1, ""), command
            assert re.fullmatch(
                rf"ERROR: {pid_file} is held by another program, python\S* -c with pid {process.pid}\n", said.err
            )
    assert pid_file.read_text(encoding="ascii") == "1\n"
    assert not alone.processes()


@pytest.mark.parametrize("text", ["to do: feed the cat\n", "12\n13\n", "-1", "99999999999\n"])
def test_a_file_that_is_no_pid_file_stays_as_it_is(alone: Controlled, text: str) -> None:
    pid_file = write_pid_file(alone, text)
    said = alone.try_control("api", "start", alone.ini)
    assert (said.status, said.out) == (1, "")
    assert said.err == f"ERROR: {pid_file} is not a pid file, and stays as it is: name another one\n"
    assert pid_file.read_text(encoding="ascii") == text


@pytest.mark.parametrize("text", ["", "4000000000\n"])
def test_an_empty_pid_file_or_the_number_of_nobody_is_stale(alone: Controlled, text: str) -> None:
    write_pid_file(alone, text)
    assert alone.control("api", "start", alone.ini)[0].startswith("Removing stale pid file")


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
    assert Path(line.removeprefix("Starting pyrimage-api with ")).samefile(alone.ini)
    assert alone.request("GET", "/images").status == 200
    assert "Serving on" in (elsewhere / "logs/x.log").read_text(encoding="utf-8")
    assert alone.control("api", "stop", "--pid-file", "x.pid", cwd=elsewhere)[0].startswith("Stopping")


# What goes wrong.


def test_words_that_are_unknown(place: Controlled) -> None:
    for words, told in {
        ("scrubber", "start"): "argument server: invalid choice: 'scrubber'",
        ("api", "begin"): "argument command: invalid choice: 'begin'",
        ("api",): "the following arguments are required: command",
        (): "the following arguments are required: server, command",
        ("api", "start", "--nothing"): "unrecognized arguments: --nothing",
        ("all", "start", "--port=1"): "name one server",
        ("all", "start", "--pid-file=x"): "name one server",
    }.items():
        said = place.try_control(*words)
        assert (said.status, said.out) == (2, ""), words
        assert told in said.err
        assert said.err.startswith("usage: pyrimage-control ")


def failed_start(place: Controlled, *options: str | Path) -> Said:
    said = place.try_control("api", "start", place.ini, *options)
    assert said.status == 1
    assert leaves_nothing(place)
    return said


def test_a_configuration_that_is_missing_or_cannot_be_read(alone: Controlled) -> None:
    alone.configure("app:main", {"pyrimage.atuh": "none"})
    unknown = "ERROR: Unknown setting pyrimage.atuh; did you mean pyrimage.auth?\n"
    assert failed_start(alone) == (1, "", unknown)
    alone.ini.unlink()
    missing = f"ERROR: {alone.ini} cannot be read: No such file or directory.\n"
    assert failed_start(alone) == (1, "", missing)
    nowhere = "ERROR: Unable to locate any configuration file. Cannot load application pyrimage-api\n"
    assert alone.try_control("api", "start") == (1, "", nowhere)


def test_restart_and_reload_with_a_broken_ini_leave_the_server_as_it_is(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    pid, workers = place.pid, place.wait_for_workers(2)
    place.configure("app:main", {"pyrimage.atuh": "none"})
    fault = "Unknown setting pyrimage.atuh; did you mean pyrimage.auth?"
    assert place.try_control("api", "restart", place.ini) == (1, "", f"ERROR: {fault}\n")
    place.control("api", "reload")
    told = f"the new configuration does not work, the old one stays in force: ERROR: {fault}"
    wait_until(lambda: told in place.log(), READY_SECONDS, place.log)
    assert (place.pid, place.workers()) == (pid, workers)
    assert place.request("GET", "/images").status == 200


def test_a_configuration_that_cannot_be_read_leaves_open_which_server_is_meant(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini)
    for command in ("stop", "status", "reload"):
        said = alone.try_control("api", command, "typo.ini")
        assert (said.status, said.out) == (1, "")
        assert said.err == (
            f"ERROR: {alone.directory}/typo.ini cannot be read: No such file or directory. "
            "It may name a pid file: give that as --pid-file.\n"
        )
    (alone.directory / "typo.ini").write_text("what?\n")
    assert alone.try_control("api", "status", "typo.ini").status == 1
    assert alone.control("api", "stop", "typo.ini", "--pid-file", alone.pid_file())[0].startswith("Stopping")


def test_a_server_is_stopped_where_there_is_no_configuration_any_more(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini)
    alone.ini.unlink()
    assert alone.control("api", "stop")[0].startswith("Stopping")


@pytest.mark.parametrize("output", ["> /dev/full", "| true"])
def test_a_server_is_stopped_though_nobody_can_be_told(alone: Controlled, output: str) -> None:
    alone.control("api", "start", alone.ini)
    command = f'set -o pipefail; "$0" api stop {output}'
    said = alone.run(str(shutil.which("bash")), "-c", command, PROGRAMS / "pyrimage-control")
    assert (said.status, said.err) == (0, "")
    assert not alone.processes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write where it should not")
def test_root_starts_nothing_on_the_data_of_others(alone: Controlled) -> None:
    data = alone.directory / "var/images"
    data.mkdir(parents=True)
    os.chown(data, 65534, 65534)
    for command in ("start", "restart"):
        said = alone.try_control("api", command, alone.ini)
        assert (said.status, said.out) == (1, "")
        assert said.err == f"ERROR: {data} belongs to nobody, and this is root: use runuser -u nobody -- ...\n"


def test_a_reload_that_the_system_or_the_pid_file_cannot_follow_leaves_a_server(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    workers = place.wait_for_workers(2)
    place.configure("server:main", {"upload_threads": "1000000000"})
    place.control("api", "reload")
    told = "the new configuration does not work, the old one stays in force: ERROR: the system allows"
    wait_until(lambda: told in place.log(), READY_SECONDS, place.log)
    assert place.workers() == workers

    place.configure("server:main", {"upload_threads": "2", "pid_file": "/nowhere/x.pid"})
    os.kill(place.pid, signal.SIGHUP)  # pyrimage-control would look for the file in the ini
    wait_until(lambda: "the new workers serve" in place.log(), READY_SECONDS, place.log)
    assert place.request("GET", "/images").status == 200


def test_only_our_server_is_kept_in_the_background(alone: Controlled) -> None:
    alone.configure("server:main", {"use": "egg:waitress#main"})
    assert failed_start(alone).err == f"ERROR: {alone.ini}: only egg:pyrimage#server can be kept in the background.\n"


def test_reload_needs_a_server_and_workers(alone: Controlled) -> None:
    assert alone.try_control("api", "reload") == (1, "No pyrimage-api running\n", "")
    alone.control("api", "start", alone.ini)
    said = alone.try_control("api", "reload")
    assert (said.status, said.out) == (1, "")
    assert said.err == "ERROR: pyrimage-api has no workers (see [server:...]): use restart.\n"
    assert alone.request("GET", "/images").status == 200


def test_a_start_that_fails_in_the_application_shows_the_end_of_the_log(place: Controlled) -> None:
    place.configure("app:main", {"pyrimage.auto_migrate": "false"})
    place.run_directory.mkdir(parents=True)
    place.log_file.write_text("of yesterday\n", encoding="utf-8")
    said = failed_start(place)
    assert f"ERROR: pyrimage-api ended before it answered. The end of {place.log_file}:\n" in said.err
    assert "\n    ERROR: The database's schema is of revision None" in said.err
    assert "of yesterday" not in said.err

    place.configure("app:main", {"sqlalchemy.url": "nothing://joe:hunter2@127.0.0.1/x"})
    place.configure("server:main", {"workers": "0"})
    said = failed_start(place, "--log-file=x.log")
    assert f"ended before it answered. The end of {place.directory}/x.log:\n" in said.err
    assert "Can't load plugin: sqlalchemy.dialects:nothing" in said.err
    assert "hunter2" not in said.err


def test_a_busy_port_is_told_and_nothing_is_left(place: Controlled) -> None:
    with closing(socket.create_server(("127.0.0.1", place.port))):
        said = failed_start(place)
    assert f"    ERROR: [Errno 98] cannot listen on http://127.0.0.1:{place.port}: Address already in use\n" in said.err


def test_a_log_directory_that_does_not_exist(place: Controlled) -> None:
    said = failed_start(place, "--log-dir=nowhere")
    log = place.directory / "nowhere/api.log"
    assert said == (1, "", f"ERROR: The log file {log} cannot be opened: No such file or directory.\n")


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
    for command in ("status", "stop", "restart", "reload"):
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


def test_a_server_that_was_killed_and_that_nobody_took_note_of_is_gone(alone: Controlled) -> None:
    with subprocess.Popen(["true"]) as process:
        wait_until(lambda: not is_alive(process.pid), READY_SECONDS)
        pid_file = write_pid_file(alone, f"{process.pid}\n")
        assert alone.control("api", "start", alone.ini)[0] == f"Removing stale pid file {pid_file}"


# Stopping takes time.


def test_a_stop_lets_a_transfer_end_within_the_time_that_the_server_was_started_with(place: Controlled) -> None:
    place.control("api", "start", place.ini, "--shutdown-timeout", "300")
    with begun_upload(place) as upload, stopping(place) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Waiting for transfers to end, {300 + MARGIN_SECONDS} s at most ...\n"
        upload.send(END)
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
    with begun_upload(place) as upload:
        assert len(place.control("api", "stop")) == 1
        with pytest.raises(ConnectionError):
            upload.getresponse()
    assert leaves_nothing(place)
    assert (place.sql("SELECT * FROM claims"), place.files()) == ([], [])


def test_a_server_that_does_not_end_is_killed_and_nothing_is_left(place: Controlled) -> None:
    place.control("api", "start", place.ini, "--shutdown-timeout=0")
    pid, workers = place.pid, place.wait_for_workers(2)
    with begun_upload(place):
        for each in (pid, *workers):
            os.kill(each, signal.SIGSTOP)
        began = time.monotonic()
        lines = place.control("api", "stop", "--shutdown-timeout=0")
    assert lines == [f"Stopping pyrimage-api pid: {pid} signal: 15", f"Killing pyrimage-api pid: {pid} signal: 9"]
    assert time.monotonic() - began >= MARGIN_SECONDS
    place.wait_for_nobody()
    assert not place.pid_file().exists()


# A daemon.


def test_a_daemon_is_one(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    pid = place.pid
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


def test_a_daemon_survives_its_terminal(place: Controlled) -> None:
    command = f"{PROGRAMS}/pyrimage-control api start {place.ini}"
    said = place.run("/usr/bin/script", "-qec", command, "/dev/null")
    assert said.status == 0, said
    assert place.request("GET", "/images").status == 200
    assert len(children(place.pid)) >= 1


def test_a_daemon_has_the_environment_but_no_file_of_whoever_started_it(place: Controlled) -> None:
    kept = place.directory / "kept"
    with kept.open("w") as file, socket.socket() as connection, Notified() as notified:
        command = [*OWNED, str(PROGRAMS / "pyrimage-control"), "api", "start", str(place.ini)]
        more = {"NOTIFY_SOCKET": notified.name, "PYRIMAGE_REGISTRY_SECRET": "sixteen letters.."}
        subprocess.run(
            command,
            env={**place.clean_environment(), **more},
            pass_fds=[file.fileno(), connection.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        assert notified.heard() is None
    place.wait_for_workers(2)
    expected = {"/dev/null", str(place.log_file), str(place.pid_file())}
    for pid in (place.pid, *place.workers()):
        opened = descriptors(pid)
        files = {each for each in opened.values() if each.startswith("/") and str(place.datadir.parent) not in each}
        assert files <= expected
    assert len(descriptors(place.pid)) <= 9  # three, pid file, listener, the line to the workers, the signals' own
    environment = Path(f"/proc/{place.pid}/environ").read_bytes().split(b"\0")
    assert b"PYRIMAGE_REGISTRY_SECRET=sixteen letters.." in environment


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


def test_a_program_that_is_found_by_a_link(alone: Controlled) -> None:
    (bin_directory := alone.directory / "bin").mkdir()
    link = bin_directory / "pyrimage-control"
    link.symlink_to(PROGRAMS / "pyrimage-control")
    said = alone.run(str(link), "api", "start", alone.ini)
    assert said.status == 0, said
    assert alone.request("GET", "/images").status == 200
