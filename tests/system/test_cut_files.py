"""Stored bytes that are not those of the row any more are never served as if they were (S16)."""

import http.client
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers, error_of
from servers.processes import wait_until
from servers.pyrimage import Server

pytestmark = pytest.mark.system

DATA = random.Random(16).randbytes(64 << 20)  # more than sockets hold, so that most of it is still to be read

CUTS = [
    pytest.param(size, id=name)
    for name, size in {"0": 0, "1": 1, "half": len(DATA) // 2, "last byte": len(DATA) - 1}.items()
]


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


@pytest.mark.parametrize("size", [*CUTS, pytest.param(len(DATA) + 1, id="longer")])
def test_file_of_another_size_is_a_500_before_its_first_byte(
    server: Server, image: tuple[str, Path], size: int
) -> None:
    """S16."""
    path, file = image
    os.truncate(file, size)
    refused = server.request("GET", path)
    assert refused.status == 500
    assert error_of(refused)
    assert server.request("HEAD", path).status == 200


def test_missing_file_is_a_500(server: Server, image: tuple[str, Path]) -> None:
    path, file = image
    file.unlink()
    assert server.request("GET", path).status == 500


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-"}], ids=["whole", "part"])
@pytest.mark.parametrize("size", CUTS)
def test_file_cut_during_a_download_breaks_the_connection(
    server: Server, image: tuple[str, Path], size: int, headers: dict[str, str]
) -> None:
    """S16: the client gets less than it was promised, and cannot take it for the whole."""
    promised = DATA[1:] if headers else DATA
    path, file = image
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
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
    assert promised.startswith(received)
    assert server.request("GET", "/healthcheck").status == 200


def test_cut_download_is_logged_with_what_was_sent(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        path = f"/images/{server.request('POST', '/images', DATA, data_headers(name='f17')).image['id']}"
        (file,) = server.datadir.rglob("blobs/*/*")
        with server.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) as client:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
            os.truncate(file, len(DATA) // 2)
            while client.recv(1 << 20):
                pass
        wait_until(lambda: len(server.access_lines()) == 3, 20, server.log)
        _, method, target, status, count, *_ = server.access_lines()[-1]
        assert (method, target, status, count) == ("GET", path, "200", f"{len(DATA) // 2}/{len(DATA)}")
        file.unlink()
