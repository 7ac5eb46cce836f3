"""SQLite as it is set up: traps 10 and 12."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from webtest import TestApp

from conftest import Installation, install
from factories import data_headers, meta, reserve, upload
from faults import Body, database, other_program, send
from pyrimage.models import make_engine


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL: an answered upload survives a power cut
        ("busy_timeout", 15_000),  # milliseconds
        ("foreign_keys", 1),
    ],
)
def test_every_connection_is_set_up(own_installation: Installation, pragma: str, value: object) -> None:
    """Trap 12."""
    with own_installation.engine.connect() as one, own_installation.engine.connect() as two:
        for connection in (one, two):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def modes(installation: Installation) -> dict[str, int]:
    """Return the modes of the files that make the database."""
    found = database(installation).parent.glob("pyrimage.sqlite*")
    return {path.name: path.stat().st_mode & 0o777 for path in found}


PRIVATE = dict.fromkeys(("pyrimage.sqlite", "pyrimage.sqlite-wal", "pyrimage.sqlite-shm"), 0o600)


def test_database_is_for_nobody_else_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Who can read it could read everything, and stop every write by a lock on its index."""
    made = install(tmp_path)
    with made.engine.connect():
        assert modes(made) == PRIVATE
    made.engine.dispose()


@pytest.mark.parametrize("umask", [0o277], indirect=True)
def test_database_is_its_owners_also_with_a_umask_that_takes_the_owners_rights(tmp_path: Path, umask: int) -> None:
    engine = make_engine({"sqlalchemy.url": f"sqlite:///{tmp_path}/pyrimage.sqlite"})
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    engine.dispose()


def test_database_of_an_earlier_release_is_tightened_at_start(own_installation: Installation, tmp_path: Path) -> None:
    with own_installation.engine.connect():  # keeps the other two files
        for name in PRIVATE:
            (tmp_path / name).chmod(0o644)
        other = install(tmp_path)
        assert modes(own_installation) == PRIVATE
        other.engine.dispose()


def test_database_that_is_a_link_is_for_nobody_else(tmp_path: Path, umask: int) -> None:
    (tmp_path / "pyrimage.sqlite").symlink_to(tmp_path / "elsewhere.sqlite")
    made = install(tmp_path)
    with made.engine.connect():
        found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("elsewhere.*")}
    assert found == {f"elsewhere.sqlite{end}": 0o600 for end in ("", "-wal", "-shm")}
    made.engine.dispose()


def test_database_that_cannot_be_tightened_is_used_and_told(
    own_installation: Installation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner is somebody else, say."""

    def refuse(path: str, mode: int, **rest: bool) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / "pyrimage.sqlite").chmod(0o644)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "chmod", refuse)
        install(tmp_path).engine.dispose()
    assert {record.getMessage() for record in caplog.records if record.levelname == "WARNING"} == {
        f"Others can read {tmp_path}/pyrimage.sqlite: Operation not permitted"
    }


def test_locks_of_this_process_stay_when_another_connection_is_made(own_installation: Installation) -> None:
    """Closing the file anywhere in a process would let go of every lock that SQLite holds in it."""

    def locks() -> int:
        inode = database(own_installation).stat().st_ino
        return Path("/proc/locks").read_text().count(f":{inode} ")

    with own_installation.engine.connect() as one:
        one.exec_driver_sql("SELECT count(*) FROM images")
        before = locks()
        assert before
        with own_installation.engine.connect() as two:
            two.exec_driver_sql("SELECT 1")
            assert locks() >= before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_request_may_write_after_others_wrote_since_it_read(
    own_installation: Installation, committing_app: TestApp, method: str
) -> None:
    """Trap 12: a snapshot that began with a SELECT could not be upgraded under WAL, and no waiting would help."""
    path = reserve(committing_app)
    with other_program(own_installation) as database:

        def write_before_it_writes(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            if statement.startswith("UPDATE images"):
                database.execute("INSERT OR IGNORE INTO owners (id) VALUES ('somebody')")

        event.listen(own_installation.engine, "before_cursor_execute", write_before_it_writes)
        committing_app.request(path, method=method, headers=meta(name="f18"), status=200)


def test_nothing_leans_on_what_sqlite_has_not(own_installation: Installation, committing_app: TestApp) -> None:
    """Trap 10: no savepoints, no two phases, also where an id is taken."""
    used: list[str] = []
    for name in ("savepoint", "begin_twophase", "prepare_twophase"):
        event.listen(own_installation.engine, name, lambda *args, name=name: used.append(name))
    path = upload(committing_app, id="f17")
    committing_app.post("/v1/images", headers=meta(id="f17"), status=409)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(id="f17"), status=409)
    committing_app.put(path, headers=meta(name="f18", properties={"os": "x"}), status=200)
    committing_app.delete(path, status=200)
    queued = reserve(committing_app)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    assert used == []


def test_no_session_outlives_its_transaction(own_installation: Installation) -> None:
    """Trap 10: no ``keep_session``, which would keep the connection too; each request has a session of its own."""
    sessions: list[Any] = []
    event.listen(own_installation.catalogue.sessions, "after_begin", lambda session, *rest: sessions.append(session))
    for name in ("f17", "f18"):
        assert send(own_installation, "POST", "/v1/images", Body(b"bytes"), id=name).status_int == 201
    assert len(set(sessions)) == 2
    assert not any(session.in_transaction() for session in sessions)
    assert own_installation.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
