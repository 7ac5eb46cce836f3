"""A worker whose loop does not answer is replaced, but none that waits for a disk."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.machine import make_ext4, mounted
from servers.processes import wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS, Server
from servers.transfers import DATA, MIB, begin_download, begin_upload, logged

pytestmark = pytest.mark.system

TIMEOUT = 3
# SIGALRM lets the loop work on one thing for ever, and that holds the interpreter.
BUSY = """
import re, signal, time
from pathlib import Path
from pyrimage.app import main as start

def main(global_conf, **ini):
    signal.signal(signal.SIGALRM, be_busy)
    return start(global_conf, **ini)

def be_busy(number, frame):
    Path(__file__).with_name("is_busy").touch()
    re.match("(a+)+$", "a" * 60 + "b")
"""


@contextlib.contextmanager
def serving(directory: Path, disk: Path | None = None, **settings: str) -> Iterator[Server]:
    """Serve with an application that can be made busy, with log and store on a disk of their own if there is one."""
    (directory / "busy.py").write_text(BUSY)
    server = Server(directory, server={"workers": "1", "worker_timeout": str(TIMEOUT), **settings})
    if disk is not None:
        server.log_file = disk / "server.log"
        server.configure("app:main", {"pyrimage.filesystem_store_datadir": str(disk / "images")})
    ini = server.ini.read_text()
    server.ini.write_text(ini.replace("use = egg:pyrimage\n", "paste.app_factory = busy:main\n"))
    server.start(PYTHONPATH=str(directory))
    try:
        server.wait_for_workers(int(settings.get("workers", "1")))
        yield server
    finally:
        server.stop()
        print(server.log()[-5000:])


def thread_states(pid: int) -> str:
    """Return the state of each thread of a process, the main one's first."""
    states = ""
    for thread in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda each: int(each.name)):
        with contextlib.suppress(OSError):  # it has just ended
            states += (thread / "stat").read_text().rpartition(")")[2].split()[0]
    return states


def test_a_worker_whose_loop_is_stuck_is_killed_and_replaced_while_the_other_serves(tmp_path: Path) -> None:
    with serving(tmp_path, workers="2") as server:
        stuck, left = server.workers()
        os.kill(stuck, signal.SIGALRM)
        assert left in server.wait_for_workers(2, other_than=[stuck])
        assert server.log().count("is killed") == 1
        assert logged(server, "ERROR", f"worker {stuck} is killed: its loop did not answer for", "worker_timeout")()
        assert logged(server, "WARNING", f"worker {stuck} ended unasked: signal 9")()


def test_a_worker_of_the_configuration_before_is_looked_after_as_well(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        (stuck,) = server.workers()
        server.configure("app:main", {"paste.app_factory": "busy:never"})
        server.configure("server:main", {"worker_timeout": "2"})
        (tmp_path / "busy.py").write_text(BUSY + "\ntrials = 0\n" + NEVER)
        server.hang_up()
        wait_until(logged(server, "starts anew"), READY_SECONDS, server.log)
        wait_until((tmp_path / "waits").exists, READY_SECONDS, server.log)
        os.kill(stuck, signal.SIGALRM)
        wait_until(logged(server, "ERROR", f"worker {stuck} is killed"), READY_SECONDS, server.log)


NEVER = """
def never(global_conf, **ini):
    place = Path(global_conf["here"])
    if (place / "tried").exists():  # after the trial, no worker ever serves
        (place / "waits").touch()
        time.sleep(1000)
    (place / "tried").touch()
    return main(global_conf, **ini)
"""


def test_a_supervisor_that_was_stopped_kills_nobody_when_it_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, workers="2") as server:
        workers = server.workers()
        for pid in (server.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(TIMEOUT + 2)  # as a virtual machine that is moved
        for pid in (server.pid, *workers):
            os.kill(pid, signal.SIGCONT)
        for _ in range(20):
            assert server.request("GET", "/v1/images").status == 200
        assert server.workers() == workers


@contextlib.contextmanager
def stuck_servers(directory: Path, seconds: int) -> Iterator[list[Server]]:
    """Serve without and with a supervisor, and with loops that are stuck and not looked after."""
    servers = []
    with contextlib.ExitStack() as running:
        for workers in "0", "1":
            (place := directory / workers).mkdir()
            made = serving(place, workers=workers, worker_timeout="0", shutdown_timeout=str(seconds))
            server = running.enter_context(made)
            os.kill(max(server.workers(), default=server.pid), signal.SIGALRM)
            wait_until((place / "is_busy").exists, READY_SECONDS)
            servers.append(server)
        yield servers


def test_a_server_ends_in_time_though_its_loop_is_stuck(tmp_path: Path) -> None:
    with stuck_servers(tmp_path, seconds=1) as servers:
        alone, supervised = [server.process for server in servers if server.process is not None]
        for process in (alone, supervised):
            process.terminate()
        assert alone.wait(1 + 5) == 1
        assert supervised.wait(1) == 0
        assert "in be_busy" in servers[0].log()  # what it was doing
        assert "its loop did not answer" not in servers[1].log()


def test_a_server_ends_soon_after_a_second_ctrl_c_though_its_loop_is_stuck(tmp_path: Path) -> None:
    with stuck_servers(tmp_path, seconds=1000) as servers:
        processes = [server.process for server in servers if server.process is not None]

        def are_over() -> bool:
            for process in processes:
                process.send_signal(signal.SIGINT)  # two that come together count as one
            return all(process.poll() is not None for process in processes)

        wait_until(are_over, READY_SECONDS, servers[1].log)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that ``stalled`` can stop."""
    with mounted(make_ext4(tmp_path / "disk.img", 64 * MIB), tmp_path / "disk", "-o", "loop") as place:
        yield place


@contextlib.contextmanager
def stalled(disk: Path) -> Iterator[None]:
    """Let nobody write until the block ends: whoever tries waits as for a disk that does not answer."""
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)


def test_a_worker_that_waits_for_a_disk_is_left_alone_and_its_uploads_come_to_their_end(
    tmp_path: Path, disk: Path
) -> None:
    with serving(tmp_path, disk, worker_timeout="3") as server:
        (worker,) = server.workers()
        with begin_download(server) as download, begin_upload(server) as upload:
            with stalled(disk):
                assert download.read() == DATA
                upload.send(DATA[MIB : 2 * MIB])
                # The loop writes the access line of the download, a thread stores the upload.
                wait_until(lambda: thread_states(worker)[0] == "D", ANSWER_SECONDS)
                wait_until(lambda: thread_states(worker).count("D") == 2, ANSWER_SECONDS)
                time.sleep(4.5)
                assert thread_states(worker)[0] == "D"
            upload.send(DATA[2 * MIB :])
            assert upload.getresponse().status == 201
        assert server.workers() == {worker}
        assert "is killed" not in server.log()
