"""SIGTERM and SIGHUP while the server is at work: what was begun is finished.

The calls come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import hashlib
import http.client
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from aftermath import leftovers
from amounts import amount
from factories import data_headers, md5
from journal import MIB, Journal
from servers.processes import children, is_alive, wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS, Answer, Server
from traffic import TRANSFERS, traffic

pytestmark = [pytest.mark.system, pytest.mark.long]

PIECE = os.urandom(MIB)
PIECES = amount(32, 64)
SIZE, MD5 = PIECES * MIB, md5(PIECE * PIECES)
EACH = amount(3, 8)  # uploads, and as many downloads
CLIENTS = 8
CAP = 100 * MIB
TOO_MUCH = b"Content-Type: application/octet-stream", b"Content-Length: %d" % (CAP + 1)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory whose gigabyte of images does not stay."""
    yield tmp_path
    shutil.rmtree(tmp_path / "var")


class Held:
    """Transfers that stop in their middle: more is left of each than the kernel's buffers hold."""

    def __init__(self) -> None:
        self.standing = 0
        self._lock = threading.Lock()
        self._going = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()

    def stand(self) -> None:
        """Wait, in a thread of a transfer, until it may go on."""
        with self._lock:
            self.standing += 1
        self._going.wait(2 * READY_SECONDS)

    def let_go(self) -> None:
        """Let all go on."""
        self._going.set()


def halves(held: Held) -> Iterator[bytes]:
    for number in range(PIECES):
        if number == PIECES // 2:
            held.stand()
        yield PIECE


def upload(server: Server, held: Held, number: int) -> Answer:
    """Upload an image, every other one without telling how long it is."""
    length = {"Content-Length": str(SIZE)} if number % 2 else {}
    return server.request("POST", "/v1/images", halves(held), {**data_headers(), **length})


def download(server: Server, held: Held, path: str) -> str:
    """Return the md5 of what was downloaded."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    hashed = hashlib.md5()
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        hashed.update(response.read(MIB))
        held.stand()
        while piece := response.read(MIB):
            hashed.update(piece)
    return hashed.hexdigest()


class Transfers:
    """Uploads and downloads that are held in their middle."""

    def __init__(self, server: Server, threads: ThreadPoolExecutor, held: Held) -> None:
        with Held() as nobody:
            nobody.let_go()
            path = f"/v1/images/{upload(server, nobody, 1).image['id']}"
        self.uploads = [threads.submit(upload, server, held, number) for number in range(EACH)]
        self.downloads: list[Future[str]] = [threads.submit(download, server, held, path) for _ in range(EACH)]
        wait_until(lambda: held.standing == 2 * EACH, 2 * READY_SECONDS, server.log)

    def results(self) -> tuple[list[tuple[int, str]], list[str]]:
        """Return status and checksum of the uploads, and the md5 of what was downloaded."""
        answers = [each.result() for each in self.uploads]
        uploaded = [(each.status, each.image["checksum"]) for each in answers]
        return uploaded, [each.result() for each in self.downloads]


ALL_WHOLE = [(201, MD5)] * EACH, [MD5] * EACH


def journal() -> Journal:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    return Journal(seed)


def test_sigterm_ends_busy_connections_between_two_calls(tmp_path: Path) -> None:
    """Most clients keep theirs, and would go on for ever."""
    with Server(tmp_path, server={"workers": "2"}) as server:
        told = journal()
        with traffic([server], told, clients=CLIENTS, calls=TRANSFERS):
            wait_until(lambda: told.calls.total() > 200, READY_SECONDS, server.log)
            os.kill(server.pid, signal.SIGTERM)
            assert server.process is not None
            assert server.process.wait(READY_SECONDS // 2) == 0
            wait_until(lambda: told.cut["refused"] > CLIENTS, READY_SECONDS, server.log)
        assert (told.wrong, set(told.cut)) == ([], {"refused"})


def test_sighup_fails_no_request_and_cuts_no_transfer(directory: Path) -> None:
    server = Server(directory, server={"workers": "2"})
    server.configure("logger_pyrimage", {"level": "ERROR"})
    with server, ThreadPoolExecutor(2 * EACH) as threads, Held() as held:
        wait_until(lambda: len(children(server.pid)) == 2, READY_SECONDS, server.log)
        old, told = children(server.pid), journal()
        with traffic([server], told, clients=CLIENTS):
            transfers = Transfers(server, threads, held)
            assert "bytes came" not in server.log()
            server.configure("logger_pyrimage", {"level": "INFO"})
            server.configure("app:main", {"pyrimage.image_size_cap": str(CAP)})
            server.hang_up()
            server.wait_for_workers(2)
            goal = told.calls.total() + 200
            wait_until(lambda: told.calls.total() > goal, READY_SECONDS, server.log)
            held.let_go()
            assert transfers.results() == ALL_WHOLE
            wait_until(lambda: not any(map(is_alive, old)), READY_SECONDS, server.log)
            goal = told.calls.total() + 200
            wait_until(lambda: told.calls.total() > goal, READY_SECONDS, server.log)
        assert (told.wrong, told.cut) == ([], {})
        assert "bytes came" in server.log()
        for _ in range(10):  # whichever worker answers
            assert server.ask(b"POST /v1/images", *TOO_MUCH).status == 413
        assert leftovers(server, f"sqlite:///{server.database}") == []
