"""The whole application over each database."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from webtest import TestApp

from conftest import Installation, install
from factories import data_headers, error_of, meta
from faults import Body, at_commit, expire_claims, send
from pyrimage.catalogue.testing.catalogue import at_once
from pyrimage.models import ClaimRow, ImageRow, LocationRow
from servers.commit_dropping_proxy import commit_dropping_proxy
from servers.databases import cut_sessions

ON_SERVERS = pytest.mark.parametrize("shared_installation", ["postgresql", "mariadb"], indirect=True)

NO_PATIENCE = {
    "sqlite": "PRAGMA busy_timeout = 50",
    "postgresql": "SET lock_timeout = 50",
    "mysql": "SET innodb_lock_wait_timeout = 0",
}
LOCK_IMAGES = {
    "sqlite": "UPDATE images SET name = 'locked'",
    "postgresql": "SELECT * FROM images FOR UPDATE",
    "mysql": "SELECT * FROM images FOR UPDATE",
}


def url_of(installation: Installation) -> str:
    return installation.engine.url.render_as_string(hide_password=False)


def post(app: TestApp, data: bytes | None = b"bytes", **fields: Any) -> dict[str, Any]:
    """Add an image, queued if there is no data."""
    headers = meta(name="f17", **fields) if data is None else data_headers(name="f17", **fields)
    image: dict[str, Any] = app.post("/v1/images", data or b"", headers=headers, status=201).json["image"]
    return image


def leftovers(installation: Installation) -> tuple[list[str], int, int]:
    """Return what is there of uploads: the files, the locations' rows, the claims'."""
    return installation.stored_keys(), installation.rows(LocationRow), installation.rows(ClaimRow)


NOTHING: tuple[list[str], int, int] = ([], 0, 0)


def test_a_failed_upload_leaves_nothing_but_its_reason(testapp: TestApp, installation: Installation) -> None:
    image = post(testapp, None)
    testapp.put(f"/v1/images/{image['id']}", b"bytes", headers=data_headers(checksum="0" * 32), status=400)
    assert leftovers(installation) == NOTHING
    assert "announced" in testapp.get("/images/detail?is_public=none").json["images"][0]["last_error"]


def test_of_uploads_into_one_image_that_begin_at_once_one_wins(testapp: TestApp, installation: Installation) -> None:
    path = f"/v1/images/{post(testapp, None)['id']}"

    def upload(data: bytes) -> int:
        return installation.client().put(path, data, headers=data_headers(), status="*").status_int

    datas = [b"one", b"two"]  # with a third, MariaDB may see a deadlock, and answers that with 503
    statuses = at_once(*(lambda data=data: upload(data) for data in datas))
    assert sorted(statuses) == [200, 409]
    assert testapp.get(path).body == datas[statuses.index(200)]
    assert [len(installation.stored_keys()), installation.rows(ClaimRow)] == [1, 0]


@pytest.mark.parametrize("bodies", [[b"one", b"two"], [b"one", None], [None, None]], ids=str)
def test_of_posts_with_one_id_at_once_one_wins(installation: Installation, bodies: list[bytes | None]) -> None:
    def add(data: bytes | None) -> int:
        headers = meta(id="one", name="f17") if data is None else data_headers(id="one", name="f17")
        return installation.client().post("/v1/images", data or b"", headers=headers, status="*").status_int

    statuses = at_once(*(lambda data=data: add(data) for data in bodies))
    assert sorted(statuses) == [201, 409]
    blobs = 0 if bodies[statuses.index(201)] is None else 1
    assert [len(installation.stored_keys()), installation.rows(ClaimRow)] == [blobs, 0]


def test_an_image_deleted_during_its_upload_stays_deleted(testapp: TestApp, installation: Installation) -> None:
    path = f"/v1/images/{post(testapp, None)['id']}"
    body = Body(b"bytes", meanwhile=lambda: testapp.delete(path))
    assert send(installation, "PUT", path, body).status_int == 409
    assert leftovers(installation) == NOTHING


def test_changes_of_one_image_at_once_are_all_stored(testapp: TestApp, installation: Installation) -> None:
    path = f"/v1/images/{post(testapp, properties={'old': '1'})['id']}"

    def change(number: int) -> int:
        headers = meta(min_ram=number, properties={f"new{number}": "1", "shared": str(number)})
        return installation.client().put(path, headers=headers, status="*").status_int

    assert at_once(*(lambda number=number: change(number) for number in range(4))) == [200] * 4


def test_many_uploads_and_deletions_at_once_leave_nothing(installation: Installation) -> None:
    def upload_and_delete() -> None:
        app = installation.client()
        for _ in range(5):
            app.delete(f"/v1/images/{post(app)['id']}", status=200)

    assert at_once(*[upload_and_delete] * 6) == [None] * 6
    assert leftovers(installation) == NOTHING
    assert installation.rows(ImageRow) == 30


@pytest.fixture
def impatient(installation: Installation) -> Iterator[Installation]:
    """The installation, whose sessions wait for no lock."""

    def hurry(connection: Any, record: object) -> None:
        connection.cursor().execute(NO_PATIENCE[installation.engine.dialect.name])
        connection.commit()  # a rollback would bring PostgreSQL's patience back

    event.listen(installation.engine, "connect", hurry)
    installation.engine.dispose()
    yield installation
    event.remove(installation.engine, "connect", hurry)
    installation.engine.dispose()


def test_a_lock_that_is_held_too_long_is_503_with_retry_after(impatient: Installation) -> None:
    app = impatient.client()
    path = f"/v1/images/{post(app)['id']}"
    with impatient.engine.begin() as connection:
        connection.execute(text(LOCK_IMAGES[connection.dialect.name]))
        refused = app.put(path, headers=meta(name="new"), status=503)
        assert refused.headers["Retry-After"].isdigit()
        assert error_of(refused) == "The database is busy."
    app.put(path, headers=meta(name="new"), status=200)


@pytest.fixture
def server(installation: Installation, tmp_path: Path) -> Iterator[Installation]:
    """Another server of the same database, to be broken."""
    made = install(tmp_path, **installation.shared)
    yield made
    made.engine.dispose()


@ON_SERVERS
def test_an_idle_connection_that_was_cut_is_replaced_unnoticed(server: Installation) -> None:
    app = server.client()
    path = f"/v1/images/{post(app)['id']}"
    cut_sessions(url_of(server))
    app.put(path, headers=meta(name="new"), status=200)


@ON_SERVERS
def test_sessions_that_are_cut_while_bytes_come_do_not_hurt_an_upload(server: Installation) -> None:
    body = Body(b"bytes", meanwhile=lambda: cut_sessions(url_of(server)))
    assert send(server, "POST", "/v1/images", body, id="one", name="f17").status_int == 201
    assert server.client().get("/v1/images/one").body == b"bytes"


@ON_SERVERS
def test_a_session_that_is_cut_in_a_request_is_503_with_retry_after(server: Installation) -> None:
    app = server.client()
    path = f"/v1/images/{post(app)['id']}"
    event.listen(server.engine, "before_cursor_execute", lambda *_: cut_sessions(url_of(server)), once=True)
    refused = app.get(path, status=503)
    assert refused.headers["Retry-After"].isdigit()
    assert error_of(refused) == "The database cannot be reached."
    assert app.get(path).body == b"bytes"


def finish(server: Installation) -> None:
    """Scrub as if every lease had ended an hour ago."""
    expire_claims(server, timedelta(hours=1))
    server.scrub(timedelta(0))


@ON_SERVERS
def test_an_upload_whose_commit_did_not_arrive_keeps_its_bytes_until_it_is_scrubbed(server: Installation) -> None:
    at_commit(server, lambda session: cut_sessions(url_of(server)))
    app = server.client()
    refused = app.post("/v1/images", b"bytes", headers=data_headers(id="one", name="f17"), status=503)
    assert refused.headers["Retry-After"].isdigit()
    assert [len(server.stored_keys()), server.rows(ImageRow), server.rows(ClaimRow)] == [1, 0, 1]
    finish(server)
    assert leftovers(server) == NOTHING
    post(app, id="one")


@ON_SERVERS
def test_an_upload_whose_commit_was_not_confirmed_is_there(installation: Installation, tmp_path: Path) -> None:
    with commit_dropping_proxy(url_of(installation)) as (proxy, url):
        server = install(tmp_path, **{**installation.shared, "sqlalchemy.url": url})
        at_commit(server, lambda session: proxy.drops_next.set())
        app = server.client()
        app.post("/v1/images", b"bytes", headers=data_headers(id="one", name="f17"), status=503)
        assert not proxy.drops_next.is_set()
        finish(server)
        assert app.get("/v1/images/one").body == b"bytes"
        assert server.rows(ClaimRow) == 0
        server.engine.dispose()


@ON_SERVERS
def test_a_deletion_whose_commit_did_not_arrive_deletes_nothing(server: Installation) -> None:
    app = server.client()
    path = f"/v1/images/{post(app)['id']}"
    at_commit(server, lambda session: cut_sessions(url_of(server)))
    app.delete(path, status=503)
    assert app.get(path).body == b"bytes"


@ON_SERVERS
def test_a_deletion_whose_commit_was_not_confirmed_is_finished_by_the_scrubber(
    installation: Installation, tmp_path: Path
) -> None:
    with commit_dropping_proxy(url_of(installation)) as (proxy, url):
        server = install(tmp_path, **{**installation.shared, "sqlalchemy.url": url})
        app = server.client()
        path = f"/v1/images/{post(app)['id']}"
        at_commit(server, lambda session: proxy.drops_next.set())
        app.delete(path, status=503)
        assert len(server.stored_keys()) == 1
        finish(server)
        assert leftovers(server) == NOTHING
        assert app.head(path).headers["x-image-meta-status"] == "deleted"
        server.engine.dispose()
