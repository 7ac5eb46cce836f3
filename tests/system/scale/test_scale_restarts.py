"""All servers of one service are restarted, one after the other, and no client that reads notices."""

from functools import partial
from pathlib import Path

import pytest

from journal import MIB, Journal
from servers.fleet import Fleet, wait_for_workers
from servers.processes import wait_until
from servers.pyrimage import READY_SECONDS, Server
from traffic import EVERY_CALL, traffic

pytestmark = pytest.mark.system

CLIENTS = 4
READS = {"head", "download", "part", "unchanged", "brief_list", "detailed_list", "members", "shared_images"}
WRITES = EVERY_CALL.keys() - READS


def asked(server: Server) -> int:
    """Return how many requests a server has answered, those of health checks apart."""
    return sum(line[2] != "/healthcheck" for line in server.access_lines())


def is_asked(server: Server, before: int) -> bool:
    """Say whether a server gets its share again: then the next may stop."""
    return asked(server) > before


@pytest.mark.parametrize(("kind", "has_registries"), [("nginx", True), ("haproxy", False)])
def test_a_rolling_restart_fails_nothing_that_may_be_asked_twice(
    tmp_path: Path, url: str, seed: str, kind: str, has_registries: bool
) -> None:
    journal = Journal(seed, largest=MIB, away={502})
    with Fleet(tmp_path, kind, url, has_registries=has_registries) as fleet:
        with traffic([fleet.proxy], journal, clients=CLIENTS):
            for server in (*fleet.registries, *fleet.apis):
                server.stop()
                server.start()
                wait_for_workers(server)
                wait_until(partial(is_asked, server, asked(server)), READY_SECONDS, server.log)
        assert journal.wrong == []
        assert journal.cut.keys() <= {f"{kind} 502" for kind in WRITES}  # over a connection that was just closed
