"""A PostgreSQL that fails over to its synchronous standby while clients work: ``docs/databases.md`` says how."""

import time
import uuid
from pathlib import Path

import pytest

from aftermath import contradictions
from amounts import amount
from journal import MIB, Journal
from recovery import left_by_scrub, wait_for_calls, wait_for_change, wait_for_refusals
from servers import postgresql
from servers.pyrimage import Server
from traffic import traffic

pytestmark = pytest.mark.system

FAILOVERS = amount(1, 31)  # an odd number: in the end, the first host of the URL is a standby
CALLS = 300  # between two of them


@pytest.mark.long
def test_a_failover_loses_nothing_and_all_but_503_is_as_before(tmp_path: Path) -> None:
    journal = Journal(uuid.uuid4().hex, largest=MIB, away={503})
    with postgresql.pair() as (primary, standby):
        url = postgresql.url_of(primary, standby)
        with Server(tmp_path, main={"sqlalchemy.url": url}, server={"workers": "2"}) as server:
            with traffic([server], journal, clients=8):
                for _ in range(FAILOVERS):
                    wait_for_calls(journal, CALLS, server)
                    killed = time.monotonic()
                    primary.kill()
                    wait_for_refusals(journal, 10, server)
                    standby.promote()
                    wait_for_change(server, killed)
                    primary.follow(standby)
                    primary, standby = standby, primary
                    refused = journal.cut.total()
                    wait_for_calls(journal, CALLS, server)
                    assert journal.cut.total() == refused
            assert journal.wrong == []
            assert contradictions(server, url, journal) == []
            assert left_by_scrub(server, url) == []
