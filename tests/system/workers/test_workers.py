"""Several processes on one socket: who serves, who is replaced, and how many files they may open."""

import http.client
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.processes import PROGRAMS, is_alive, run, spawn, wait_until
from servers.pyrimage import READY_SECONDS, Server
from servers.transfers import REST, begin_upload, logged

pytestmark = pytest.mark.system

ERRORS = "ValueError: ", "pyrimage.errors.ConfigurationError: "


def claims(server: Server) -> list[str]:
    """Return the names of the processes that take uploads."""
    return [name for (name,) in server.sql("SELECT server FROM claims")]


def test_each_worker_answers_requests_of_its_own(server: Server) -> None:
    workers = server.workers()

    def both_answered() -> bool:
        server.request("GET", "/v1/images")
        answering = (line for line in server.log().splitlines() if "[pyrimage.access]" in line)
        return {int(line.split()[2]) for line in answering} == workers

    wait_until(both_answered, READY_SECONDS, server.log)


def test_each_worker_claims_uploads_in_its_own_name(server: Server) -> None:
    with ExitStack() as uploads:
        begun: list[http.client.HTTPConnection] = []

        def both_claimed() -> bool:
            begun.append(uploads.enter_context(begin_upload(server)))
            return {int(name.rpartition(":")[2]) for name in claims(server)} == server.workers()

        wait_until(both_claimed, READY_SECONDS)
        for client in begun:
            client.send(REST)
            assert client.getresponse().status == 201


def test_where_the_server_listens_is_told_once(server: Server) -> None:
    assert server.log().count(f"Serving on {server.url}") == 1


def test_a_worker_that_is_killed_is_replaced_while_the_other_serves(server: Server) -> None:
    killed, left = server.workers()
    os.kill(killed, signal.SIGKILL)
    for _ in range(50):
        assert server.request("GET", "/v1/images").status == 200
    assert left in server.wait_for_workers(2, other_than=[killed])
    assert logged(server, "WARNING", f"worker {killed} ended unasked: signal 9")()


def test_a_worker_that_cannot_start_is_tried_again_until_it_can(server: Server) -> None:
    killed, left = server.workers()
    server.configure("app:main", {"pyrimage.nonsense": "1"})
    os.kill(killed, signal.SIGKILL)
    wait_until(logged(server, "ERROR", "another is started in 2 s"), READY_SECONDS, server.log)
    assert server.workers() == {left}
    assert server.request("GET", "/v1/images").status == 200
    server.ini.write_text(server.ini.read_text().replace("pyrimage.nonsense = 1", ""))
    server.wait_for_workers(2)


def test_workers_whose_supervisor_is_killed_finish_their_transfers_and_free_the_port(server: Server) -> None:
    workers = server.workers()
    with begin_upload(server) as upload:
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: sum(map(is_alive, workers)) == 1, READY_SECONDS, server.log)
        upload.send(REST)
        assert upload.getresponse().status == 201
    wait_until(lambda: not any(map(is_alive, workers)), READY_SECONDS, server.log)
    assert server.process is not None
    server.process.wait()
    server.start()
    server.wait_for_workers(2)


@pytest.mark.parametrize(
    ("section", "key"), [("app:main", "pyrimage.nonsense"), ("server:main", "nonsense"), ("server:main", "workers")]
)
def test_a_configuration_that_does_not_load_ends_the_first_start_and_is_shown_once(
    tmp_path: Path, section: str, key: str
) -> None:
    server = Server(tmp_path, server={"workers": "4"})
    server.configure(section, {key: "nonsense"})
    ended = run("pserve", server.ini, cwd=tmp_path)
    assert ended.returncode == 1
    assert sum(line.startswith(ERRORS) and key in line for line in ended.stderr.splitlines()) == 1


def test_workers_come_up_although_whoever_read_the_output_is_gone(tmp_path: Path) -> None:
    """A terminal that was closed, or a program behind a pipe that ended: pserve prints when it starts to serve."""
    output = tmp_path / "output"
    os.mkfifo(output)
    server = Server(tmp_path, server={"workers": "2"})
    server.configure("handler_console", {"class": "FileHandler", "args": f"({str(server.log_file)!r},)"})
    server.log_file.touch()
    reader = os.open(output, os.O_RDONLY | os.O_NONBLOCK)
    server.process = spawn(str(PROGRAMS / "pserve"), str(server.ini), log=output)
    killed, left = server.wait_for_workers(2)
    os.close(reader)
    os.kill(killed, signal.SIGKILL)
    replaced = server.wait_for_workers(2, other_than=[killed])
    assert left in replaced
    server.configure("server:main", {"workers": "1"})
    server.hang_up()
    server.wait_for_workers(1, other_than=replaced)
    assert server.request("GET", "/v1/images").status == 200
    server.stop()


def test_workers_are_refused_where_the_process_has_threads(tmp_path: Path) -> None:
    """The reloader of pserve watches the modules in a thread."""
    server = Server(tmp_path, server={"workers": "2"})
    server.process = spawn(str(PROGRAMS / "pserve"), "--reload", str(server.ini), log=server.log_file)
    wait_until(logged(server, "ValueError", "pserve --reload needs workers = 0"), READY_SECONDS, server.log)
    server.kill()


def limits(server: Server) -> list[str]:
    """Return how many files the server may open: the soft limit, and the hard one."""
    lines = Path(f"/proc/{server.pid}/limits").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("Max open files"))
    return line.split()[3:5]


def start_limited(server: Server, limit: str) -> None:
    prlimit = shutil.which("prlimit")
    assert prlimit is not None
    server.start(prlimit, f"--nofile={limit}", str(PROGRAMS / "pserve"), str(server.ini))


def test_the_limit_of_open_files_is_raised_to_what_the_connections_need(tmp_path: Path) -> None:
    server = Server(tmp_path, server={"connection_limit": "1000", "upload_threads": "40", "relay_threads": "4"})
    start_limited(server, "400:5000")
    assert limits(server) == ["2300", "5000"]
    assert "connection_limit" not in server.log()
    server.stop()


def test_where_the_system_refuses_that_fewer_connections_are_taken_and_the_log_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path, server={"connection_limit": "1000", "upload_threads": "40", "relay_threads": "4"})
    start_limited(server, "400:500")
    assert limits(server) == ["500", "500"]
    assert logged(server, "WARNING", "connection_limit is lowered to 100")()
    server.stop()
