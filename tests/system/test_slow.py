"""Slow uploads hold nobody else up: not by the connections they have, nor by SQLite's one write lock."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factories import data_headers, md5, meta
from servers.paused_uploads import PausableServer
from servers.pyrimage import Answer

pytestmark = pytest.mark.system

POOL = {"sqlalchemy.pool_size": "5", "sqlalchemy.max_overflow": "0", "sqlalchemy.pool_timeout": "3"}
UPLOADS = 20
BUSY_SECONDS = 1.0  # instead of 15: who needs a lock that is held would soon be told "database is locked"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PausableServer]:
    with PausableServer(tmp_path, busy_seconds=BUSY_SECONDS, main=POOL) as running:
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(UPLOADS) as pool:
        yield pool


def upload(server: PausableServer, name: str = "slow") -> Answer:
    return server.request("POST", "/v1/images", name.encode(), data_headers(name=name))


def statuses_of_other_calls(server: PausableServer) -> list[int]:
    """Use each call that reads or writes metadata once; they make and delete one image."""
    made = server.request("POST", "/v1/images", headers=meta(name="other"))
    path = f"/v1/images/{made.image['id']}"
    calls = [
        server.request("GET", "/v1/images"),
        server.request("GET", "/v1/images/detail?is_public=None"),
        server.request("HEAD", path),
        server.request("PUT", path, headers=meta(min_ram="5")),
        server.request("DELETE", path),
    ]
    return [made.status, *(answer.status for answer in calls)]


@pytest.mark.parametrize("step", ["write", "finish"])
def test_metadata_calls_answer_beside_more_uploads_than_connections(
    server: PausableServer, threads: ThreadPoolExecutor, step: str
) -> None:
    with server.paused(step):
        uploads = [threads.submit(upload, server, f"slow {number}") for number in range(UPLOADS)]
        server.wait_for_paused(step, UPLOADS)
        assert statuses_of_other_calls(server) == [201, 200, 200, 200, 200, 200]
    answers = [each.result() for each in uploads]
    assert [answer.status for answer in answers] == [201] * UPLOADS
    assert sorted(answer.image["checksum"] for answer in answers) == sorted(
        md5(f"slow {number}".encode()) for number in range(UPLOADS)
    )


def test_writes_pass_by_an_upload_whose_store_finishes_slowly(
    server: PausableServer, threads: ThreadPoolExecutor
) -> None:
    """Nothing of a store runs under SQLite's lock."""
    with server.paused("finish"):
        slow = threads.submit(upload, server)
        server.wait_for_paused("finish")
        empty = server.request("POST", "/v1/images", headers=meta(name="empty", size="0"))
        assert (empty.status, empty.image["status"]) == (201, "active")
        assert server.request("POST", "/v1/images", headers=meta(name="reserved")).status == 201
        assert not slow.done()
    assert slow.result().status == 201
