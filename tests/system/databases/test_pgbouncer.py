"""PostgreSQL through PgBouncer: each transaction has another session, and the catalogue does not notice.

``docs/databases.md`` is what these tests are about.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from aftermath import contradictions
from amounts import amount
from journal import MIB, Journal
from pyrimage.catalogue.testing import (
    ClaimsConformance,
    FiltersConformance,
    ImagesConformance,
    MembersConformance,
    PagesConformance,
    QuotasConformance,
    TokensConformance,
)
from pyrimage.models import make_engine
from recovery import left_by_scrub, wait_for_calls
from servers import databases, pgbouncer
from servers.pyrimage import Server
from traffic import traffic

pytestmark = pytest.mark.system

UNPREPARED = {"pyrimage.database_prepared_statements": "false"}
CUTS = amount(5, 50)
CALLS = 300  # between two of them


@contextmanager
def pooled_database(directory: Path, sessions: int = 4) -> Iterator[tuple[str, str]]:
    """Make a database; give its URL, and that through a PgBouncer with fewer sessions than the service would have."""
    with databases.fresh_database("postgresql", directory) as url, pgbouncer.serving(url, sessions) as pooled:
        yield url, pooled


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with pooled_database(tmp_path_factory.mktemp("database")) as (_, pooled):
        yield {"sqlalchemy.url": pooled, **UNPREPARED}


def run_often(url: str, **settings: str) -> None:
    """Run a statement often enough for the driver to prepare it, on two connections that have one session in turn."""
    engine = make_engine({"sqlalchemy.url": url, **settings})
    try:
        with engine.connect() as first, engine.connect() as second:
            for connection in (first, second):
                for _ in range(10):
                    assert connection.scalar(text("SELECT 1")) == 1
                    connection.commit()
    finally:
        engine.dispose()


def test_statements_are_not_prepared_in_a_session_that_others_have_too(tmp_path: Path) -> None:
    with pooled_database(tmp_path, sessions=1) as (_, pooled):
        run_often(pooled, **UNPREPARED)
        with pytest.raises(ProgrammingError, match="already exists"):
            run_often(pooled)


@pytest.mark.long
def test_clients_notice_neither_the_pooler_nor_sessions_that_end(tmp_path: Path) -> None:
    """But those whose request had the session, who are told to come again."""
    journal = Journal(uuid.uuid4().hex, largest=MIB // 4, away={503})
    with (
        pooled_database(tmp_path) as (url, pooled),
        Server(tmp_path, main={"sqlalchemy.url": pooled, **UNPREPARED}, server={"workers": "2"}) as server,
    ):
        with traffic([server], journal, clients=8):
            for _ in range(CUTS):
                wait_for_calls(journal, CALLS, server)
                databases.cut_sessions(url)
        assert journal.wrong == []
        assert contradictions(server, url, journal) == []
        assert left_by_scrub(server, url) == []


class TestPooledImages(ImagesConformance):
    pass


class TestPooledPages(PagesConformance):
    pass


class TestPooledFilters(FiltersConformance):
    pass


class TestPooledClaims(ClaimsConformance):
    pass


class TestPooledMembers(MembersConformance):
    pass


class TestPooledQuotas(QuotasConformance):
    pass


class TestPooledTokens(TokensConformance):
    pass
