"""Downloads whose file has no descriptor: threads read it, slow clients hold none, and what breaks is never hidden."""

import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from pyrimage.server import serving as serving_module
from pyrimage.server.relays import LEAST_BYTES, PIECE_BYTES, Relay
from servers.in_process_server import (
    MIB,
    SECONDS,
    Answer,
    Running,
    answers,
    echo,
    leave_by_reset,
    receive_all,
    request,
    serving,
)
from servers.processes import wait_until

BLOCK = os.urandom(MIB)
REQUEST_ID = "req-of-the-image"
SIZE = 64 * MIB  # more than the sockets of both sides hold
AHEAD = 2 * MIB  # that is promised to be read ahead at most


class Remote:
    """A file as stores in the network give it: BLOCK over and over, in reads that wait until the gate is open."""

    promised = SIZE  # by the application, in Content-Length

    def __init__(self, gate: threading.Event, size: int = SIZE, error: Exception | None = None) -> None:
        self.gate, self.size, self.error = gate, size, error
        self.is_asked = threading.Event()
        self.given = self.closed_times = 0

    def read(self, size: int) -> bytes:
        self.is_asked.set()
        if not self.gate.wait(SECONDS):
            raise AssertionError("the test does not let it read")
        start = self.given % MIB
        data = BLOCK[start : start + min(size, self.size - self.given)]
        if not data and self.error is not None:
            raise self.error
        self.given += len(data)
        return data

    def close(self) -> None:
        self.closed_times += 1


class Store:
    """An application that answers with a remote file; elsewhere with the environ."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.files: list[Remote] = []
        self.make: Callable[[], Remote] = lambda: Remote(self.gate)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/image":
            return echo(environ, start_response)
        environ["pyrimage.request_id"] = REQUEST_ID
        self.files.append(self.make())
        start_response("200 OK", [("Content-Length", str(self.files[-1].promised))])
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](self.files[-1])
        return answer

    def are_closed(self) -> bool:
        """Tell whether every file was closed, and once."""
        return [file.closed_times for file in self.files] == [1] * len(self.files)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.gate.set()


def wait_until_closed(store: Store) -> None:
    wait_until(store.are_closed, SECONDS)


def ask(server: Running, receive_buffer: int = 0) -> socket.socket:
    client = server.connect(receive_buffer)
    client.sendall(request("GET /image"))
    return client


def read_ahead(server: Running, store: Store) -> list[int]:
    """Return how many bytes of each file were read and are not sent."""
    begun = [each for each in server.connections() if isinstance(each.outbufs[0], Relay)]
    not_sent = {each.outbufs[0].file: each.total_outbufs_len for each in begun}
    return [file.given - (SIZE - not_sent.get(file, SIZE)) for file in store.files]


def fill(server: Running, store: Store, count: int) -> list[socket.socket]:
    """Let clients ask for the image and read nothing; return when the main loop has something to send to each."""
    clients = [ask(server, receive_buffer=4096) for _ in range(count)]
    wait_until(lambda: sum(ahead > PIECE_BYTES for ahead in read_ahead(server, store)) == count, SECONDS)
    return clients


# What is sent


def test_the_file_is_sent_whole_and_the_connection_goes_on(store: Store) -> None:
    """Where nothing else wakes the main loop; but the end, for which it looks twice a second."""
    with serving(store, asyncore_loop_timeout=1000) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving_module, "TURN_SECONDS", 1000.0)
        client = server.send(request("GET /image") * 2 + request("GET /last", "Connection: close"))
        *images, last = answers(receive_all(client))
    assert [image.body == BLOCK * (SIZE // MIB) for image in images] == [True] * 2
    assert last.json["PATH_INFO"] == "/last"
    assert [line.split(" ")[4] for line in server.lines()[:2]] == [str(SIZE)] * 2
    assert store.are_closed()


# Slow clients, and slow stores


def test_two_hundred_clients_that_read_nothing_keep_no_other_waiting(store: Store) -> None:
    """And each has at most 2 MiB of the server's memory."""
    with serving(store, relay_threads=2) as server:
        fill(server, store, 200)
        assert max(read_ahead(server, store)) <= AHEAD
        assert len(receive_all(server.send(request("GET /image", "Connection: close")))) > SIZE
        server.disconnect()
        wait_until_closed(store)


def test_a_fast_client_of_a_fast_store_has_no_thread_for_itself(store: Store) -> None:
    """Though its thread has never to wait for it."""
    received, is_taken, is_over = 0, threading.Condition(), threading.Event()

    class Endless(Remote):
        promised = 2**50

        def read(self, size: int) -> bytes:
            with is_taken:
                is_taken.wait_for(lambda: received >= self.given or is_over.is_set(), SECONDS)
            return super().read(LEAST_BYTES)

    def take(client: socket.socket) -> None:
        nonlocal received
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        while not is_over.is_set() and (count := len(client.recv(MIB))):
            with is_taken:
                received += count
                is_taken.notify()

    store.make = lambda: Remote(store.gate) if store.files else Endless(store.gate, Endless.promised)
    with serving(store, relay_threads=1) as server:
        taker = threading.Thread(target=take, args=(ask(server),))
        taker.start()
        wait_until(lambda: received > MIB, SECONDS)
        assert len(receive_all(server.send(request("GET /image", "Connection: close")))) > SIZE
        with is_taken:
            is_over.set()
            is_taken.notify()
        taker.join()
        server.disconnect()


@pytest.mark.parametrize(
    ("field", "follows"),
    [("Connection: close", b""), ("Connection: keep-alive", b""), ("Connection: keep-alive", request("GET /next"))],
)
def test_the_loop_is_idle_while_the_store_is_slow(store: Store, field: str, follows: bytes) -> None:
    store.gate.clear()
    with serving(store) as server:
        client = server.send(request("GET /image", field) + follows)
        assert client.recv(MIB).endswith(b"\r\n\r\n")
        client.sendall(follows)
        wait_until(lambda: bool(store.files) and store.files[0].is_asked.is_set(), SECONDS)
        before = server.cpu_seconds()
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert server.cpu_seconds() - before < 0.1
        store.gate.set()
        client.settimeout(SECONDS)
        received = 0
        while received < SIZE:
            received += len(client.recv(MIB))


# The end of a client

LEAVE: dict[str, Callable[[socket.socket], None]] = {
    "close": socket.socket.close,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
    "reset": leave_by_reset,
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_who_leaves_while_the_store_is_slow_is_gone_before_it_answers(
    store: Store, leave: Callable[[socket.socket], None]
) -> None:
    store.gate.clear()
    with serving(store) as server:
        client = ask(server)
        assert client.recv(MIB).endswith(b"\r\n\r\n")
        wait_until(lambda: store.files[0].is_asked.is_set(), SECONDS)
        leave(client)
        wait_until(lambda: not server.connections(), SECONDS)
        assert f" 200 0/{SIZE} " in server.wait_for_line()
        assert store.files[0].closed_times == 0
        store.gate.set()
        wait_until_closed(store)
    assert server.lines() == []


def test_the_file_of_a_client_that_reads_nothing_and_leaves_is_closed(store: Store) -> None:
    with serving(store) as server:
        for client in fill(server, store, 3):
            leave_by_reset(client)
        wait_until(lambda: not server.connections(), SECONDS)
        wait_until_closed(store)
    assert [bool(re.search(rf" 200 \d+/{SIZE} ", line)) for line in server.lines()] == [True] * 3


def test_who_takes_nothing_for_long_is_let_go(store: Store) -> None:
    with serving(store, channel_timeout=1, cleanup_interval=1) as server:
        ask(server, receive_buffer=4096)
        wait_until(lambda: bool(store.files) and not server.connections(), SECONDS)
        wait_until_closed(store)


# The end of a file

BROKEN: dict[str, tuple[Exception | None, str, int]] = {
    "error": (OSError("the store fast is away"), "OSError: the store fast is away", logging.WARNING),
    "early end": (None, f"OSError: it ended {SIZE - 10 * MIB} bytes early", logging.WARNING),
    "fault": (RuntimeError("a fault of the program"), "a fault of the program", logging.ERROR),
}


@pytest.mark.parametrize(("error", "text", "level"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("size", [0, 10 * MIB])
def test_a_file_that_breaks_breaks_the_connection_and_the_log_says_why(
    store: Store, error: Exception | None, text: str, level: int, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.make = lambda: Remote(store.gate, size, error)
    with serving(store) as server:
        answer = Answer.parse(receive_all(server.send(request("GET /image"))))
        line = server.wait_for_line()
        wait_until_closed(store)
    assert (answer.headers["content-length"], len(answer.body) <= size) == (str(SIZE), True)
    assert f" 200 {len(answer.body)}/{SIZE} " in line
    (record,) = [record for record in caplog.records if record.name == "waitress"]
    assert (record.levelno, record.exc_info is None) == (level, level == logging.WARNING)
    assert ("GET /image" in record.getMessage(), vars(record)["request_fields"]["request_id"]) == (True, REQUEST_ID)
    assert text.replace(str(SIZE - 10 * MIB), str(SIZE - size)) in caplog.text


def test_a_file_never_gives_more_than_was_promised(store: Store) -> None:
    """Or it would be taken for the next answer."""

    class Generous(Remote):
        def read(self, size: int) -> bytes:
            return super().read(size) + b"x"

    store.make = lambda: Generous(store.gate)
    with serving(store) as server:
        assert Answer.parse(receive_all(server.send(request("GET /image")))).body == b""


# The end of a server


def test_a_server_that_stops_lets_the_store_answer(store: Store) -> None:
    store.gate.clear()
    with serving(store) as server:
        client = ask(server)
        start = client.recv(1)
        server.serving.stop()
        store.gate.set()
        assert len(Answer.parse(start + receive_all(client)).body) == SIZE
    assert store.are_closed()


def test_a_server_that_waits_no_longer_cuts_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose clients read nothing, and those whose store does not answer: these are closed when it does."""
    monkeypatch.setattr(serving_module, "ABORT_SECONDS", 0.5)
    answers = threading.Event()
    with serving(store, shutdown_timeout=0) as server:
        fill(server, store, 3)
        store.make = lambda: Remote(answers)
        client = server.send(request("GET /image"))
        wait_until(lambda: len(store.files) == 4 and store.files[3].is_asked.is_set(), SECONDS)
        client.sendall(request("GET /next"))  # then the main loop does not watch the connection any more
        wait_until(lambda: any(each.has_sent_ahead for each in server.connections()), SECONDS)
        server.serving.stop()
        server.thread.join(SECONDS)
        assert [file.closed_times for file in store.files] == [1, 1, 1, 0]
        answers.set()
        wait_until_closed(store)
    assert [bool(re.search(rf" 200 \d+/{SIZE} ", line)) for line in server.lines()] == [True] * 4
