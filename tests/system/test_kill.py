"""``kill -9`` at any moment: what was acknowledged stays, and what was not leaves nothing behind.

The moments come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import http.client
import os
import random
import shutil
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from factories import data_headers, md5, meta, sha256
from servers.gated import GatedServer
from servers.processes import run
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

KILLS = 30
CLIENTS = 4
MIB = 1 << 20
LONG_AGO = "2001-01-01 00:00:00.000000"


class Bytes(NamedTuple):
    """What an image's data is."""

    size: int
    md5: str
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "Bytes":
        return cls(len(data), md5(data), sha256(data))


class Journal:
    """What clients tried, and what they were told."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pool = chance.randbytes(8 * MIB)
        self._lock = threading.Lock()
        self.sent: dict[str, Bytes] = {}
        self.reserved: set[str] = set()
        self.uploaded: set[str] = set()
        self.delete_tried: set[str] = set()
        self.deleted: set[str] = set()
        self.refused: list[Answer] = []
        self.broken = 0

    def make_data(self, image_id: str) -> bytes:
        """Make 1 to 8 MiB for an image."""
        with self._lock:
            data = self._pool[self._chance.randrange(7 * MIB) :]
        self.sent[image_id] = Bytes.of(data)
        return data

    def choose(self) -> str:
        """Choose what to do next: ``POST``, ``PUT``, or delete the image of an id."""
        with self._lock:
            left = sorted(self.uploaded - self.delete_tried)
            what = self._chance.choice(("POST", "PUT", "DELETE"))
            if what != "DELETE" or len(left) < 5:
                return "POST" if what == "DELETE" else what
            image_id = self._chance.choice(left)
            self.delete_tried.add(image_id)
            return image_id


class Client:
    """Uploads and deletes, one after the other, through whatever happens to the server."""

    def __init__(self, server: Server, journal: Journal) -> None:
        self._server, self._journal = server, journal

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._act(self._journal.choose())
            except ConnectionRefusedError:
                stop.wait(0.1)  # the server is away
            except (OSError, http.client.HTTPException):
                self._journal.broken += 1  # what the server did before it died, nobody was told

    def _act(self, what: str) -> None:
        if what not in ("POST", "PUT"):
            return self._ask(self._journal.deleted, what, "DELETE", f"/v1/images/{what}")
        image_id = str(uuid.uuid4())
        data = self._journal.make_data(image_id)
        if what == "POST":
            return self._ask(self._journal.uploaded, image_id, "POST", "/v1/images", data, data_headers(id=image_id))
        self._ask(self._journal.reserved, image_id, "POST", "/v1/images", None, meta(id=image_id))
        return self._ask(self._journal.uploaded, image_id, "PUT", f"/v1/images/{image_id}", data, data_headers())

    def _ask(
        self,
        acknowledged: set[str],
        image_id: str,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        answer = self._server.request(method, path, data, headers)
        if answer.status in (200, 201):
            acknowledged.add(image_id)
        else:
            self._journal.refused.append(answer)


def killed_again_and_again(server: Server, journal: Journal, chance: random.Random) -> int:
    """Let clients work while the server is killed and started; return how many staged files the kills left."""
    stop, staged = threading.Event(), set[str]()
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(Client(server, journal).work, stop) for _ in range(CLIENTS)]
        try:
            for _ in range(KILLS):
                stop.wait(chance.uniform(0.02, 0.6))  # any moment will do
                server.kill()
                staged |= {name for name in server.files() if name.startswith("staging/")}
                server.start()
        finally:
            stop.set()
        for each in clients:
            each.result()
    return len(staged)


def check_images(server: Server, journal: Journal) -> None:
    """Compare the images with what the clients were told."""
    status = dict(server.sql("SELECT id, status FROM images"))
    assert sorted(journal.reserved - status.keys()) == []
    assert {status[image_id] for image_id in journal.uploaded - journal.delete_tried} == {"active"}
    assert {status[image_id] for image_id in journal.deleted} == {"deleted"}
    for image_id, word in status.items():
        answer = server.request("GET", f"/v1/images/{image_id}")
        if word == "active":
            assert Bytes.of(answer.body) == journal.sent[image_id]
            assert answer.headers["ETag"] == journal.sent[image_id].md5
        else:
            assert answer.status == 404


def test_thirty_kills_lose_nothing_and_leave_nothing(own_server: Server) -> None:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    chance = random.Random(seed)
    server, journal = own_server, Journal(chance)
    staged = killed_again_and_again(server, journal, chance)
    assert journal.refused == []
    check_images(server, journal)
    left = server.sql("SELECT image_id, key FROM claims")
    ((garbage,),) = server.sql("SELECT count(*) FROM image_locations WHERE state = 'garbage'")
    orphans = len({Path(name).name for name in server.files()} & {key for _, key in left})
    print(
        f"{len(journal.uploaded)} uploads and {len(journal.deleted)} deletes acknowledged, {journal.broken} broken off"
    )
    print(
        f"left by the kills: {len(left)} claims with {orphans} blobs, {staged} of them staged; {garbage} garbage rows"
    )
    assert left, "no kill met an upload"

    server.sql("UPDATE claims SET lease = ?", LONG_AGO)
    scrub = run("pyrimage-manage", "-c", server.ini, "scrub", cwd=server.directory)
    assert scrub.returncode == 0
    assert f"{len(left) + garbage} cleaned up" in scrub.stdout
    check_images(server, journal)
    rows = server.sql("SELECT key, state FROM image_locations")
    assert {state for _, state in rows} == {"active"}
    assert sorted(server.files()) == sorted(f"blobs/{key[-2:]}/{key}" for key, _ in rows)
    assert server.sql("SELECT * FROM claims") == []
    for (image_id,) in server.sql("SELECT id FROM images WHERE status = 'queued'"):
        path = f"/v1/images/{image_id}"
        assert server.request("PUT", path, journal.make_data(image_id), data_headers()).status == 200
    check_images(server, journal)
    shutil.rmtree(server.datadir)


@pytest.mark.parametrize("step", ["write", "seal", "publish"])
def test_a_put_follows_one_whose_server_was_killed_without_a_scrub(tmp_path: Path, step: str) -> None:
    with GatedServer(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        path = f"/v1/images/{server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"
        with server.shut(step):
            lost = threads.submit(server.request, "PUT", path, b"lost", data_headers())
            server.wait_for(step)
            server.kill()
        assert isinstance(lost.exception(), OSError | http.client.HTTPException)
        server.start()
        assert len(server.files()) == 1
        busy = server.request("PUT", path, b"next", data_headers())
        assert (busy.status, server.request("HEAD", path).headers["x-image-meta-status"]) == (409, "queued")
        server.sql("UPDATE claims SET lease = ?", LONG_AGO)
        assert server.request("PUT", path, b"next", data_headers()).status == 200
        assert server.request("GET", path).body == b"next"
        assert (len(server.files()), server.sql("SELECT * FROM claims")) == (1, [])


def test_a_put_follows_a_failed_one_at_once(own_server: Server) -> None:
    server = own_server
    path = f"/v1/images/{server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"
    failed = server.request("PUT", path, b"bytes", data_headers(checksum="0" * 32))
    assert (failed.status, server.files()) == (400, [])
    (image,) = server.request("GET", "/v1/images/detail?is_public=None").json["images"]
    assert image["last_error"] == failed.json["error"]["message"]
    filled = server.request("PUT", path, b"bytes", data_headers())
    assert (filled.status, filled.image["last_error"]) == (200, None)
    assert Counter(row[0] for row in server.sql("SELECT status FROM images")) == {"active": 1}
