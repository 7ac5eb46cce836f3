"""Many uploads, few connections, one write lock: traps 9, 10 and 13."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from webtest import TestApp

from breakage import DEADLINE, Body, Gate, hinder, on_connect, send
from conftest import Installation, install
from factories import reserve, upload
from pyrimage.models import ImageRow

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


@pytest.mark.parametrize("step", ["write", "seal"])
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


def test_write_waits_while_another_upload_publishes_slowly(
    own_installation: Installation, committing_app: TestApp, aside: ThreadPoolExecutor
) -> None:
    """Trap 13: publishing holds the write lock, and is quick; where it is not, others wait, and do not fail."""
    publishing, writing = Gate(), threading.Event()
    hinder(own_installation).before["publish"] = publishing
    first = aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes"), name="f17")
    publishing.wait_until_reached()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT INTO images"):
            writing.set()

    event.listen(own_installation.engine, "before_cursor_execute", note)
    other = aside.submit(reserve, own_installation.client())
    assert writing.wait(DEADLINE)
    done, _ = wait([other], timeout=0.5)  # one that does not wait for the lock has failed by now
    publishing.open()
    assert not done
    assert other.result()
    assert first.result().status_int == 201
    assert own_installation.rows(ImageRow) == 2


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

    event.listen(own_installation.registry["pyrimage.sessions"], "after_begin", note)
    event.listen(own_installation.registry["pyrimage.sessions"], "before_commit", note)
    gates = [Gate() for _ in range(4)]
    uploads = [aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes", gate)) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate in gates:
        gate.open()
    assert [each.result().status_int for each in uploads] == [201] * 4
    assert len(sessions) == len(managers) == 4
    assert all(len(threads) == 1 for threads in (*sessions.values(), *managers.values()))
