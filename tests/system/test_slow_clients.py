"""Clients that are slow, or leave: the others are served, and nothing of theirs stays. More: tests/server/.

The server waits half a minute before it judges a body's rate, and so does the longest test here.
"""

import contextlib
import os
import re
import select
import socket
import statistics
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from amounts import amount
from factories import data_headers, error_of, files_below, md5, meta
from servers.processes import OWNED, children, run, wait_until
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

KIB, MIB = 1 << 10, 1 << 20
SLOW = amount(40, 200)  # uploads, of a kibibyte each second
DOWNLOADS = amount(2, 8)
RATE = "20M"  # bytes/s of each download
DATA = bytes(64 * MIB)
GROWTH = 128 * MIB  # of all processes
DESCRIPTORS = 3 * SLOW + 2 * DOWNLOADS + 200  # a slow upload has two for its socket, and one for its file
PATIENCE = 120  # seconds

OCTETS = b"Host: localhost\r\nContent-Type: application/octet-stream\r\n"
SIZED = b"Content-Length: 1000000\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def check_nothing_stays(server: Server, images: int = 0) -> None:
    """Check that so many images are left, and nothing of any upload."""
    wait_until(lambda: not server.sql("SELECT * FROM claims"), PATIENCE, server.log)
    assert server.sql("SELECT count(*) FROM images") == [(images,)]
    assert [name for name in server.files() if name.startswith("staging/")] == []
    assert files_below(server.directory / "tmp") == []


# Too slow


class SlowUpload:
    """A connection that a body comes over, a kibibyte at a time, until there is an answer."""

    def __init__(self, server: Server, *, chunked: bool) -> None:
        start = b"POST /v1/images HTTP/1.1\r\nx-image-meta-name: slow\r\n" + OCTETS
        self.socket = server.connect(start + (CHUNKED if chunked else SIZED))
        self._piece = b"400\r\n%s\r\n" % bytes(KIB) if chunked else bytes(KIB)
        self._received = bytearray()

    def send(self) -> None:
        """Send the next of the body."""
        if not self._received:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer is on its way
                self.socket.sendall(self._piece)

    def hear(self) -> bool:
        """Take what came of the answer; tell whether it is over."""
        piece = self.socket.recv(65536)
        self._received += piece
        if not piece:
            self.socket.close()
        return not piece

    @property
    def answer(self) -> Answer:
        """What the server said."""
        head, _, body = self._received.partition(b"\r\n\r\n")
        return Answer.parse(bytes(head), bytes(body))


def trickle(server: Server) -> list[Answer]:
    """Upload over all connections, a kibibyte each second, every other one in chunks; return the answers."""
    uploads = [SlowUpload(server, chunked=number % 2 == 1) for number in range(SLOW)]
    going = {upload.socket: upload for upload in uploads}
    deadline = time.monotonic() + 3 * PATIENCE
    while going:
        due = time.monotonic() + 1
        assert due < deadline, f"{len(going)} uploads go on"
        for upload in going.values():
            upload.send()
        while going and (left := due - time.monotonic()) > 0:
            for client in select.select(list(going), [], [], left)[0]:
                if going[client].hear():
                    del going[client]
    return [upload.answer for upload in uploads]


def download(server: Server, path: str, others: "Future[list[Answer]]") -> list[str]:
    """Download again and again while others work; return what curl says of each."""
    command = [*OWNED, "curl", "-sS", "--limit-rate", RATE, "-o", os.devnull, "-w", "%{http_code} %{size_download}"]
    said = []
    while not others.done():
        said.append(subprocess.run([*command, server.url + path], capture_output=True, text=True, check=True).stdout)
    return said


class Watch:
    """Metadata calls, how long each took, and what all of the server's processes need meanwhile."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.first_memory, self.descriptors = self._needs()
        self.memory = self.first_memory

    def work(self, others: "Future[list[Answer]]") -> None:
        """Use each call that reads or writes metadata, again and again while others work."""
        while not others.done():
            path = f"/v1/images/{self._time('POST', '/v1/images', meta(name='other')).image['id']}"
            self._time("GET", "/v1/images")
            self._time("GET", "/v1/images/detail?is_public=None")
            self._time("HEAD", path)
            self._time("PUT", path, meta(min_ram="5"))
            self._time("DELETE", path)
            memory, descriptors = self._needs()
            self.memory, self.descriptors = max(self.memory, memory), max(self.descriptors, descriptors)

    def _time(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        began = time.monotonic()
        answer = self._server.request(method, path, headers=headers)
        self.seconds.append(time.monotonic() - began)
        self.statuses[answer.status] += 1
        return answer

    def _needs(self) -> tuple[int, int]:
        places = [Path(f"/proc/{pid}") for pid in (self._server.pid, *children(self._server.pid))]
        pages = sum(int((place / "statm").read_text(encoding="ascii").split()[1]) for place in places)
        return pages * os.sysconf("SC_PAGE_SIZE"), sum(len(list((place / "fd").iterdir())) for place in places)

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.seconds, n=100)
        milliseconds = [f"{each * 1000:.1f}" for each in (cuts[49], cuts[98], max(self.seconds))]
        return (
            f"{len(self.seconds)} metadata calls: median, 99 of 100, longest {', '.join(milliseconds)} ms; "
            f"memory {self.first_memory / MIB:.0f} to {self.memory / MIB:.0f} MiB, {self.descriptors} descriptors"
        )


@pytest.mark.long
@pytest.mark.parametrize("workers", ["0", "2"])
def test_many_slow_uploads_keep_nobody_waiting_and_end_in_408(tmp_path: Path, workers: str) -> None:
    """S40: with downloads beside them."""
    made = Server(tmp_path, sample="production", server={"workers": workers, "upload_threads": str(SLOW)})
    assert run("pyrimage-manage", "-c", made.ini, "db", "upgrade", cwd=tmp_path).returncode == 0
    with made as server, ThreadPoolExecutor(DOWNLOADS + 1) as threads:
        path = f"/v1/images/{server.request('POST', '/v1/images', DATA, data_headers(name='f17')).image['id']}"
        watch = Watch(server)
        slow = threads.submit(trickle, server)
        downloads = [threads.submit(download, server, path, slow) for _ in range(DOWNLOADS)]
        watch.work(slow)
        print(watch)
        assert Counter(answer.status for answer in slow.result()) == {408: SLOW}
        assert all("upload_min_rate" in error_of(answer) for answer in slow.result())
        said = Counter(each for one in downloads for each in one.result())
        assert said.keys() == {f"200 {len(DATA)}"}
        assert watch.statuses.keys() == {200, 201}
        assert [line for line in server.access_lines() if line[3] >= "500"] == []
        assert watch.memory < watch.first_memory + GROWTH
        assert watch.descriptors < DESCRIPTORS
        server.sql("DELETE FROM images WHERE status = 'deleted'")
        check_nothing_stays(server, images=1)


# Clients that leave


def leave(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize(
    ("begin", "of", "end"),
    [(SIZED + b"x" * 600_000, " of 1000000", leave), (CHUNKED + b"fffff\r\n" + b"x" * 600_000, "", reset)],
    ids=["sized", "chunked"],
)
def test_client_that_leaves_in_its_body_stores_nothing_and_is_noted_at_once(
    own_server: Server, begin: bytes, of: str, end: Callable[[socket.socket], None]
) -> None:
    server = own_server
    path = f"/v1/images/{server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"
    client = server.connect(f"PUT {path} HTTP/1.1\r\n".encode() + OCTETS + begin)
    wait_until(lambda: server.sql("SELECT * FROM claims"), PATIENCE, server.log)
    end(client)
    check_nothing_stays(server, images=1)
    assert server.files() == []
    (image,) = server.request("GET", "/images/detail?is_public=None").json["images"]
    said = re.fullmatch(rf"The client left after (\d+){of} bytes\.", image["last_error"])
    assert image["status"] == "queued"
    assert said, image["last_error"]
    assert int(said[1]) == 600_000 or (end is reset and int(said[1]) < 600_000)  # what had come may be lost with it
    filled = server.request("PUT", path, b"bytes", data_headers())
    assert filled.image["checksum"] == md5(b"bytes")
    (image,) = server.request("GET", "/images/detail?is_public=None").json["images"]
    assert image["last_error"] is None
