"""The client and the installed server, which is killed while it sends; and a real Keystone."""

import hashlib
import os
from pathlib import Path

import pytest

from amounts import amount
from pyrimage.client import Client
from servers.fault_proxy import FaultProxy
from servers.pyrimage import READY_SECONDS, Server

pytestmark = [pytest.mark.system, pytest.mark.long]

MIB = 1 << 20
SIZE = amount(32, 1024) * MIB
KILLS = 3
HEAD = 2000  # bytes of an answer's headers, at most
BETWEEN = MIB  # bytes that may be lost on their way when the server is killed


def random_file(path: Path) -> str:
    """Write SIZE bytes; return their sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            piece = os.urandom(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_download_outlives_a_server_that_is_killed_and_started_again(
    parallel: int, own_server: Server, tmp_path: Path
) -> None:
    sha256 = random_file(tmp_path / "source")
    image = Client(own_server.url).add_image(tmp_path / "source", name="big", sha256=sha256).id
    moments = [SIZE * (number + 1) // (KILLS + 2) for number in range(KILLS)]

    def kill(done: int, size: int | None) -> None:
        if moments and done > moments[0]:
            del moments[0]
            own_server.kill()
            own_server.start()

    with FaultProxy(own_server.port) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}", patience=READY_SECONDS)
        path = client.download(image, tmp_path / "copy", parallel=parallel, progress=kill)
        print(f"{proxy.delivered - SIZE} bytes more than the image has, over {proxy.accepted} connections")
        assert proxy.delivered <= SIZE + proxy.accepted * HEAD + KILLS * parallel * BETWEEN
    assert moments == []
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
