"""Large uploads that are refused: those who ask are told before the body, and the others are told all the same."""

import contextlib
import http.client
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from factories import OCTETS, data_headers, error_of, files_below, meta
from servers.processes import OWNED, wait_until
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

MIB = 1 << 20
SIZE = CAP = 256 * MIB
QUOTA = 2 * SIZE
FULL = "full"  # an owner whose quota has room for one byte less
SECONDS = 0.1  # for a refusal
TRIES = 5  # of which one must be quick enough: the machine does other things too
TAKEN = 64 * 1024  # bytes of a body that may come before its refusal
GROWTH = 64 * MIB
PIECE = bytes(MIB)


class Refusal(NamedTuple):
    """An upload that is refused, and how."""

    status: int
    words: str
    method: str = "POST"
    path: str = "/v1/images"
    size: int = SIZE
    headers: dict[str, str] = data_headers(name="f17")

    def head(self, *lines: str) -> bytes:
        """Return the start line and the header lines, with ``lines`` among them."""
        fields = [f"{name}: {value}" for name, value in self.headers.items()]
        start = f"{self.method} {self.path} HTTP/1.1"
        return "\r\n".join([start, "Host: localhost", *fields, *lines, "", ""]).encode()

    def check(self, answer: Answer) -> None:
        """Check that this is the refusal, and that the connection ends with it."""
        assert (answer.status, answer.headers["Connection"]) == (self.status, "close")
        assert self.words in error_of(answer)


REFUSALS = {
    "id taken": Refusal(409, "id taken is taken", headers=data_headers(id="taken")),
    "id of an upload": Refusal(409, "new is under way", headers=data_headers(id="new")),
    "upload in progress": Refusal(409, "busy is under way", "PUT", "/v1/images/busy", headers=data_headers()),
    "data is there": Refusal(409, "only a queued image", "PUT", "/v1/images/taken", headers=data_headers()),
    "bad header": Refusal(400, "x-image-meta-disk-format", headers=data_headers(disk_format="floppy")),
    "content type": Refusal(400, OCTETS, headers={**data_headers(name="f17"), "Content-Type": "text/plain"}),
    "condition": Refusal(412, "If-Match", "PUT", "/v1/images/busy", headers={**data_headers(), "If-Match": "*"}),
    "part": Refusal(400, "Content-Range", headers={**data_headers(name="f17"), "Content-Range": f"bytes 1-{SIZE}/*"}),
    "encoded": Refusal(415, "Content-Encoding", headers={**data_headers(name="f17"), "Content-Encoding": "gzip"}),
    "door": Refusal(403, "pyrimage.allow_anonymous", headers={**data_headers(name="f17"), "X-Forwarded-For": "::1"}),
    "no image": Refusal(404, "nothing at this path", "PUT", "/v1/images/none", headers=data_headers()),
}
SIZED = {  # they are refused for the size that is announced
    "cap": Refusal(413, "pyrimage.image_size_cap", size=CAP + 1),
    "quota": Refusal(413, "pyrimage.user_storage_quota", headers=data_headers(owner=FULL)),
}

ALL = {**REFUSALS, **SIZED}

every_refusal = pytest.mark.parametrize("refusal", ALL.values(), ids=list(ALL))
chunked_refusal = pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two images, and two uploads that wait for their client."""
    main = {"pyrimage.image_size_cap": str(CAP), "pyrimage.user_storage_quota": str(QUOTA)}
    with Server(tmp_path_factory.mktemp("server"), main=main, server={"upload_timeout": "3600"}) as server:
        for fields in ({"id": "taken"}, {"name": "f17", "owner": FULL}):
            assert server.request("POST", "/v1/images", b"x", data_headers(**fields)).status == 201
        assert server.request("POST", "/v1/images", headers=meta(id="busy")).status == 201
        server.sql("UPDATE images SET size = ? WHERE owner = ?", QUOTA - SIZE + 1, FULL)
        under_way = [REFUSALS["id of an upload"], REFUSALS["upload in progress"]]
        with contextlib.ExitStack() as uploads:
            for upload in under_way:
                uploads.enter_context(server.connect(upload.head("Transfer-Encoding: chunked") + b"1\r\nx\r\n"))
            wait_until(lambda: len(server.sql("SELECT * FROM claims")) == len(under_way), 20, server.log)
            yield server


@pytest.fixture
def server(busy_server: Server) -> Iterator[Server]:
    """The busy server; disk, database and memory have not grown in the end (S34, S40; S41 for the door's refusals)."""
    temporary = busy_server.directory / "tmp"
    before, size = busy_server.files(), busy_server.memory("VmRSS")
    yield busy_server
    assert (busy_server.files(), files_below(temporary)) == (before, [])
    assert len(busy_server.sql("SELECT * FROM claims")) == 2
    assert busy_server.memory("VmHWM") < max(size, busy_server.memory("VmRSS")) + GROWTH


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Make a file of so many zeros, which takes no room."""
    path = tmp_path_factory.mktemp("sparse") / "disk.img"

    def make(size: int) -> Path:
        path.touch()
        with path.open("r+b") as file:
            file.truncate(size)
        return path

    return make


def read_answer(client: socket.socket) -> Answer:
    """Read to the end of the connection."""
    received = bytearray()
    while piece := client.recv(65536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return Answer.parse(bytes(head), bytes(body))


def length(refusal: Refusal) -> str:
    return f"Content-Length: {refusal.size}"


# With Expect


def best_time(server: Server, head: bytes, refusal: Refusal) -> float:
    """Ask some times; return how long the quickest answer took."""
    times = []
    for _ in range(TRIES):
        began = time.monotonic()
        with server.connect(head) as client:
            start = client.recv(1, socket.MSG_PEEK)
            times.append(time.monotonic() - began)
            assert start
            client.shutdown(socket.SHUT_WR)  # nothing of the body was sent, nor will be
            refusal.check(read_answer(client))
    print("seconds:", *(f"{each:.4f}" for each in times))
    return min(times)


@every_refusal
def test_refusal_comes_at_once_and_instead_of_continue(server: Server, refusal: Refusal) -> None:
    head = refusal.head("Expect: 100-continue", length(refusal))
    assert best_time(server, head, refusal) < SECONDS


@chunked_refusal
def test_refusal_of_chunks_comes_at_once_and_instead_of_continue(server: Server, refusal: Refusal) -> None:
    head = refusal.head("Expect: 100-continue", "Transfer-Encoding: chunked")
    assert best_time(server, head, refusal) < SECONDS


@every_refusal
def test_impatient_client_that_expected_continue_is_told(server: Server, refusal: Refusal) -> None:
    """It sends its body without having been asked to, and the server listens for a while, so that it is not reset."""
    sent = 0
    with server.connect(refusal.head("Expect: 100-continue", length(refusal))) as client:
        while sent < refusal.size:
            sent += client.send(PIECE)
        refusal.check(read_answer(client))


# Without


def curl(server: Server, refusal: Refusal, directory: Path, *options: str) -> tuple[Answer, int]:
    """Upload with curl; return the answer and how many bytes of the body curl sent."""
    head, body = directory / "head", directory / "body"
    fields = [option for name, value in refusal.headers.items() for option in ("-H", f"{name}: {value}")]
    written = ("-D", str(head), "-o", str(body), "-w", "%{size_upload}")
    command = ["curl", "-sS", "-X", refusal.method, *fields, *written, *options, server.url + refusal.path]
    done = subprocess.run([*OWNED, *command], capture_output=True, text=True, timeout=60, check=False)
    (last,) = re.findall(rb"HTTP/1.1 (?!100).*?(?=\r\n\r\n)", head.read_bytes(), re.DOTALL)
    return Answer.parse(last, body.read_bytes()), int(done.stdout)


@every_refusal
def test_curl_sends_no_body_that_will_be_refused(
    server: Server, refusal: Refusal, sparse: Callable[[int], Path], tmp_path: Path
) -> None:
    """Asks first of its own, as it does for bodies over a megabyte."""
    answer, sent = curl(server, refusal, tmp_path, "-T", str(sparse(refusal.size)), "--expect100-timeout", "50")
    refusal.check(answer)
    assert sent < TAKEN


@every_refusal
def test_curl_that_does_not_ask_is_told(
    server: Server, refusal: Refusal, sparse: Callable[[int], Path], tmp_path: Path
) -> None:
    answer, sent = curl(server, refusal, tmp_path, "-T", str(sparse(refusal.size)), "-H", "Expect:")
    refusal.check(answer)
    assert sent < refusal.size


@every_refusal
def test_http_client_is_told(server: Server, refusal: Refusal, sparse: Callable[[int], Path]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection), sparse(refusal.size).open("rb") as file:
        fields = {**refusal.headers, "Content-Length": str(refusal.size)}
        connection.request(refusal.method, refusal.path, file, fields)
        response = connection.getresponse()
        refusal.check(Answer(response.status, response.headers, response.read()))


def pieces(size: int) -> Iterator[bytes]:
    while size:
        piece = PIECE[:size]
        size -= len(piece)
        yield piece


def check_httpx(server: Server, refusal: Refusal, headers: dict[str, str]) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        url, fields = server.url + refusal.path, {**refusal.headers, **headers}
        response = client.request(refusal.method, url, content=pieces(refusal.size), headers=fields)
    named = http.client.HTTPMessage()
    for name, value in response.headers.items():
        named[name] = value
    refusal.check(Answer(response.status_code, named, response.content))


@every_refusal
def test_httpx_is_told(server: Server, refusal: Refusal) -> None:
    check_httpx(server, refusal, {"Content-Length": str(refusal.size)})


@chunked_refusal
def test_httpx_that_sends_chunks_is_told(server: Server, refusal: Refusal) -> None:
    check_httpx(server, refusal, {})
