"""SIGTERM and Ctrl-C: nothing new is accepted, and what is under way comes to its end."""

import http.client
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from servers.processes import PROGRAMS, wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS, Server
from servers.transfers import DATA, REST, begin_download, begin_upload

pytestmark = pytest.mark.system

GET = b"GET /v1/images HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def serving(directory: Path, workers: int, **settings: str) -> Iterator[Server]:
    with Server(directory, server={"workers": str(workers), **settings}) as server:
        server.wait_for_workers(workers)
        yield server


@pytest.fixture(params=[0, 2], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def server(tmp_path: Path, workers: int) -> Iterator[Server]:
    with serving(tmp_path, workers) as running:
        yield running


def kept(server: Server) -> http.client.HTTPConnection:
    """Return a connection that was answered once and is idle now."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    client.request("GET", "/v1/images")
    answer = client.getresponse()
    answer.read()
    assert not answer.will_close
    return client


def stop(server: Server, number: signal.Signals = signal.SIGTERM) -> None:
    """Tell the server to stop, and wait until it listens no more."""
    os.kill(server.pid, number)
    wait_until(lambda: refuses(server), READY_SECONDS, server.log)


def refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it came between the last accept and the end
        return False
    return False


def has_ended_well(server: Server) -> bool:
    assert server.process is not None
    return server.process.wait(READY_SECONDS) == 0


def nothing_is_left(server: Server) -> bool:
    return (server.sql("SELECT * FROM claims"), server.sql("SELECT * FROM images"), server.files()) == ([], [], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_transfers_come_to_their_end_while_nobody_else_is_let_in(server: Server, number: signal.Signals) -> None:
    with begin_download(server) as download, begin_upload(server) as upload:
        stop(server, number)
        upload.send(REST)
        assert upload.getresponse().status == 201
        assert download.read() == DATA
    assert has_ended_well(server)


def test_a_second_sigterm_and_one_for_the_whole_group_are_harmless(server: Server) -> None:
    with begin_upload(server) as upload:
        stop(server)
        os.kill(server.pid, signal.SIGTERM)
        os.killpg(server.pid, signal.SIGTERM)
        upload.send(REST)
        assert upload.getresponse().status == 201
    assert has_ended_well(server)


def test_a_ctrl_c_that_the_whole_group_gets_lets_transfers_end_too(server: Server) -> None:
    with begin_upload(server) as upload:
        os.killpg(server.pid, signal.SIGINT)
        wait_until(lambda: refuses(server), READY_SECONDS, server.log)
        upload.send(REST)
        assert upload.getresponse().status == 201
    assert has_ended_well(server)


def test_a_second_ctrl_c_cuts_transfers_and_they_leave_nothing(server: Server) -> None:
    with begin_upload(server) as upload:
        stop(server, signal.SIGINT)
        os.killpg(server.pid, signal.SIGINT)
        with pytest.raises(ConnectionError):
            upload.getresponse()
    assert has_ended_well(server)
    assert nothing_is_left(server)


def test_a_second_ctrl_c_reaches_workers_of_a_server_that_a_script_started(tmp_path: Path) -> None:
    ignoring = "trap '' QUIT USR2; exec \"$@\""  # as a shell without job control does for what follows "&"
    server = Server(tmp_path, server={"workers": "1", "shutdown_timeout": "600"})
    server.start(str(shutil.which("sh")), "-c", ignoring, "sh", str(PROGRAMS / "pserve"), str(server.ini))
    with begin_upload(server) as upload:
        stop(server, signal.SIGINT)
        os.kill(server.pid, signal.SIGINT)
        with pytest.raises(ConnectionError):
            upload.getresponse()
    assert has_ended_well(server)


def test_transfers_that_take_longer_than_allowed_are_cut_and_leave_nothing(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, workers, shutdown_timeout="1") as server:
        with begin_upload(server) as upload:
            stop(server)
            with pytest.raises(ConnectionError):
                upload.getresponse()
        assert has_ended_well(server)
        assert nothing_is_left(server)
        assert "connections are cut" in server.log()


def test_idle_connections_are_closed(server: Server) -> None:
    with begin_upload(server) as upload, closing(kept(server)) as idle, server.connect() as silent:
        stop(server)
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        assert silent.recv(1) == b""
        upload.send(REST)
        assert upload.getresponse().status == 201


def test_a_kept_connection_is_answered_once_more_and_told_that_it_ends(server: Server) -> None:
    with begin_upload(server) as upload, closing(kept(server)) as client:
        stop(server)
        client.request("GET", "/v1/images")
        answer = client.getresponse()
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        upload.send(REST)
        assert upload.getresponse().status == 201


def test_connections_that_were_not_accepted_yet_are_answered(server: Server, workers: int) -> None:
    processes = server.workers() if workers else {server.pid}
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as waiting:
        clients = [waiting.enter_context(server.connect(GET)) for _ in range(20)]
        os.kill(server.pid, signal.SIGTERM)
        if workers:
            wait_until(lambda: "stops its workers" in server.log(), READY_SECONDS)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 200"] * 20
    assert has_ended_well(server)


def test_sighup_ends_a_server_without_workers(tmp_path: Path) -> None:
    with serving(tmp_path, 0) as server:
        os.kill(server.pid, signal.SIGHUP)
        assert has_ended_well(server)


def test_a_sighup_that_nohup_ignores_ends_no_server(tmp_path: Path) -> None:
    nohup = shutil.which("nohup")
    assert nohup is not None
    server = Server(tmp_path, server={"workers": "0"})
    server.start(nohup, str(PROGRAMS / "pserve"), str(server.ini))
    for _ in range(20):
        os.kill(server.pid, signal.SIGHUP)
        assert server.request("GET", "/v1/images").status == 200
    server.stop()


def test_a_server_ends_in_time_where_nobody_reads_what_it_tells(tmp_path: Path) -> None:
    server = Server(tmp_path, server={"workers": "0", "shutdown_timeout": "0"})
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb", buffering=0) as pipe:
        telling = f'exec "$0" "$1" 2>/proc/{os.getpid()}/fd/{writing}'
        server.start(str(shutil.which("sh")), "-c", telling, str(PROGRAMS / "pserve"), str(server.ini))
        os.set_blocking(writing, False)  # for this process alone
        for size in (4096, 1):
            while pipe.write(bytes(size)):
                pass
        with server.connect(GET) as client:
            assert client.recv(12) == b"HTTP/1.1 200"
            assert server.process is not None
            server.process.terminate()
            assert server.process.wait(READY_SECONDS) == -signal.SIGALRM


HANGING = """
import atexit, time
from pyrimage.app import main as start

def main(global_conf, **ini):
    atexit.register(hang)
    return start(global_conf, **ini)

def hang():
    time.sleep(1000)
"""


def test_a_server_ends_in_time_though_what_it_does_last_hangs(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    server = Server(tmp_path, server={"workers": "0", "shutdown_timeout": "0"})
    ini = server.ini.read_text()
    server.ini.write_text(ini.replace("use = egg:pyrimage\n", "paste.app_factory = hanging:main\n"))
    server.start(PYTHONPATH=str(tmp_path))
    assert server.process is not None
    server.process.terminate()
    assert server.process.wait(READY_SECONDS) == 1
    assert "in hang" in server.log()


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, 2, shutdown_timeout="0") as server:
        stuck = min(server.workers())
        os.kill(stuck, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGTERM)
        assert has_ended_well(server)
        assert f"worker {stuck} is killed" in server.log()
