"""A Galera cluster that is written to on all its nodes: ``docs/databases.md`` says what to expect.

Each server has a node of its own, and all have one directory for the bytes.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, event, text

from aftermath import contradictions
from amounts import amount
from conftest import Installation, install
from factories import ALICE, data_headers, meta, reserve, upload
from faults import ChunkedBody, at_commit, expire_claims, send
from journal import MIB, Journal
from pyrimage.models import ClaimRow
from recovery import left_by_scrub, wait_for_calls, wait_for_change, wait_for_refusals
from servers import galera
from servers.galera import Node
from servers.processes import RUN_SECONDS, wait_until
from servers.pyrimage import Server
from traffic import traffic

pytestmark = pytest.mark.system

LOSSES = amount(1, 30)
CALLS = 300  # between two of them
DATA = b"bytes"

Servers = Callable[..., list[Installation]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with galera.cluster() as running:
        yield running


@pytest.fixture(scope="module")
def database(nodes: list[Node]) -> dict[str, str]:
    """What the ini of the first server says."""
    nodes[0].add_database("shared")
    return {"sqlalchemy.url": nodes[0].url_of("shared")}


@pytest.fixture
def servers(installation: Installation, nodes: list[Node], tmp_path: Path) -> Iterator[Servers]:
    """Give a function that makes a server for each node."""
    made: list[Installation] = []

    def make(**limits: int) -> list[Installation]:
        settings = {name: str(limit) for name, limit in limits.items()}
        for node in nodes:
            urls = {"sqlalchemy.url": node.url_of("shared")}
            made.append(install(tmp_path / node.directory.name, **{**installation.shared, **urls, **settings}))
        return made

    yield make
    for each in made:
        each.engine.dispose()


def test_an_image_is_seen_through_a_node_that_has_yet_to_hear_of_it(servers: Servers, nodes: list[Node]) -> None:
    first, second, _ = servers()
    engine = create_engine(nodes[1].url_of("shared"), poolclass=NullPool)
    with engine.connect() as connection, ThreadPoolExecutor(1) as threads:
        connection.execute(text("FLUSH TABLES WITH READ LOCK"))
        path = upload(first.client(), DATA)
        answer = threads.submit(second.client().get, path, status="*")
        asked = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT images%'"
        wait_until(lambda: answer.done() or nodes[1].execute(asked), RUN_SECONDS)
        connection.execute(text("UNLOCK TABLES"))
        assert answer.result().status_int == 200


@pytest.mark.parametrize("data", [DATA, None], ids=["upload", "change"])
def test_a_change_that_comes_second_on_another_node_is_busy_and_changes_nothing(
    servers: Servers, data: bytes | None
) -> None:
    first, second, _ = servers()
    path = reserve(first.client())
    headers = meta(name="late") if data is None else data_headers(name="late")
    at_commit(second, lambda session: first.client().put(path, headers=meta(name="early"), status=200) and None)
    refused = second.client().put(path, data or b"", headers=headers, status=503)
    assert refused.headers["Retry-After"].isdigit()
    assert (second.stored_keys(), second.rows(ClaimRow)) == ([], 0)
    assert first.client().head(path).headers["x-image-meta-name"] == "early"
    assert second.client().put(path, data or b"", headers=headers, status=200).json["image"]["name"] == "late"


def post(server: Installation) -> int:
    return int(server.client(ALICE).post("/v1/images", DATA, headers=data_headers(), status="*").status_int)


def post_nothing(server: Installation) -> int:
    return int(server.client(ALICE).post("/v1/images", headers=meta(), status="*").status_int)


def share(server: Installation) -> int:
    return int(server.client().put(f"/v1/images/one/members/{uuid.uuid4()}", status="*").status_int)


def put(server: Installation) -> int:
    return int(server.client().put("/v1/images/one", DATA, headers=data_headers(), status="*").status_int)


@pytest.mark.parametrize(
    ("limit", "ask", "done", "refused"),
    [
        ({"user_storage_quota": 2 * len(DATA)}, post, 201, 413),
        ({"user_image_quota": 2}, post_nothing, 201, 413),
        ({"image_member_quota": 2}, share, 204, 413),
        ({}, put, 200, 409),
    ],
)
def test_who_is_overtaken_on_another_node_is_busy_and_then_refused(
    servers: Servers, limit: dict[str, int], ask: Callable[[Installation], int], done: int, refused: int
) -> None:
    first, second, _ = servers(**limit)
    reserve(first.client(), id="one")
    if limit:
        assert ask(first) == done  # so that the row is there which is locked
    overtaking: list[int] = []
    event.listen(second.engine, "commit", lambda connection: overtaking.append(ask(first)), once=True)
    assert (ask(second), overtaking) == (503, [done])
    assert ask(second) == refused


def test_an_upload_is_not_lost_because_its_claim_was_overtaken(servers: Servers) -> None:
    first, second, _ = servers(user_storage_quota=1000)
    overtaking = [post(first)]

    def overtake() -> None:
        event.listen(second.engine, "commit", lambda connection: overtaking.append(post(first)), once=True)

    body = ChunkedBody(DATA, meanwhile=overtake)
    assert send(second, "POST", "/v1/images", body, owner=ALICE.project).status_int == 201
    assert overtaking == [201, 201]


def test_what_a_node_committed_when_it_left_the_cluster_is_left_to_scrub(servers: Servers, nodes: list[Node]) -> None:
    first, second, _ = servers()
    path = reserve(first.client(), id="one")
    at_commit(second, lambda session: nodes[1].isolate())
    assert (put(second), len(second.stored_keys())) == (503, 1)
    second.client().head(path, status=503)
    nodes[1].rejoin()
    expire_claims(second, timedelta(hours=1))
    second.scrub(timedelta(0))
    assert (second.stored_keys(), second.rows(ClaimRow)) == ([], 0)
    assert put(second) == 200


@pytest.fixture
def processes(nodes: list[Node], tmp_path: Path) -> Iterator[list[Server]]:
    """Servers of which each has its node; they share the directory of the first."""
    nodes[0].add_database("own")
    with ExitStack() as stack:
        made: list[Server] = []
        for node in nodes:
            (directory := tmp_path / node.directory.name).mkdir()
            main = {"sqlalchemy.url": node.url_of("own")}
            if made:
                main["pyrimage.filesystem_store_datadir"] = str(made[0].datadir)
            made.append(stack.enter_context(Server(directory, main=main, server={"workers": "1"})))
        yield made


@pytest.mark.long
def test_nodes_that_are_lost_and_come_back_lose_nothing(nodes: list[Node], processes: list[Server]) -> None:
    """Every other one is killed; the rest can reach nobody."""
    journal = Journal(uuid.uuid4().hex, largest=MIB, away={503})
    with traffic(processes, journal, clients=9):
        for number in range(1, LOSSES + 1):
            wait_for_calls(journal, CALLS, processes[0])
            node, server, other = nodes[number % 3], processes[number % 3], processes[(number + 1) % 3]
            lost = time.monotonic()
            (node.kill if number % 2 else node.isolate)()
            wait_for_change(other, lost)
            wait_for_refusals(journal, 10, server)
            (node.start if number % 2 else node.rejoin)()
            wait_for_change(server, lost)
        wait_for_calls(journal, CALLS, processes[0])
    url = f"{nodes[0].url_of('own')}&init_command=SET SESSION wsrep_sync_wait=7"
    assert journal.wrong == []
    assert contradictions(processes[0], url, journal) == []
    assert left_by_scrub(processes[0], url) == []
