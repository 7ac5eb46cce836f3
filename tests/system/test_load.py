"""Every call at once from many clients: nothing is refused, nothing is lost.

The calls come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from aftermath import contradictions, leftovers
from amounts import amount
from journal import Journal
from servers import databases
from servers.processes import run
from servers.pyrimage import Server
from traffic import EVERY_CALL, traffic

pytestmark = [pytest.mark.system, pytest.mark.long]

CLIENTS = 16
SECONDS = amount(5, 60)


@pytest.fixture
def journal() -> Journal:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    return Journal(seed)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with databases.fresh_database(request.param, tmp_path) as made:
        yield made


def test_every_call_from_many_clients_is_answered_well(tmp_path: Path, url: str, journal: Journal) -> None:
    with Server(tmp_path, main={"sqlalchemy.url": url}, server={"workers": "2"}) as server:
        with traffic([server], journal, clients=CLIENTS) as stop:
            stop.wait(SECONDS)
        assert (journal.wrong, journal.cut) == ([], {})
        assert contradictions(server, url, journal) == []
        assert leftovers(server, url) == []
    assert journal.calls.keys() == EVERY_CALL.keys()


def test_two_servers_share_one_database_and_one_directory(tmp_path: Path, journal: Journal) -> None:
    """What one server takes the other gives and deletes, while a scrub without patience runs beside them."""
    with databases.fresh_database("postgresql", tmp_path) as url:
        shared = {"sqlalchemy.url": url, "pyrimage.filesystem_store_datadir": str(tmp_path / "shared")}
        directories = tmp_path / "one", tmp_path / "two"
        for each in directories:
            each.mkdir()
        first, second = (Server(each, main=shared, server={"workers": "2"}) for each in directories)
        first.datadir = second.datadir = tmp_path / "shared"
        with first, second:
            with traffic([first, second], journal, clients=CLIENTS):
                scrubs, end = [], time.monotonic() + SECONDS / 2
                while time.monotonic() < end:
                    scrubs.append(run("pyrimage-manage", "-c", first.ini, "scrub", "--grace", "0", cwd=tmp_path))
            assert [(each.returncode, each.stderr) for each in scrubs] == [(0, "")] * len(scrubs)
            assert (journal.wrong, journal.cut) == ([], {})
            for server in (first, second):
                assert contradictions(server, url, journal) == []
            assert leftovers(first, url) == []
