"""Large uploads that are refused: those who ask are told before the body, and the others are told all the same.

Nobody else waits for them, and neither disk, database nor memory grows (S34, S40; S41 for those without an identity).
"""

import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from factories import OCTETS, data_headers, error_of, files_below, meta
from servers.machine import client
from servers.processes import OWNED, wait_until
from servers.pyrimage import READY_SECONDS, Answer, Server

pytestmark = pytest.mark.system

MIB = 1 << 20
SIZE = CAP = 256 * MIB
QUOTA = 2 * SIZE
FULL = "full"  # an owner whose quota has room for one byte less
SECONDS = 0.1  # for a refusal
TRIES = 5  # of which one must be quick enough: the machine does other things too
GROWTH = 32 * MIB
STREAMS, CALLS = 4, 50
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
    "forwarded": Refusal(403, "allow_anonymous", headers={**data_headers(name="f17"), "X-Forwarded-For": "::1"}),
    "no image": Refusal(404, "nothing at this path", "PUT", "/v1/images/none", headers=data_headers()),
}
SIZED = {  # they are refused for the size that is announced
    "cap": Refusal(413, "pyrimage.image_size_cap", size=CAP + 1),
    "quota": Refusal(413, "pyrimage.user_storage_quota", headers=data_headers(owner=FULL)),
}

ALL = {**REFUSALS, **SIZED}

every_refusal = pytest.mark.parametrize("refusal", ALL.values(), ids=ALL)
# By what a resource has, and by what an upload claims: how the answer comes is the same for all.
TOLD = ("data is there", "cap")
told_refusal = pytest.mark.parametrize("refusal", [ALL[name] for name in TOLD], ids=TOLD)


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
            wait_until(
                lambda: len(list((server.datadir / "staging").glob("*"))) == len(under_way), READY_SECONDS, server.log
            )
            yield server


@pytest.fixture
def server(busy_server: Server) -> Iterator[Server]:
    """The busy server; disk, database and memory have not grown in the end."""
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
    for framing in (length(refusal), *(["Transfer-Encoding: chunked"] if refusal in REFUSALS.values() else [])):
        assert best_time(server, refusal.head("Expect: 100-continue", framing), refusal) < SECONDS


@told_refusal
def test_impatient_client_that_expected_continue_is_told(server: Server, refusal: Refusal) -> None:
    """It sends its body without having been asked to, and the server listens for a while, so that it is not reset."""
    sent = 0
    with server.connect(refusal.head("Expect: 100-continue", length(refusal))) as client:
        while sent < refusal.size:
            sent += client.send(PIECE)
        refusal.check(read_answer(client))


# Other clients, which do not ask before they send


# Each refused(url, method, path, file) returns the status and the message. They are the environment's own Python and
# its libraries.
SCRIPTS = {
    "http.client": """
import http.client, os
def refused(url, method, path, file):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(os.path.getsize(file))}
    with open(file, "rb") as data:
        connection.request(method, path, data, headers)
    answer = connection.getresponse()
    return answer.status, json.load(answer)["error"]["message"]
""",
    "requests": """
import requests
def refused(url, method, path, file):
    with open(file, "rb") as data:
        headers = {"Content-Type": "application/octet-stream"}
        answer = requests.request(method, url + path, data=data, headers=headers)
    return answer.status_code, answer.json()["error"]["message"]
""",
    "python-glanceclient": """
import glanceclient.exc, glanceclient.v1.client
def refused(url, method, path, file):
    images = glanceclient.v1.client.Client(url, token="x").images
    try:
        with open(file, "rb") as data:
            images.create(data=data) if method == "POST" else images.update(path.rpartition("/")[2], data=data)
    except glanceclient.exc.HTTPException as error:
        return error.code, error.details
""",
    "openstacksdk": """
import openstack
def refused(url, method, path, file):
    options = {"image_endpoint_override": url, "image_api_version": "1", "auth_type": "none"}
    image = openstack.connect(load_yaml_config=False, load_envvars=False, **options).image
    with open(file, "rb") as data:
        headers = {"Content-Type": "application/octet-stream"}
        answer = image.request(path.removeprefix("/v1"), method, data=data, headers=headers)
    try:
        openstack.exceptions.raise_from_response(answer)
    except openstack.exceptions.HttpException as error:
        return error.status_code, error.details
""",
}
DRIVER = """
import json, sys
{script}
print(json.dumps([refused(sys.argv[1], *asked) for asked in json.loads(sys.argv[2])]))
"""


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_client_is_told(server: Server, sparse: Callable[[int], Path], script: str) -> None:
    refusals = [ALL[name] for name in TOLD]
    asked = [(refusal.method, refusal.path, str(sparse(CAP + 1))) for refusal in refusals]
    command = [
        *OWNED,
        client("python"),
        "-W",
        "ignore",
        "-c",
        DRIVER.format(script=script),
        server.url,
        json.dumps(asked),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for (status, message), refusal in zip(json.loads(done.stdout), refusals, strict=True):
        assert status == refusal.status
        assert refusal.words in message


# Beside others


class Stream(threading.Thread):
    """A client that is refused and sends on, as fast as it can, until it is told to stop."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        head = "PUT /v1/images/taken HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        self.client: socket.socket = server.connect(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode())
        response = http.client.HTTPResponse(self.client)
        response.begin()
        self.status, self.stopped, self.sent = response.status, threading.Event(), 0

    def run(self) -> None:
        """Send."""
        piece = b"100000\r\n" + bytes(MIB) + b"\r\n"
        with self.client:
            while not self.stopped.is_set():
                self.client.sendall(piece)
                self.sent += 1


def test_others_are_answered_while_refused_streams_run(server: Server) -> None:
    streams = [Stream(server) for _ in range(STREAMS)]
    assert [stream.status for stream in streams] == [409] * STREAMS
    for stream in streams:
        stream.start()
    answers: list[Answer] = [server.request("GET", "/v1/images/detail?is_public=None") for _ in range(CALLS)]
    are_running = [stream.is_alive() for stream in streams]
    for stream in streams:
        stream.stopped.set()
        stream.join()
    assert [answer.status for answer in answers] == [200] * CALLS
    assert are_running == [True] * STREAMS
    assert min(stream.sent for stream in streams) > 1
