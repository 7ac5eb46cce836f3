"""A gigabyte is refused, and clients that do not ask before they send it see why; nobody else waits for it."""

import http.client
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers
from servers.processes import OWNED
from servers.pyrimage import ROOT, Answer, Server

pytestmark = pytest.mark.system

MIB, GIB = 1 << 20, 1 << 30
CLIENTS = Path(os.environ.get("PYRIMAGE_TEST_CLIENTS") or ROOT / ".venv-clients")
STREAMS = 4
CALLS = 50
GROWTH = 32 * MIB

# Each is told a server's URL, a method, a path and a file to send, and prints the status and the message it was refused
# with. They are the environment's own Python and its libraries.
SCRIPTS = {
    "http.client": """
        import http.client, json, os, sys
        url, method, path, file = sys.argv[1:]
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(os.path.getsize(file))}
        with open(file, "rb") as data:
            connection.request(method, path, data, headers)
        answer = connection.getresponse()
        print(answer.status, json.load(answer)["error"]["message"])
        """,
    "requests": """
        import requests, sys
        url, method, path, file = sys.argv[1:]
        with open(file, "rb") as data:
            headers = {"Content-Type": "application/octet-stream"}
            answer = requests.request(method, url + path, data=data, headers=headers)
        print(answer.status_code, answer.json()["error"]["message"])
        """,
    "python-glanceclient": """
        import glanceclient.exc, glanceclient.v1.client, sys
        url, method, path, file = sys.argv[1:]
        images = glanceclient.v1.client.Client(url, token="x").images
        try:
            with open(file, "rb") as data:
                images.create(data=data) if method == "POST" else images.update(path.rpartition("/")[2], data=data)
        except glanceclient.exc.HTTPException as error:
            print(error.code, error.details)
        """,
    "openstacksdk": """
        import openstack, sys
        url, method, path, file = sys.argv[1:]
        options = {"image_endpoint_override": url, "image_api_version": "1", "auth_type": "none"}
        image = openstack.connect(load_yaml_config=False, load_envvars=False, **options).image
        with open(file, "rb") as data:
            headers = {"Content-Type": "application/octet-stream"}
            answer = image.request(path.removeprefix("/v1"), method, data=data, headers=headers)
        try:
            openstack.exceptions.raise_from_response(answer)
        except openstack.exceptions.HttpException as error:
            print(error.status_code, error.details)
        """,
}
REFUSALS = {
    "taken": ("PUT", "409", "only a queued image takes data"),
    "cap": ("POST", "413", "pyrimage.image_size_cap"),
}


@pytest.fixture(scope="module")
def python() -> str:
    """The clients' Python. Skips the test if it is not installed, and fails it where the environment sets CI."""
    path = CLIENTS / "bin/python"
    if not path.is_file():
        message = f"no {path}; make test-system installs it"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return str(path)


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an image, ``taken``, and a cap that a gigabyte is above."""
    with Server(tmp_path_factory.mktemp("server"), main={"pyrimage.image_size_cap": str(GIB - 1)}) as running:
        assert running.request("POST", "/v1/images", b"x", data_headers(id="taken")).status == 201
        yield running


@pytest.fixture
def server(capped: Server) -> Iterator[Server]:
    """The server; neither its memory nor its disk has grown in the end (S34, S40)."""
    before, size = capped.files(), capped.memory("VmRSS")
    yield capped
    assert capped.files() == before
    assert capped.memory("VmHWM") < max(size, capped.memory("VmRSS")) + GROWTH


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of zeros, which takes no room."""
    path = tmp_path_factory.mktemp("sparse") / "disk.img"
    with path.open("wb") as file:
        file.truncate(GIB)
    return path


@pytest.mark.parametrize(("method", "status", "words"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_client_is_told(
    python: str, server: Server, gigabyte: Path, script: str, method: str, status: str, words: str
) -> None:
    path = "/v1/images/taken" if method == "PUT" else "/v1/images"
    code = "if True:" + script
    done = subprocess.run(
        [*OWNED, python, "-W", "ignore", "-c", code, server.url, method, path, str(gigabyte)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{status} ")
    assert words in done.stdout


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
