"""Big images up and down: the same bytes come back, and the server's memory does not follow the image's size."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from amounts import amount
from servers.machine import unavailable
from servers.processes import OWNED
from servers.pyrimage import Server

pytestmark = [pytest.mark.system, pytest.mark.long]

MIB = 1 << 20
GIB = 1 << 30
BIG, SPARSE = amount(64, 1024) * MIB, amount(256, 6 * 1024) * MIB
NEEDED = 2 * max(3 * BIG, SPARSE)  # the sparse file's zeros lie in the server's store
GROWTH = 8 * MIB

DIALECTS = ["/images", "/v1/images"]


@pytest.fixture
def roomy_server(tmp_path: Path) -> Iterator[Server]:
    """A server whose directory is removed at once: pytest would keep three of them. Skips without enough room."""
    free = shutil.disk_usage(tmp_path).free
    if free < NEEDED:
        unavailable(f"{tmp_path} has {free / GIB:.0f} GiB free, the test needs {NEEDED / GIB:.0f}")
    try:
        with Server(tmp_path) as server:
            yield server
    finally:
        shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random bytes."""
    path = tmp_path_factory.mktemp("big") / "disk.img"
    with path.open("wb") as file:
        for _ in range(BIG // MIB):
            file.write(os.urandom(MIB))
    yield path
    path.unlink()


def digests(path: Path) -> tuple[str, str]:
    """Return md5 and sha256 of a file."""
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
        file.seek(0)
        return md5, hashlib.file_digest(file, "sha256").hexdigest()


def curl(*arguments: str | Path, stdin: IO[bytes] | None = None) -> str:
    """Run curl to its end and return what it printed."""
    command = [*OWNED, "curl", "-sS", "--fail-with-body", *arguments]
    return subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, text=True, timeout=900, check=True).stdout


def announced(headers: str, field: str) -> str:
    """Find an image's field among printed headers."""
    (value,) = re.findall(rf"(?im)^x-image-meta-{field}: (.*?)\r?$", headers)
    return str(value)


def growth_of(server: Server, work: Callable[[], str]) -> tuple[int, str]:
    """Return how many bytes the server's memory grew over its present size, at the worst moment of the work."""
    before = server.memory("VmRSS")
    result = work()
    return server.memory("VmHWM") - before, result


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_big_image_goes_up_and_down_unchanged(
    roomy_server: Server, big_file: Path, dialect: str, tmp_path: Path
) -> None:
    octets = ("-H", "Content-Type: application/octet-stream", "-H", "x-image-meta-name: big")
    head = curl("-D", "-", "-o", tmp_path / "json", "-X", "POST", "-T", big_file, *octets, roomy_server.url + dialect)
    md5, sha256 = digests(big_file)
    assert (announced(head, "checksum"), announced(head, "sha256")) == (md5, sha256)
    assert announced(head, "size") == str(BIG)
    curl("-o", tmp_path / "back.img", f"{roomy_server.url}{dialect}/{announced(head, 'id')}")
    assert digests(tmp_path / "back.img") == (md5, sha256)


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_a_big_image_goes_up_and_down_in_little_memory(roomy_server: Server, source: str, tmp_path: Path) -> None:
    server, path = roomy_server, tmp_path / "sparse.img"
    with path.open("wb") as file:
        file.truncate(SPARSE)
    octets = ("-H", "Content-Type: application/octet-stream", "-H", "x-image-meta-name: sparse")
    upload = ("-D", "-", "-o", tmp_path / "json", "-X", "POST", *octets, f"{server.url}/v1/images")
    server.request("GET", "/v1/images")  # what the first request alone needs is not the image's
    with path.open("rb") as file:
        up, head = growth_of(server, lambda: curl("-T", path if source == "file" else "-", *upload, stdin=file))
    assert announced(head, "size") == str(SPARSE)
    url = f"{server.url}/v1/images/{announced(head, 'id')}"
    pipe = f"set -o pipefail; curl -sS --fail {url} | sha256sum"
    down, digest = growth_of(server, lambda: subprocess.check_output(["bash", "-c", pipe], text=True, timeout=900))
    print(f"the server's memory grew by {up / MIB:.1f} MiB during the upload, {down / MIB:.1f} MiB with the download")
    assert digest.split()[0] == announced(head, "sha256")
    assert max(up, down) < GROWTH
