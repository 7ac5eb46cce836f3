"""Quotas over each database: the suite, and sixteen clients at once."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from conftest import Installation, install
from factories import ADMIN, ALICE, data_headers, meta, reserve, send_chunked, upload
from faults import Body, raising, send
from pyrimage.catalogue.records import new_image_id
from pyrimage.catalogue.testing import QuotasConformance
from pyrimage.catalogue.testing.catalogue import at_once

CLIENTS = 16
ROOM = 7
DATA = b"bytes"
FULL = {201: ROOM, 413: CLIENTS - ROOM}

# One statement, so that it sees all images and claims as they are at one moment.
USAGE = text(
    "SELECT (SELECT count(*) FROM images WHERE owner = 'tenant-a' AND NOT deleted),"
    " (SELECT coalesce(sum(size), 0) FROM images WHERE owner = 'tenant-a' AND status = 'active')"
    " + (SELECT coalesce(sum(size), 0) FROM claims WHERE owner = 'tenant-a')"
)


class TestLocalQuotas(QuotasConformance):
    pass


Limited = Callable[..., Installation]


@pytest.fixture
def limited(installation: Installation, tmp_path: Path) -> Iterator[Limited]:
    """Give a function that makes a server with limits of the installation's database."""
    made: list[Installation] = []

    def make(**limits: object) -> Installation:
        settings = {name: str(limit) for name, limit in limits.items()}
        made.append(install(tmp_path, **installation.shared, **settings))
        return made[-1]

    yield make
    for each in made:
        each.engine.dispose()


def usage(installation: Installation) -> tuple[int, int]:
    """Return how many images ALICE's project has, and how many bytes."""
    with installation.engine.connect() as connection:
        [row] = connection.execute(USAGE)
        return int(row[0]), int(row[1])


@contextmanager
def watched(installation: Installation) -> Iterator[list[tuple[int, int]]]:
    """Look at the usage again and again meanwhile."""
    seen: list[tuple[int, int]] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.append(usage(installation))

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(look)
        try:
            yield seen
        finally:
            is_over.set()
            watcher.result()


Ask = Callable[[Installation], int]


def post(server: Installation) -> int:
    answer = server.client(ALICE).post("/v1/images", DATA, headers=data_headers(), status="*")
    return int(answer.status_int)


def post_chunked(server: Installation) -> int:
    return int(send_chunked(server.client(ALICE), "POST", "/v1/images", DATA, data_headers(), status="*").status_int)


def put(server: Installation) -> int:
    """Fill an image that an administrator reserved, and say 201 if that went well."""
    path = reserve(server.client(ADMIN), owner="tenant-a")
    answer = server.client(ALICE).put(path, DATA, headers=data_headers(), status="*")
    return 201 if answer.status_int == 200 else int(answer.status_int)


def post_nothing(server: Installation) -> int:
    return int(server.client(ALICE).post("/v1/images", headers=meta(), status="*").status_int)


def post_empty(server: Installation) -> int:
    return int(server.client(ALICE).post("/v1/images", headers=meta(size=0), status="*").status_int)


def give(server: Installation) -> int:
    """Give away the image of another owner, and say 201 if that went well."""
    path = upload(server.client(ADMIN), DATA, owner=new_image_id())
    answer = server.client(ADMIN).put(path, headers=meta(owner="tenant-a"), status="*")
    return 201 if answer.status_int == 200 else int(answer.status_int)


def names(asks: tuple[Ask, ...]) -> str:
    return "+".join(ask.__name__ for ask in asks)


def tally(server: Installation, asks: tuple[Ask, ...]) -> dict[object, int]:
    """Let sixteen clients ask at once, and count the statuses."""
    calls = (asks * CLIENTS)[:CLIENTS]
    return Counter(at_once(*[lambda ask=ask: ask(server) for ask in calls]))


@pytest.mark.parametrize("asks", [(post_chunked,), (post, post_chunked, put, give)], ids=names)
def test_sixteen_clients_store_as_many_bytes_as_the_quota_says(limited: Limited, asks: tuple[Ask, ...]) -> None:
    """S36."""
    server = limited(user_storage_quota=len(DATA) * (ROOM + 1))
    path = upload(server.client(ALICE), DATA)
    with watched(server) as seen:
        assert tally(server, asks) == FULL
    assert max(size for _, size in seen) <= len(DATA) * (ROOM + 1)
    assert usage(server)[1] == len(DATA) * (ROOM + 1)
    server.client(ALICE).delete(path)
    assert [post(server), post(server)] == [201, 413]


@pytest.mark.parametrize(
    "asks",
    [(post_nothing,), (post, post_chunked, post_nothing, post_empty, give)],
    ids=names,
)
def test_sixteen_clients_make_as_many_images_as_the_quota_says(limited: Limited, asks: tuple[Ask, ...]) -> None:
    """S38."""
    server = limited(user_image_quota=ROOM + 1)
    path = reserve(server.client(ALICE))
    with watched(server) as seen:
        assert tally(server, asks) == FULL
    assert max(count for count, _ in seen) <= ROOM + 1
    assert usage(server)[0] == ROOM + 1
    server.client(ALICE).delete(path)
    assert [post_nothing(server), post_nothing(server)] == [201, 413]


def test_sixteen_clients_of_two_servers_keep_to_both_quotas(limited: Limited) -> None:
    """S36, S38."""
    limits = {"user_image_quota": ROOM, "user_storage_quota": len(DATA) * 3}
    servers = [limited(**limits), limited(**limits)]
    asks = (post, post_nothing, post_chunked, post_empty)
    with watched(servers[0]) as seen:
        statuses = at_once(*[lambda n=n: asks[n % 4](servers[n // 8]) for n in range(CLIENTS)])
    assert set(statuses) == {201, 413}
    seen.append(usage(servers[1]))
    assert max(count for count, _ in seen) <= ROOM
    assert max(size for _, size in seen) <= len(DATA) * 3


def test_uploads_that_break_off_beside_others_leave_their_room(limited: Limited) -> None:
    """S36."""
    server = limited(user_image_quota=CLIENTS, user_storage_quota=len(DATA) * CLIENTS)

    def break_off() -> int:
        return send(server, "POST", "/v1/images", Body(DATA, raising(OSError("gone"))), owner="tenant-a").status_int

    statuses = at_once(*[break_off, lambda: post(server)] * (CLIENTS // 2))
    assert Counter(statuses) == {500: CLIENTS // 2, 201: CLIENTS // 2}
    assert usage(server) == (CLIENTS // 2, len(DATA) * CLIENTS // 2)
    assert [post(server) for _ in range(CLIENTS // 2 + 1)] == [*[201] * (CLIENTS // 2), 413]
