"""Stored bytes that are not those of the row any more are never served as if they were (S16)."""

import http.client
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers, error_of
from servers.processes import RUN_SECONDS, wait_until
from servers.pyrimage import READY_SECONDS, Server

pytestmark = pytest.mark.system

DATA = random.Random(16).randbytes(24 << 20)  # more than sockets hold, so that most of it is still to be read

PARTS = pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-"}], ids=["whole", "part"])
SIZES = (len(DATA) + 1, len(DATA) - 1, len(DATA) // 2, 1, 0)
CUTS = pytest.mark.parametrize("size", [0, len(DATA) - 1], ids=["to nothing", "by a byte"])


@pytest.fixture(scope="module", params=["egg:pyrimage#server", "egg:waitress#main"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), server={"use": request.param}) as running:
        yield running


@pytest.fixture
def image(server: Server) -> Iterator[tuple[str, Path]]:
    """The path of an image, and the file that holds its bytes."""
    path = f"/images/{server.request('POST', '/images', DATA, data_headers(name='f17')).image['id']}"
    (file,) = server.datadir.rglob(f"{path.rpartition('/')[2]}.*")
    yield path, file
    file.unlink(missing_ok=True)


@PARTS
def test_file_of_another_size_is_a_500_before_its_first_byte(
    server: Server, image: tuple[str, Path], headers: dict[str, str]
) -> None:
    """S16."""
    path, file = image
    for size in SIZES:
        os.truncate(file, size)
        refused = server.request("GET", path, headers=headers)
        assert (refused.status, bool(error_of(refused))) == (500, True), size
    assert server.request("HEAD", path).status == 200


@PARTS
@CUTS
def test_file_cut_during_a_download_breaks_the_connection(
    server: Server, image: tuple[str, Path], size: int, headers: dict[str, str]
) -> None:
    """S16: the client gets less than it was promised, and cannot take it for the whole."""
    promised = DATA[1:] if headers else DATA
    path, file = image
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=RUN_SECONDS)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert (response.status, response.length) == (206 if headers else 200, len(promised))
        received = response.read(65536)
        os.truncate(file, size)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as broken:
            response.read()
        if isinstance(broken.value, http.client.IncompleteRead):
            received += broken.value.partial
    finally:
        connection.close()
    assert len(received) < len(promised)
    assert is_same_or_blank(received, promised[: len(received)])
    assert server.request("GET", "/healthcheck").status == 200


def is_same_or_blank(received: bytes, promised: bytes) -> bool:
    """Compare bytes, any of which may be zero: what sendfile put on its way is still the file's, and is cut with it."""
    bits = int.from_bytes(received, "little")
    return bits & int.from_bytes(promised, "little") == bits


def test_server_is_idle_after_a_broken_download(server: Server, image: tuple[str, Path]) -> None:
    """Waitress as it is would ask a file that ended early for more, for ever."""
    path, file = image
    with server.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        os.truncate(file, len(DATA) // 2)
        while client.recv(1 << 20):
            pass
        before, end = cpu_ticks(server.pid), time.monotonic() + 1
        wait_until(lambda: time.monotonic() > end, READY_SECONDS)
        assert cpu_ticks(server.pid) - before < os.sysconf("SC_CLK_TCK") / 10


def cpu_ticks(pid: int) -> int:
    """Return how long a process has worked, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_cut_download_is_logged_with_what_was_sent(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        path = f"/images/{server.request('POST', '/images', DATA, data_headers(name='f17')).image['id']}"
        (file,) = server.datadir.rglob("blobs/*/*")
        with server.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) as client:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
            os.truncate(file, len(DATA) // 2)
            while client.recv(1 << 20):
                pass
        line = ["GET", path, "200", f"{len(DATA) // 2}/{len(DATA)}"]
        wait_until(lambda: line in [fields[1:5] for fields in server.access_lines()], READY_SECONDS, server.log)
        file.unlink()
