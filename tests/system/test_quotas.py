"""An owner's quota beside ``kill -9``, over real sockets."""

import http.client
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factories import data_headers
from servers.paused_uploads import TESTS, PausableServer
from servers.processes import run
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

DATA = b"bytes"
CLIENTS = 16
ROOM = 7
LONG_AGO = "2001-01-01 00:00:00.000000"


def post(server: Server, number: int) -> Answer:
    """Upload; every second body is chunked."""
    body = iter([DATA]) if number % 2 else DATA
    return server.request("POST", "/v1/images", body, data_headers())


def statuses(server: Server) -> dict[int, int]:
    """Let sixteen clients upload at once, and count the answers."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return Counter(answer.status for answer in threads.map(lambda number: post(server, number), range(CLIENTS)))


@pytest.mark.parametrize("step", ["write", "finish"])
def test_uploads_whose_server_was_killed_count_until_they_are_scrubbed(tmp_path: Path, step: str) -> None:
    """S36."""
    quota = {"pyrimage.user_storage_quota": str(ROOM * len(DATA))}
    with PausableServer(tmp_path, main=quota) as server, ThreadPoolExecutor(CLIENTS) as threads:
        with server.paused(step):
            uploads = [threads.submit(post, server, 0) for _ in range(2)]
            server.wait_for_paused(step, 2)
            server.kill()
        assert all(isinstance(each.exception(), OSError | http.client.HTTPException) for each in uploads)
        server.start()
        assert statuses(server) == {201: ROOM - 2, 413: CLIENTS - ROOM + 2}
        server.sql("UPDATE claims SET lease = ?", LONG_AGO)
        environment = {"PYTHONPATH": str(TESTS)}  # where the ini's application is
        scrub = run("pyrimage-manage", "-c", server.ini, "scrub", cwd=server.directory, environment=environment)
        assert (scrub.returncode, "2 cleaned up" in scrub.stdout) == (0, True)
        assert statuses(server) == {201: 2, 413: CLIENTS - 2}
        assert len(server.files()) == ROOM
        assert server.sql("SELECT sum(size) FROM images WHERE status = 'active'") == [(ROOM * len(DATA),)]
        assert server.sql("SELECT * FROM claims") == []
