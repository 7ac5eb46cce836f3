"""SIGHUP: how a new configuration comes into force, and that nothing changes where it does not load."""

import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from servers.processes import PROGRAMS, free_port, spawn, wait_until
from servers.pyrimage import READY_SECONDS, Server
from servers.transfers import logged

pytestmark = pytest.mark.system

BRITTLE = """
from pathlib import Path
from pyrimage.app import main as start

def main(global_conf, **ini):
    starts = Path(global_conf["here"], "starts")
    left = int(starts.read_text())
    if not left:
        raise RuntimeError("no start is left")
    starts.write_text(str(left - 1))
    return start(global_conf, **ini)
"""
HANGING = """
from pathlib import Path
from pyrimage.app import main as start

def main(global_conf, **ini):
    Path(global_conf["here"], "hanging").touch()
    Path(global_conf["here"], "silence").open()  # a pipe that nobody writes to
    return start(global_conf, **ini)
"""


def test_a_configuration_that_does_not_load_changes_nothing_at_sighup(server: Server) -> None:
    workers = server.workers()
    server.configure("app:main", {"pyrimage.nonsense": "1"})
    server.hang_up()
    wait_until(logged(server, "ERROR", "stays in force", "pyrimage.nonsense"), READY_SECONDS, server.log)
    assert server.workers() == workers
    assert server.request("GET", "/v1/images").status == 200


def test_a_supervisor_cannot_be_done_without_at_sighup(server: Server) -> None:
    workers = server.workers()
    server.configure("server:main", {"workers": "0"})
    server.hang_up()
    wait_until(logged(server, "ERROR", "stays in force", "workers = 0 needs a restart"), READY_SECONDS, server.log)
    assert server.workers() == workers


def test_a_place_that_is_taken_changes_nothing_at_sighup(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Server(tmp_path_factory.mktemp("other")) as other:
        server.configure("server:main", {"listen": f"127.0.0.1:{server.port} 127.0.0.1:{other.port}"})
        server.hang_up()
        wait_until(logged(server, "ERROR", "stays in force", other.url), READY_SECONDS, server.log)
        assert server.request("GET", "/v1/images").status == 200
        assert other.request("GET", "/v1/images").status == 200


def test_the_number_of_workers_may_change_at_sighup(server: Server) -> None:
    old = server.workers()
    for number in (3, 1):
        server.configure("server:main", {"workers": str(number)})
        server.hang_up()
        old = server.wait_for_workers(number, other_than=old)
    assert server.request("GET", "/v1/images").status == 200


def test_places_may_come_and_go_at_sighup(server: Server) -> None:
    first, second, old = server.port, free_port(), server.workers()
    for listen in (f"127.0.0.1:{first} 127.0.0.1:{second}", f"127.0.0.1:{second}"):
        server.configure("server:main", {"listen": listen})
        server.hang_up()
        old = server.wait_for_workers(2, other_than=old)
        server.port = second
        assert server.request("GET", "/v1/images").status == 200
    server.port = first
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_a_changed_level_of_the_log_is_in_force_after_sighup(tmp_path: Path) -> None:
    with Server(tmp_path, server={"workers": "1"}) as server:
        old = server.wait_for_workers(1)
        server.configure("logger_access", {"level": "WARNING"})
        server.hang_up()
        old = server.wait_for_workers(1, other_than=old)
        server.request("GET", "/v1/images?before")
        server.configure("logger_access", {"level": "INFO"})
        server.hang_up()
        server.wait_for_workers(1, other_than=old)
        server.request("GET", "/v1/images?after")
        wait_until(logged(server, "pyrimage.access", "/v1/images?after"), READY_SECONDS, server.log)
        assert not logged(server, "/v1/images?before")()


def test_a_sighup_during_another_one_comes_into_force_after_it(server: Server) -> None:
    old = server.workers()
    server.hang_up()
    wait_until(logged(server, "starts anew"), READY_SECONDS, server.log)
    server.configure("server:main", {"workers": "3"})
    server.hang_up()
    wait_until(lambda: server.log().count("starts anew") == 2, READY_SECONDS, server.log)
    server.wait_for_workers(3, other_than=old)
    assert server.request("GET", "/v1/images").status == 200


def test_a_trial_that_hangs_is_given_up_when_a_mended_configuration_is_to_come_into_force(tmp_path: Path) -> None:
    (tmp_path / "hanging_module.py").write_text(HANGING)
    os.mkfifo(tmp_path / "silence")
    server = Server(tmp_path, server={"workers": "1"})
    whole = server.ini.read_text()
    server.start(PYTHONPATH=str(tmp_path))
    old = server.wait_for_workers(1)
    server.ini.write_text(whole.replace("use = egg:pyrimage\n", "paste.app_factory = hanging_module:main\n"))
    server.hang_up()
    wait_until((tmp_path / "hanging").exists, READY_SECONDS, server.log)
    server.ini.write_text(whole)
    server.configure("server:main", {"workers": "2"})
    server.hang_up()
    server.wait_for_workers(2, other_than=old)
    assert server.request("GET", "/v1/images").status == 200
    server.stop()


def test_the_old_workers_serve_until_the_new_ones_come_up(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    starts.write_text("2")  # the first, and the trial
    (tmp_path / "brittle.py").write_text(BRITTLE)
    server = Server(tmp_path, server={"workers": "1"})
    server.ini.write_text(server.ini.read_text().replace("use = egg:pyrimage\n", "paste.app_factory = brittle:main\n"))
    server.start(PYTHONPATH=str(tmp_path))
    old = server.wait_for_workers(1)
    server.hang_up()
    wait_until(logged(server, "ERROR", "ended unasked: status 1"), READY_SECONDS, server.log)
    assert server.workers() == old
    assert server.request("GET", "/v1/images").status == 200
    starts.write_text("9")
    server.wait_for_workers(1, other_than=old)
    assert server.request("GET", "/v1/images").status == 200
    server.stop()


def test_a_python_that_is_gone_changes_nothing_at_sighup(tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for name in ("lib", "pyvenv.cfg"):
        (tmp_path / "venv" / name).symlink_to(PROGRAMS.parent / name)
    server = Server(tmp_path, server={"workers": "1"})
    server.start(str(python), str(PROGRAMS / "pserve"), str(server.ini))
    workers = server.wait_for_workers(1)
    python.unlink()
    server.hang_up()
    wait_until(logged(server, "ERROR", "stays in force", str(python)), READY_SECONDS, server.log)
    assert server.request("GET", "/v1/images").status == 200
    assert server.workers() == workers
    server.stop()


@pytest.mark.parametrize("moment", ["first for trial", "starts anew", "the new workers serve"])
def test_a_server_ends_when_it_is_told_so_during_sighup(server: Server, moment: str) -> None:
    server.hang_up()
    wait_until(logged(server, moment), READY_SECONDS, server.log)
    os.kill(server.pid, signal.SIGTERM)
    assert server.process is not None
    assert server.process.wait(READY_SECONDS) == 0
    assert logged(server, "no worker is left")()
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_a_sighup_that_comes_while_a_server_starts_ends_nothing(tmp_path: Path) -> None:
    place, pid_file = tmp_path / "socket", tmp_path / "api.pid"
    place.mkdir()
    server = Server(tmp_path, server={"workers": "1", "pid_file": str(pid_file)})
    listen = f"listen = 127.0.0.1:{server.port}"
    server.ini.write_text(server.ini.read_text().replace(listen, f"unix_socket = {place}/socket"))
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # for which a start waits, with its pid file held
    server.process = spawn(str(PROGRAMS / "pserve"), str(server.ini), log=server.log_file)
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), READY_SECONDS, server.log)
    server.hang_up()
    os.close(descriptor)
    wait_until(logged(server, "the new workers serve"), READY_SECONDS, server.log)
    server.stop()
