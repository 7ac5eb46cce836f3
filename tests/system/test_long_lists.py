"""Lists of very many images of 1,000 owners come from an index: the databases explain the statements that were sent."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from amounts import amount
from bulk_images import TENANT, analyse, fill
from conftest import Installation, install
from factories import ADMIN
from pyrimage.catalogue.records import Identity
from servers import databases

pytestmark = [pytest.mark.system, pytest.mark.long]

# PostgreSQL reads tables of fewer rows whole, and rightly so.
IMAGES = {"sqlite": amount(20_000, 200_000), "postgresql": 200_000}
LIMIT = 25

CALLERS = {"default": ADMIN, "tenant": Identity(user="alice", project=TENANT, roles=frozenset({"member"}))}
ORDERS = [f"sort_key={key}&sort_dir={direction}" for key in ("created_at", "name") for direction in ("desc", "asc")]

# What is shared with a tenant is sorted when it is found.
SMALL = "image_members"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def bulk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp(request.param)
    with databases.fresh_database(request.param, directory) as url:
        made = install(directory, **{"sqlalchemy.url": url})
        fill(made.engine, IMAGES[request.param])
        if request.param == "postgresql":  # SQLite counts nothing unless somebody tells it to
            analyse(made.engine)
        yield made
        made.engine.dispose()


def ids(installation: Installation, caller: str, query: str) -> list[str]:
    found = installation.client(CALLERS[caller]).get(f"/v1/images/detail?limit={LIMIT}&{query}")
    return [image["id"] for image in found.json["images"]]


def behind(installation: Installation, caller: str, order: str, pages: int) -> str:
    """Go through so many pages, and return the query of the next one."""
    seen: list[str] = []
    for _ in range(pages):
        seen += ids(installation, caller, f"{order}&marker={seen[-1]}" if seen else order)
    assert len(set(seen)) == pages * LIMIT
    return f"{order}&marker={seen[-1]}" if seen else order


def problems(installation: Installation, caller: str, query: str) -> list[str]:
    """Ask for a page, and say what the database does for it that takes longer the more images there are."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(installation.engine, "before_cursor_execute", note)
    assert len(ids(installation, caller, query)) == LIMIT
    event.remove(installation.engine, "before_cursor_execute", note)
    assert len(sent) == 2 + query.count("marker")
    found: list[str] = []
    with installation.engine.connect() as connection:
        for statement, parameters in sent:
            if connection.dialect.name == "sqlite":
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                found += in_sqlites_plan([(parent, detail) for _, parent, _, detail in plan])
            else:
                explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
                plan = explained.scalar_one()
                found += in_postgresqls_plan(plan[0]["Plan"])
    return found


def in_sqlites_plan(steps: list[tuple[int, str]]) -> Iterator[str]:
    """Read a plan: of each step the number of the one it belongs to, and its text."""
    subqueries = {f"SCAN {detail.split()[1]}" for _, detail in steps if re.match("CO-ROUTINE|MATERIALIZE", detail)}
    for parent, detail in steps:
        beside = " ".join(other for number, other in steps if number == parent)
        if detail.startswith("SCAN") and detail not in subqueries:
            yield detail
        if "TEMP B-TREE" in detail and SMALL not in beside:
            yield f"{detail} of {beside}"


def in_postgresqls_plan(node: dict[str, Any]) -> Iterator[str]:
    """Read a plan: a step, and below it those that it takes its rows from."""
    kind, table = node["Node Type"], node.get("Relation Name")
    if kind == "Seq Scan" or (kind.startswith("Index") and "Index Cond" not in node):
        yield f"{kind} of {table}"
    if node.get("Rows Removed by Filter", 0) > 10 * LIMIT:
        yield f"{kind} of {table} passes over {node['Rows Removed by Filter']} rows"
    if "Sort" in kind and SMALL not in str(node):
        yield f"{kind} of {node}"
    for child in node.get("Plans", []):
        yield from in_postgresqls_plan(child)


@pytest.mark.parametrize("page", [1, 2, amount(10, 50)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_page_comes_from_an_index(bulk: Installation, caller: str, order: str, page: int) -> None:
    assert problems(bulk, caller, behind(bulk, caller, order, page - 1)) == []


def test_a_list_in_an_order_without_index_is_told_apart(bulk: Installation) -> None:
    assert problems(bulk, "tenant", "sort_key=size") != []


def test_sqlite_goes_on_so_when_it_has_counted_its_tables(bulk: Installation) -> None:
    if bulk.engine.dialect.name != "sqlite":
        pytest.skip("a server has counted already")
    analyse(bulk.engine)
    bulk.engine.dispose()  # a connection reads the counts when it is opened
    for caller in CALLERS:
        for order in ORDERS:
            assert problems(bulk, caller, order) == []
            assert problems(bulk, caller, behind(bulk, caller, order, 1)) == []
