"""One service on several machines: any process may be killed at any moment, under every call of the API.

Nothing that was acknowledged is lost, and clients see no other error than those of a proxy whose server is away. What
the kills leave, ``scrub`` finds. The moments come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from aftermath import contradictions, leftovers, rows, stored_keys
from amounts import IS_LONG, amount
from default_store import SERVICES, empty, new_place, store_in
from factories import data_headers
from journal import MIB, Journal
from servers.databases import cut_sessions
from servers.fleet import Fleet, manage, wait_for_workers
from servers.processes import children, is_alive, wait_until
from servers.proxies import KINDS, Proxy
from servers.pyrimage import READY_SECONDS, Server
from traffic import traffic

pytestmark = [pytest.mark.system, pytest.mark.long]

KILLS = amount(3, 30)  # behind each proxy
CLIENTS = 8
AWAY = frozenset({502, 503})
LONG_AGO = datetime(2001, 1, 1)  # noqa: DTZ001 - as rows have it


class Asked(NamedTuple):
    """A request that looks whether the service answers: when it was answered, and how; None: the connection broke."""

    moment: float
    status: int | None


class Probe:
    """A client that does nothing but ask for a list, over and over, each time over a fresh connection."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy, self._stop = proxy, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked: list[Asked] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            try:
                status: int | None = self._proxy.request("GET", "/v1/images?limit=1").status
            except (OSError, http.client.HTTPException):
                status = None
            self.asked.append(Asked(time.monotonic(), status))

    def away_since(self, began: float) -> tuple[float, int]:
        """Return for how many seconds after a moment requests failed, and how many of them."""
        failed = [each.moment - began for each in self.asked if each.moment >= began and each.status != 200]
        return max(failed, default=0.0), len(failed)


def kill_a_process_of(server: Server, chance: random.Random) -> str:
    """Kill a worker, which is replaced, or the supervisor or all, and start the server again as systemd does."""
    workers, victim = children(server.pid), chance.choice(("worker", "supervisor", "all"))
    if victim == "worker":
        killed = chance.choice(workers)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_alive(killed), READY_SECONDS)
        return victim
    if victim == "supervisor":
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, workers)), READY_SECONDS, server.log)
        server.stop()  # which takes note that it ended
    else:
        server.kill()
    server.start()
    return victim


def kill_somebody(fleet: Fleet, chance: random.Random) -> str:
    """Kill a process, or more, wait until all is there again, and return who it was."""
    victims = {"API server": fleet.apis, "registry": fleet.registries, "proxy": (), "sessions of the database": ()}
    (kind,) = chance.choices(list(victims), (3, 3, 1, 1))
    if servers := victims[kind]:
        server = chance.choice(servers)
        kind += f", {kill_a_process_of(server, chance)}"
        wait_for_workers(server)
    elif kind == "proxy":
        fleet.proxy.kill()
        fleet.proxy.start()
    else:
        cut_sessions(fleet.url)
    return kind


def killed_again_and_again(fleet: Fleet, chance: random.Random, journal: Journal) -> None:
    """Let clients work while processes are killed; print how long that could be noticed."""
    fleet.wait_until_whole()
    with traffic([fleet.proxy], journal, clients=CLIENTS) as stop, Probe(fleet.proxy) as probe:
        for _ in range(KILLS):
            stop.wait(chance.uniform(0.02, 2))  # any moment will do
            began = time.monotonic()
            victim = kill_somebody(fleet, chance)
            whole = time.monotonic() - began
            fleet.wait_until_whole()
            away, failed = probe.away_since(began)
            print(f"{victim}: {failed} requests failed, the last after {away:.2f} s; all there after {whole:.2f} s")


CASES = [(kind, "file") for kind in KINDS]
if IS_LONG:
    CASES += zip(KINDS, SERVICES, strict=True)


@pytest.fixture(params=CASES, ids="-".join)
def fleet(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Iterator[Fleet]:
    """A service behind each proxy, with a shared directory; in long runs also with a bucket, and a container."""
    kind, store = request.param
    place = None if store == "file" else new_place(request.getfixturevalue(SERVICES[store]))
    with Fleet(tmp_path, kind, url, place=place) as running:
        yield running
    if place is not None:
        empty(store_in(place))


def test_kills_lose_nothing_and_leave_nothing(fleet: Fleet, seed: str) -> None:
    """S37."""
    journal = Journal(seed, smallest=1000, largest=amount(2, 8) * MIB, kept=8, away=AWAY)
    killed_again_and_again(fleet, random.Random(seed), journal)
    assert "no live upstreams" not in fleet.proxy.log()  # nginx gives up although a server is there
    assert journal.wrong == []
    assert contradictions(fleet.proxy, fleet.url, journal) == []

    claims = rows(fleet.url, "SELECT image_id, key FROM claims")
    ((garbage,),) = rows(fleet.url, "SELECT count(*) FROM image_locations WHERE state = 'garbage'")
    orphans = {key for _, key in claims}.intersection(stored_keys(fleet.apis[0], fleet.store))
    print(f"left by the kills: {len(claims)} claims, {len(orphans)} of them with bytes; {garbage} garbage rows")
    rows(fleet.url, "UPDATE claims SET lease = :lease", lease=LONG_AGO)
    scrubbed = manage(fleet.apis[0], "scrub")
    assert scrubbed.returncode == 0, scrubbed.stderr
    assert f"{len(claims) + garbage} cleaned up" in scrubbed.stdout
    assert leftovers(fleet.apis[0], fleet.url, fleet.store) == []
    for (image_id,) in rows(fleet.url, "SELECT id FROM images WHERE status = 'queued'"):
        data = bytes(journal.send(image_id, random.Random(seed)))
        assert fleet.proxy.request("PUT", f"/v1/images/{image_id}", data, data_headers()).status == 200
    assert contradictions(fleet.proxy, fleet.url, journal) == []
