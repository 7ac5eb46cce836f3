"""Parts of images over real sockets, for programs that resume: on our server, and on waitress as it is."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers
from servers.processes import OWNED, RUN_SECONDS
from servers.pyrimage import Server

pytestmark = pytest.mark.system

DATA = random.Random(54).randbytes(5 * 1024 * 1024 + 7)
SIZE = len(DATA)
HALF = SIZE // 2
GIB = 1 << 30


@pytest.fixture(scope="module", params=["egg:pyrimage#server", "egg:waitress#main"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), server={"use": request.param}) as running:
        yield running


@pytest.fixture(scope="module")
def path(server: Server) -> str:
    return f"/images/{server.request('POST', '/images', DATA, data_headers(name='f17')).image['id']}"


def curl(server: Server, path: str, target: Path, *options: str) -> str:
    """Download to a file; return the status and how many bytes came."""
    command = [*OWNED, "curl", "-sS", "-o", str(target), "-w", "%{http_code} %{size_download}", *options]
    done = subprocess.run([*command, server.url + path], capture_output=True, timeout=RUN_SECONDS, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("have", [1, HALF, SIZE - 1])
def test_curl_resumes_a_download(server: Server, path: str, tmp_path: Path, have: int) -> None:
    target = tmp_path / "disk.img"
    target.write_bytes(DATA[:have])
    assert curl(server, path, target, "-C", "-") == f"206 {SIZE - have}"
    assert target.read_bytes() == DATA


def test_part_beyond_four_gibibytes_is_found(server: Server) -> None:
    """The row and the file are made as large as no test could upload; the file is sparse."""
    size = 5 * GIB
    image = server.request("POST", "/images", b"bytes", data_headers(name="big")).image
    (file,) = server.datadir.rglob(f"{image['id']}.*")
    os.truncate(file, size)
    with file.open("r+b") as opened:
        opened.seek(size - 5)
        opened.write(b"there")
    server.sql("UPDATE images SET size = ? WHERE id = ?", size, image["id"])
    part = server.request("GET", f"/images/{image['id']}", headers={"Range": f"bytes={size - 7}-"})
    assert (part.status, part.headers["Content-Range"]) == (206, f"bytes {size - 7}-{size - 1}/{size}")
    assert part.body == b"\0\0there"
    file.unlink()
