"""S37: ``kill -9`` at any moment; what was acknowledged stays, and what was not leaves nothing behind.

That holds for files, for multipart uploads to S3 and for segments in Swift.

The moments come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import http.client
import os
import random
import shutil
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aftermath import contradictions, leftovers, stored_keys
from amounts import amount
from default_store import SERVICES, empty, new_place, store_in
from factories import data_headers, meta
from journal import MIB, Journal
from servers.paused_uploads import PausableServer
from servers.processes import children, is_alive, run, wait_until
from servers.pyrimage import READY_SECONDS, Server
from traffic import TRANSFERS, traffic

pytestmark = pytest.mark.system

KILLS = amount(6, 60)
CLIENTS = 6
LONG_AGO = "2001-01-01 00:00:00.000000"


def kill_somebody(server: Server, chance: random.Random, stop: threading.Event) -> str:
    """Kill a worker, which is replaced, or the supervisor or all, and start the server again on its port."""
    least = chance.choice((1, 2))
    wait_until(lambda: len(children(server.pid)) >= least, READY_SECONDS, server.log)  # they come back by themselves
    stop.wait(chance.uniform(0.02, 3))  # any moment will do; the first upload to S3 begins a second after the start
    workers, victim = children(server.pid), chance.choice(("worker", "supervisor", "all"))
    if victim == "worker":
        killed = chance.choice(workers)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_alive(killed), READY_SECONDS)
        assert server.request("GET", "/v1/images").status == 200
        return victim
    if victim == "supervisor":
        os.kill(server.pid, signal.SIGKILL)
    else:
        server.kill()
    wait_until(
        lambda: not any(map(is_alive, workers)), READY_SECONDS, lambda: f"{workers} go on\n{server.log()[-5000:]}"
    )
    server.stop()  # which takes note that the supervisor ended
    server.start()
    return victim


def killed_again_and_again(server: Server, chance: random.Random, journal: Journal) -> Counter[str]:
    """Let clients work while the server is killed, and count who was."""
    with traffic([server], journal, clients=CLIENTS, calls=TRANSFERS) as stop:
        killed = Counter(kill_somebody(server, chance, stop) for _ in range(KILLS))
        wait_until(lambda: len(children(server.pid)) == 2, READY_SECONDS, server.log)
    return killed


@pytest.fixture(params=["file", *SERVICES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The ini's keys for a store of each kind; none for files, which are in the server's directory."""
    if request.param == "file":
        yield {}
        shutil.rmtree(tmp_path / "var/images")
    else:
        made = new_place(request.getfixturevalue(SERVICES[request.param]))
        yield made
        empty(store_in(made))


@pytest.mark.long
def test_kills_lose_nothing_and_leave_nothing(tmp_path: Path, place: dict[str, str]) -> None:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    journal = Journal(seed, smallest=MIB, largest=12 * MIB, kept=4)  # most have several segments, many several parts
    store = store_in(place) if place else None
    with Server(tmp_path, main=place, server={"workers": "2"}) as server:
        url = f"sqlite:///{server.database}"
        print("killed:", dict(killed_again_and_again(server, random.Random(seed), journal)))
        assert journal.wrong == []
        assert contradictions(server, url, journal) == []
        claims = server.sql("SELECT image_id, key FROM claims")
        ((garbage,),) = server.sql("SELECT count(*) FROM image_locations WHERE state = 'garbage'")
        orphans = {key for _, key in claims}.intersection(stored_keys(server, store))
        print(f"left by the kills: {len(claims)} claims, {len(orphans)} of them with bytes; {garbage} garbage rows")
        assert claims, "no kill met an upload"

        server.sql("UPDATE claims SET lease = ?", LONG_AGO)
        scrub = run("pyrimage-manage", "-c", server.ini, "scrub", cwd=server.directory)
        assert scrub.returncode == 0
        assert f"{len(claims) + garbage} cleaned up" in scrub.stdout
        assert leftovers(server, url, store) == []
        for (image_id,) in server.sql("SELECT id FROM images WHERE status = 'queued'"):
            data = bytes(journal.send(image_id, random.Random(seed)))
            assert server.request("PUT", f"/v1/images/{image_id}", data, data_headers()).status == 200
        assert contradictions(server, url, journal) == []


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_put_follows_one_whose_server_was_killed_without_a_scrub(tmp_path: Path, step: str) -> None:
    with PausableServer(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        path = f"/v1/images/{server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"
        with server.paused(step):
            lost = threads.submit(server.request, "PUT", path, b"lost", data_headers())
            server.wait_for_paused(step)
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
