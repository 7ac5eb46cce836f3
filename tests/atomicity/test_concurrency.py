"""Many uploads, few connections, one write lock: traps 9, 10 and 13."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from webtest import TestApp

from conftest import Installation, install
from factories import reserve, upload
from faults import Body, Gate, assert_no_bytes, hinder, on_connect, send

UPLOADS = 20


@pytest.fixture
def narrow_installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation with five connections to its database."""
    sizes = {"sqlalchemy.pool_size": "5", "sqlalchemy.max_overflow": "0", "sqlalchemy.pool_timeout": "5"}
    made = install(tmp_path, **sizes)
    yield made
    made.engine.dispose()


@pytest.fixture
def connections(narrow_installation: Installation) -> "Connections":
    return Connections(narrow_installation)


class Connections:
    """How many connections each thread holds, and the most it ever held."""

    def __init__(self, installation: Installation) -> None:
        self.held: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        event.listen(installation.engine, "checkout", self._take)
        event.listen(installation.engine, "checkin", self._give)

    def _take(self, *args: object) -> None:
        thread = threading.get_ident()
        self.held[thread] += 1
        self.most[thread] = max(self.most[thread], self.held[thread])

    def _give(self, *args: object) -> None:
        self.held[threading.get_ident()] -= 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_twenty_uploads_hold_no_connection_while_bytes_come(
    narrow_installation: Installation, connections: Connections, aside: ThreadPoolExecutor, method: str
) -> None:
    """Trap 13: on a pool of five, metadata calls still answer."""
    client = narrow_installation.client()
    names = [f"f{number}" for number in range(UPLOADS)]
    paths = ["/v1/images"] * UPLOADS
    if method == "PUT":
        paths = [reserve(client, id=name) for name in names]
    gates = [Gate() for _ in names]
    uploads = [
        aside.submit(send, narrow_installation, method, path, Body(b"bytes", gate), id=name)
        for path, gate, name in zip(paths, gates, names, strict=True)
    ]
    for gate in gates:
        gate.wait_until_reached()
    assert connections.held.total() == 0
    client.get("/v1/images/detail", status=200)
    reserve(client)
    for gate in gates:
        gate.open()
    assert {each.result().status_int for each in uploads} == {200 if method == "PUT" else 201}
    assert set(connections.most.values()) == {1}


def test_deletion_holds_one_connection_at_a_time(narrow_installation: Installation, connections: Connections) -> None:
    client = narrow_installation.client()
    client.delete(upload(client), status=200)
    assert set(connections.most.values()) == {1}
    assert connections.held.total() == 0


@pytest.mark.parametrize("step", ["write", "finish"])
def test_nothing_is_locked_while_a_store_is_slow(
    own_installation: Installation, committing_app: TestApp, aside: ThreadPoolExecutor, step: str
) -> None:
    """Trap 13: everything slow happens before the first flush, for from there to COMMIT the write lock is held."""
    gate = Gate()
    hinder(own_installation).before[step] = gate
    on_connect(own_installation, "busy_timeout = 0")
    first = aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes"), name="f17")
    gate.wait_until_reached()
    assert own_installation.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    reserve(committing_app)
    gate.open()
    assert first.result().status_int == 201


def test_nothing_is_locked_while_a_store_undoes_an_upload_that_was_refused_by_the_rows(
    own_installation: Installation, committing_app: TestApp, aside: ThreadPoolExecutor
) -> None:
    """Trap 13: an abort calls our manager first, while SQLite still holds the write lock; so it only marks."""
    gate, path = Gate(), reserve(committing_app)
    hinder(own_installation).before["discard"] = gate
    on_connect(own_installation, "busy_timeout = 0")
    body = Body(b"bytes", meanwhile=lambda: committing_app.delete(path))
    upload = aside.submit(send, own_installation, "PUT", path, body)
    gate.wait_until_reached()
    assert own_installation.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    reserve(committing_app)
    gate.open()
    assert upload.result().status_int == 409
    assert_no_bytes(own_installation, images=2)


def test_sessions_and_their_connections_stay_in_one_thread(
    own_installation: Installation, aside: ThreadPoolExecutor
) -> None:
    """Trap 10: sessions and managers never cross threads."""
    sessions: dict[int, set[int]] = {}
    managers: dict[int, set[int]] = {}
    alive: list[Any] = []  # so that no id is used twice

    def note(session: Any, *rest: Any) -> None:
        alive.extend([session, session.info["tm"]])
        sessions.setdefault(id(session), set()).add(threading.get_ident())
        managers.setdefault(id(session.info["tm"]), set()).add(threading.get_ident())

    event.listen(own_installation.catalogue.sessions, "after_begin", note)
    event.listen(own_installation.catalogue.sessions, "before_commit", note)
    gates = [Gate() for _ in range(4)]
    uploads = [aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes", gate)) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate in gates:
        gate.open()
    assert [each.result().status_int for each in uploads] == [201] * 4
    assert len(sessions) == len(managers) == 4
    assert all(len(threads) == 1 for threads in (*sessions.values(), *managers.values()))
