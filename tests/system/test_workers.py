"""Several processes on one socket: who serves, who is replaced, and how a new configuration comes into force."""

import http.client
import os
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from factories import data_headers, error_of
from servers.processes import PROGRAMS, free_port, run, spawn, wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS, Server
from traffic import is_alive

pytestmark = pytest.mark.system

MIB = 1 << 20
DATA = os.urandom(MIB) * 16
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
ERRORS = "ValueError: ", "pyrimage.errors.ConfigurationError: "


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, server={"workers": "2"}) as running:
        running.wait_for_workers(2)
        yield running


def logged(server: Server, *words: str) -> Callable[[], bool]:
    """Tell whether the log has a line with all these words."""
    return lambda: any(all(word in line for word in words) for line in server.log().splitlines())


@contextmanager
def begin_upload(server: Server) -> Iterator[http.client.HTTPConnection]:
    """Send the header of an upload of DATA, and its first bytes."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    client.putrequest("POST", "/v1/images")
    for name, value in {**data_headers(), "Content-Length": str(len(DATA))}.items():
        client.putheader(name, value)
    client.endheaders()
    client.send(DATA[:MIB])
    with closing(client):
        yield client


def claims(server: Server) -> list[str]:
    """Return the names of the processes that take uploads."""
    return [name for (name,) in server.sql("SELECT server FROM claims")]


def store(server: Server) -> str:
    """Upload DATA; return the image's path."""
    made = server.request("POST", "/v1/images", DATA, data_headers())
    assert made.status == 201, made.body
    return f"/v1/images/{made.image['id']}"


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
            wait_until(lambda: len(claims(server)) == len(begun), ANSWER_SECONDS)
            return {int(name.rpartition(":")[2]) for name in claims(server)} == server.workers()

        wait_until(both_claimed, READY_SECONDS)
        for client in begun:
            client.send(DATA[MIB:])
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
        wait_until(lambda: claims(server), ANSWER_SECONDS)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: sum(map(is_alive, workers)) == 1, READY_SECONDS, server.log)
        upload.send(DATA[MIB:])
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


@contextmanager
def metadata_clients(server: Server) -> Iterator[tuple[Counter[str], list[object]]]:
    """Let clients ask for a list again and again; give the answers by kind of client, and what failed."""
    answered: Counter[str] = Counter()
    failed: list[object] = []
    over = threading.Event()

    def ask(kind: str) -> None:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
        with closing(client):
            while not over.is_set():
                try:
                    client.request("GET", "/v1/images")
                    answer = client.getresponse()
                    answer.read()
                except OSError as error:
                    failed.append(error)
                else:
                    answered[kind] += 1
                    failed.extend([answer.status] if answer.status != 200 else [])
                if kind == "new":
                    client.close()

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("new", "new", "kept", "kept")]
    for thread in threads:
        thread.start()
    try:
        yield answered, failed
    finally:
        over.set()
        for thread in threads:
            thread.join()


def begin_download(server: Server, path: str) -> socket.socket:
    """Ask for an image, and take less than the server can hold in the kernel."""
    client = socket.socket()
    client.settimeout(ANSWER_SECONDS)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    client.recv(1, socket.MSG_PEEK)
    return client


def end_download(client: socket.socket) -> bytes:
    """Take the rest of an answer; return its body."""
    raw = bytearray()
    while piece := client.recv(MIB):
        raw += piece
    return bytes(raw).partition(b"\r\n\r\n")[2]


def test_a_new_configuration_comes_into_force_without_failing_a_request_or_a_transfer(server: Server) -> None:
    old, path = server.workers(), store(server)
    server.configure("app:main", {"pyrimage.image_size_cap": str(MIB)})
    with begin_upload(server) as upload, begin_download(server, path) as download:
        with metadata_clients(server) as (answered, failed):
            server.hang_up()
            wait_until(lambda: len(server.workers() - old) == 2, READY_SECONDS)
            before = answered.copy()
            wait_until(lambda: all(answered[kind] >= before[kind] + 20 for kind in ("new", "kept")), READY_SECONDS)
        assert failed == []
        assert server.workers() & old
        upload.send(DATA[MIB:])
        assert upload.getresponse().status == 201
        assert end_download(download) == DATA
    server.wait_for_workers(2, other_than=old)
    refused = server.request("POST", "/v1/images", DATA, data_headers())
    assert refused.status == 413
    assert "image_size_cap" in error_of(refused)


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
    server = Server(tmp_path, server={"connection_limit": "1000", "upload_threads": "44"})
    start_limited(server, "400:5000")
    assert limits(server) == ["2300", "5000"]
    assert "connection_limit" not in server.log()
    server.stop()


def test_where_the_system_refuses_that_fewer_connections_are_taken_and_the_log_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path, server={"connection_limit": "1000", "upload_threads": "44"})
    start_limited(server, "400:500")
    assert limits(server) == ["500", "500"]
    assert logged(server, "WARNING", "connection_limit is lowered to 100")()
    server.stop()
