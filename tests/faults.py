"""Real means to break an installation, or to hold it in the middle of something."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, event, select, text, update
from sqlalchemy.orm import Session
from webob import Request, Response
from webtest import TestApp

from conftest import Installation
from factories import ADMIN, CHUNKED, data_headers
from pyrimage.catalogue.records import Claim, utcnow
from pyrimage.models import ClaimRow, ImageRow, LocationRow
from pyrimage.stores import Store
from pyrimage.stores.file import FileStore
from pyrimage.stores.interfaces import BlobWriter, Buffer, ListedStore
from pyrimage.uploads.claims import GRACE

Action = Callable[[], object]

DEAD = GRACE * 2  # since so long the server is dead, beyond doubt
DEADLINE = 30  # seconds; a test that waits for longer has failed


def nothing() -> None:
    pass


def raising(error: BaseException) -> Action:
    def fail() -> None:
        raise error

    return fail


def wait_for(flag: threading.Event) -> None:
    if not flag.wait(DEADLINE):
        raise AssertionError("waited in vain")


class Gate:
    """An action at which one thread waits until another has opened."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        wait_for(self._opened)

    def wait_until_reached(self) -> None:
        wait_for(self._reached)

    def open(self) -> None:
        self._opened.set()


class Body:
    """A request body that comes in two halves; ``meanwhile`` happens between them."""

    length: int | None

    def __init__(self, data: bytes, meanwhile: Action = nothing) -> None:
        middle = len(data) // 2
        self._halves = [data[:middle], data[middle:]]
        self._meanwhile = meanwhile
        self.length, self.reads = len(data), 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads == 2:
            self._meanwhile()
        return self._halves.pop(0) if self._halves else b""


class ChunkedBody(Body):
    """A body of which nothing announces the length."""

    def __init__(self, data: bytes, meanwhile: Action = nothing) -> None:
        super().__init__(data, meanwhile)
        self.length = None


def send(installation: Installation, method: str, path: str, body: Body, **fields: Any) -> Response:
    """Send an upload on which the server has nothing to spool; ``fields`` are image headers."""
    length = CHUNKED if body.length is None else {"CONTENT_LENGTH": str(body.length)}
    environ = {"REMOTE_ADDR": "127.0.0.1", "wsgi.input": body, **length}
    request = Request.blank(path, environ, method=method, headers=data_headers(**fields))
    return request.get_response(installation.wsgi)


class HinderedStore:
    """A store with something to happen before its steps: ``before["finish"] = raising(StoreFull())``.

    The steps are those of a writer, ``open_reader`` and ``delete``.
    """

    def __init__(self, store: Store) -> None:
        self._store, self.name = store, store.name
        self.check, self.url = store.check, store.url
        self.new_key, self.is_key = store.new_key, store.is_key
        self.blobs = store.blobs if isinstance(store, ListedStore) else None
        self.before: dict[str, Action] = {}

    def step(self, name: str) -> None:
        self.before.get(name, nothing)()

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        return HinderedWriter(self._store.open_writer(key, size), self.step)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        self.step("open_reader")
        return self._store.open_reader(key, size, offset, length)

    def delete(self, key: str) -> None:
        self.step("delete")
        self._store.delete(key)


class HinderedWriter:
    def __init__(self, writer: BlobWriter, step: Callable[[str], None]) -> None:
        self._writer, self._step = writer, step

    def write(self, data: Buffer) -> None:
        self._step("write")
        self._writer.write(data)

    def finish(self) -> None:
        self._step("finish")
        self._writer.finish()

    def discard(self) -> None:
        self._step("discard")
        self._writer.discard()


def hinder(installation: Installation) -> HinderedStore:
    """Put a store that can be hindered in the place of the installation's."""
    store = HinderedStore(installation.store)
    installation.stores[store.name] = store
    return store


def at_commit(installation: Installation, action: Callable[[Session], None]) -> None:
    """Let something happen once in a request's COMMIT: after the vote, where only the database is left to ask."""
    event.listen(installation.catalogue.sessions, "before_commit", action, once=True)


def break_reference(session: Session) -> None:
    """Break a foreign key that SQLite looks at in COMMIT itself."""
    session.execute(text("CREATE TABLE strict (image TEXT REFERENCES images (id) DEFERRABLE INITIALLY DEFERRED)"))
    session.execute(text("INSERT INTO strict VALUES ('no such image')"))


def fill_database(session: Session) -> None:
    """Write more than the database has room for."""
    connection = session.connection()
    limit_size(connection)
    try:
        connection.exec_driver_sql("INSERT INTO owners (id) VALUES (?)", ("x" * 1_000_000,))
    finally:
        limit_size(connection, pages=1_000_000)


def limit_size(connection: Connection, pages: int | None = None) -> None:
    """Let the database have no more pages; no more than now, unless told."""
    pages = pages or connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


@contextlib.contextmanager
def at_checkin(installation: Installation, action: Action) -> Iterator[None]:
    """Let something happen whenever a connection is given back."""

    def act(*args: object) -> None:
        action()

    event.listen(installation.engine, "checkin", act)
    yield
    event.remove(installation.engine, "checkin", act)


def database(installation: Installation) -> Path:
    return Path(installation.engine.url.database or "")


@contextlib.contextmanager
def other_program(installation: Installation) -> Iterator[sqlite3.Connection]:
    """Open the database from outside, in autocommit."""
    with contextlib.closing(
        sqlite3.connect(database(installation), isolation_level=None, check_same_thread=False)
    ) as connection:
        yield connection


def on_connect(installation: Installation, pragma: str) -> None:
    """Set up every connection of an installation differently from now on."""
    installation.engine.dispose()
    event.listen(installation.engine, "connect", lambda made, record: made.execute(f"PRAGMA {pragma}"))


@contextlib.contextmanager
def busy_at_commit(installation: Installation) -> Iterator[None]:
    """Keep SQLite from the next COMMIT of a request until that has failed; without WAL, a reader can do that."""
    on_connect(installation, "journal_mode = DELETE")
    on_connect(installation, "busy_timeout = 0")
    with other_program(installation) as reader, at_checkin(installation, reader.rollback):

        def begin_to_read(session: Session) -> None:
            reader.execute("BEGIN")
            reader.execute("SELECT id FROM images").fetchall()

        at_commit(installation, begin_to_read)
        yield


def claim_upload(
    installation: Installation, image_id: str, *, is_new: bool, age: timedelta, store_name: str = "file"
) -> Claim:
    """Leave what a server leaves that died ``age`` ago, when its last lease ended, in the middle of an upload."""
    store = installation.stores.writable(store_name)
    claim = Claim(image_id, store.name, store.new_key(image_id), None, 5)
    installation.catalogue.claims.begin(claim, ADMIN, is_new=is_new)
    if isinstance(store, FileStore):
        staging = Path(urlsplit(store.url(claim.key)).path).parents[2] / "staging"
        staging.mkdir(exist_ok=True)
        (staging / claim.key).write_bytes(b"dea")
    else:
        finish(store, claim.key, b"dead!")
    expire_claims(installation, age)
    return claim


def finish(store: Store, key: str, data: bytes) -> None:
    """Store a blob as far as an upload does before its rows are written."""
    writer = store.open_writer(key, len(data))
    writer.write(data)
    writer.finish()


def expire_claims(installation: Installation, age: timedelta) -> None:
    """Set back every lease, as if it had ended ``age`` ago."""
    with installation.engine.begin() as connection:
        connection.execute(update(ClaimRow).values(lease=utcnow() - age))


def heartbeats() -> list[threading.Thread]:
    """Return the threads that renew leases."""
    return [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def assert_no_heartbeat() -> None:
    """Check that no thread renews leases; one that was told to end may take its time."""
    for thread in heartbeats():
        thread.join(DEADLINE)
    if heartbeats():
        raise AssertionError(heartbeats())


def state_of(client: TestApp, path: str) -> tuple[str, str | None]:
    """Return an image's status and checksum."""
    headers = client.head(path, status=200).headers
    return headers["x-image-meta-status"], headers.get("x-image-meta-checksum")


def assert_no_bytes(installation: Installation, images: int) -> None:
    """Check that nothing is stored but this many images without data, and that no upload is under way."""
    rows = [installation.rows(model) for model in (ImageRow, ClaimRow, LocationRow)]
    if installation.stored_keys() or rows != [images, 0, 0]:
        raise AssertionError(installation.stored_keys(), rows)


def clean(installation: Installation, *, dry_run: bool = False) -> list[str]:
    found = installation.scrub(GRACE, dry_run=dry_run)
    if any(error is not None for _, error in found):
        raise AssertionError(found)
    return [what for what, error in found]


def lease(installation: Installation) -> datetime:
    with installation.engine.connect() as connection:
        return connection.execute(select(ClaimRow.lease)).scalar_one()
