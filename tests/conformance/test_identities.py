"""Which directory is the file store's, on each database: who marks one, and which are refused."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, event, select

from blob import DATA, KEY, put
from catalogues import Remotes
from conftest import Installation
from factories import add_row, files_below, insert_rows
from pyrimage.catalogue.interfaces import StoreIdentities
from pyrimage.catalogue.records import Status
from pyrimage.catalogue.sql.identities import SqlIdentities
from pyrimage.errors import DatabaseAway, DatabaseBusy, DatabaseError, DatabaseFull, StoreMissing
from pyrimage.models import LocationRow, StoreRow, make_engine
from pyrimage.models.location import ACTIVE, GARBAGE
from pyrimage.stores.directory import MARKER
from pyrimage.stores.file import FileStore

OTHER = "f" * 32


@pytest.fixture
def engine(installation: Installation) -> Iterator[Engine]:
    """The engine of a database that knows no directory yet; its own comes back afterwards."""
    with installation.engine.begin() as connection:
        own = connection.execute(select(StoreRow.identity)).scalar_one()
        connection.execute(delete(StoreRow))
    yield installation.engine
    with installation.engine.begin() as connection:
        connection.execute(delete(StoreRow))
    insert_rows(installation, StoreRow(name="file", identity=own))


@pytest.fixture(params=["sql", "remote"])
def identities(
    request: pytest.FixtureRequest, engine: Engine, installation: Installation, remotes: Remotes
) -> StoreIdentities:
    """Identities in the database, or over a registry."""
    return SqlIdentities(engine) if request.param == "sql" else remotes.catalogue_of(installation).rows.identities


in_the_database = pytest.mark.parametrize("identities", ["sql"], indirect=True)


@pytest.fixture
def store(directory: Path, identities: StoreIdentities) -> FileStore:
    """A store whose directory is not there."""
    return FileStore("file", directory, identities.identify)


def name_blob(installation: Installation, key: str = KEY, state: str = ACTIVE) -> None:
    """Write the rows of an image whose bytes lie under ``key``."""
    image_id = add_row(installation, id=key.partition(".")[0], status=Status.ACTIVE, size=len(DATA))
    insert_rows(installation, LocationRow(image_id=image_id, store="file", key=key, owned=True, state=state))


def place_blob(directory: Path, key: str = KEY) -> None:
    """Put a file where an earlier release left it."""
    shelf = directory / "blobs" / key[-2:]
    shelf.mkdir(parents=True, exist_ok=True)
    (shelf / key).write_bytes(DATA)


def marker_of(directory: Path) -> str:
    return (directory / "blobs" / MARKER).read_text().strip()


def mark(directory: Path, identity: str) -> None:
    (directory / "blobs").mkdir(parents=True, exist_ok=True)
    (directory / "blobs" / MARKER).write_text(f"{identity}\n")


def assert_untouched(directory: Path, engine: Engine, marker: str | None = None) -> None:
    """Check that neither the directory nor the database was changed."""
    if marker is None:
        assert not (directory / "blobs" / MARKER).exists()
    else:
        assert marker_of(directory) == marker
    with engine.connect() as connection:
        assert connection.execute(select(StoreRow.identity)).all() == []


# -- who marks a directory


def test_the_first_start_on_an_empty_database_marks_the_directory(
    store: FileStore, directory: Path, identities: StoreIdentities, umask: int
) -> None:
    store.check()
    assert (directory / "blobs" / MARKER).stat().st_mode & 0o777 == 0o600
    assert marker_of(directory) == identities.known(store)
    assert (directory / "blobs").stat().st_mode & 0o777 == 0o700
    assert directory.stat().st_mode & 0o022 == 0  # else others could put another one in the place of blobs
    put(store)


def test_an_image_without_bytes_does_not_keep_the_directory_from_being_marked(
    store: FileStore, installation: Installation
) -> None:
    add_row(installation)
    store.check()


def test_the_next_start_finds_what_the_first_one_wrote(
    store: FileStore, directory: Path, identities: StoreIdentities
) -> None:
    store.check()
    first = marker_of(directory)
    FileStore("file", directory, identities.identify).check()
    assert marker_of(directory) == first


def test_the_first_start_after_an_upgrade_marks_a_directory_that_holds_a_blob_and_counts_what_is_missing(
    store: FileStore, directory: Path, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    place_blob(directory)
    for key in (KEY, "f18.0123456789abcdef", "f19.0123456789abcdef"):
        name_blob(installation, key)
    name_blob(installation, "f20.0123456789abcdef", state=GARBAGE)
    store.check()
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    named = f"{directory}/blobs is the directory of the store file from now on"
    assert said == f"{named}; of the images' blobs, 2 are missing there"
    with store.open_reader(KEY, len(DATA)) as reader:
        assert reader.read() == DATA


def test_servers_that_start_at_once_agree(engine: Engine, installation: Installation, directory: Path) -> None:
    """None of them has found an identity when the first one writes it."""
    everybody = threading.Barrier(4)

    def meet(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("INSERT INTO stores"):
            everybody.wait(30)

    def start() -> str:
        own = make_engine({"sqlalchemy.url": installation.shared["sqlalchemy.url"]})
        event.listen(own, "before_cursor_execute", meet)
        store = FileStore("file", directory, SqlIdentities(own).identify)
        store.check()
        known = SqlIdentities(own).known(store)
        own.dispose()
        return known

    with ThreadPoolExecutor(4) as pool:
        agreed = {started.result() for started in [pool.submit(start) for _ in range(4)]}
    assert agreed == {marker_of(directory)}
    assert [path.name for path in (directory / "blobs").iterdir()] == [MARKER]


@in_the_database
def test_server_that_starts_while_another_one_marks_the_directory_waits_for_it(
    store: FileStore, engine: Engine, installation: Installation, directory: Path
) -> None:
    """The marker is there before the COMMIT, and must not be taken for a stranger's meanwhile."""
    waits = threading.Event()
    own = make_engine({"sqlalchemy.url": installation.shared["sqlalchemy.url"]})
    event.listen(own, "before_cursor_execute", lambda *rest: waits.set() if "INSERT" in rest[2] else None)

    def start() -> None:
        try:
            FileStore("file", directory, SqlIdentities(own).identify).check()
        finally:
            waits.set()
            own.dispose()

    with ThreadPoolExecutor(1) as pool:
        others: list[Future[None]] = []

        def begin(connection: object) -> None:
            if not others:  # at the COMMIT of the first
                others.append(pool.submit(start))
                assert waits.wait(30)

        event.listen(engine, "commit", begin)
        store.check()
        event.remove(engine, "commit", begin)
        others[0].result()


# -- which are refused


def test_a_marked_directory_is_refused_by_an_empty_database(store: FileStore, directory: Path, engine: Engine) -> None:
    mark(directory, OTHER)
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "a store that this database does not know" in refused.value.advice
    assert "pyrimage-manage --config FILE.ini store adopt" in refused.value.advice
    assert_untouched(directory, engine, OTHER)


def test_of_two_databases_that_begin_with_one_directory_at_once_one_is_refused(
    store: FileStore, directory: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found no marker when the other database's is written: it stays."""
    read = store.marker.read

    def overtaken() -> str | None:
        before = read()
        mark(directory, OTHER)
        return before

    monkeypatch.setattr(store.marker, "read", overtaken)
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "a store that this database does not know" in refused.value.advice
    assert_untouched(directory, engine, OTHER)
    assert [path.name for path in (directory / "blobs").iterdir()] == [MARKER]


@in_the_database
@pytest.mark.parametrize(
    ("error", "is_known_to_have_failed"),
    [
        (DatabaseBusy("busy"), True),
        (DatabaseFull("full"), True),
        (DatabaseAway("away"), False),
        (DatabaseError("what became of it is unknown"), False),
    ],
)
def test_a_first_start_whose_commit_fails_takes_its_marker_back_unless_it_may_have_been_kept(
    store: FileStore, directory: Path, engine: Engine, error: DatabaseError, is_known_to_have_failed: bool
) -> None:
    def fail(connection: object) -> None:
        event.remove(engine, "commit", fail)
        raise error

    event.listen(engine, "commit", fail)
    with pytest.raises(type(error)):
        store.check()
    assert (directory / "blobs" / MARKER).exists() is not is_known_to_have_failed
    if is_known_to_have_failed:
        store.check()  # the next start


def test_a_first_start_whose_marker_may_not_outlive_a_power_cut_takes_it_back(
    store: FileStore, directory: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("pyrimage.stores.directory.fsync_directory", fail)
        with pytest.raises(StoreMissing):
            store.check()
    assert_untouched(directory, engine)
    store.check()


def test_a_directory_that_holds_none_of_the_blobs_is_refused_after_an_upgrade(
    store: FileStore, directory: Path, engine: Engine, installation: Installation
) -> None:
    name_blob(installation)
    directory.mkdir(parents=True)
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "holds none of the 1 blobs" in refused.value.advice
    command = "pyrimage-manage --config FILE.ini store adopt file --force"
    assert refused.value.advice.endswith(f"if they are lost, run: {command}")
    assert_untouched(directory, engine)
    assert list(directory.iterdir()) == []


def test_servers_that_start_at_once_where_nothing_of_the_images_is_are_all_told_what_to_do(
    engine: Engine, installation: Installation, directory: Path
) -> None:
    """None is told of a deadlock among those that would mark the directory."""
    name_blob(installation)
    everybody = threading.Barrier(6)

    def start() -> str:
        own = make_engine({"sqlalchemy.url": installation.shared["sqlalchemy.url"]})
        event.listen(own, "before_cursor_execute", lambda *rest: everybody.wait(30) if "FROM stores" in rest[2] else 0)
        with pytest.raises(StoreMissing) as refused:
            FileStore("file", directory, SqlIdentities(own).identify).check()
        own.dispose()
        return refused.value.advice

    with ThreadPoolExecutor(6) as pool:
        told = [started.result() for started in [pool.submit(start) for _ in range(6)]]
    assert ["store adopt file --force" in advice for advice in told] == [True] * 6


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("/etc/hosts")])
def test_what_is_not_a_file_does_not_count_as_a_blob(
    store: FileStore, directory: Path, installation: Installation, put: Callable[[Path], None]
) -> None:
    name_blob(installation)
    place_blob(directory)
    (directory / "blobs/ef" / KEY).unlink()
    put(directory / "blobs/ef" / KEY)
    with pytest.raises(StoreMissing):
        store.check()


def test_a_directory_that_cannot_be_marked_is_refused_and_stays_unknown(
    store: FileStore, directory: Path, engine: Engine
) -> None:
    directory.parent.mkdir()
    directory.write_bytes(b"")
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "pyrimage-store cannot be written: " in refused.value.advice
    with engine.connect() as connection:
        assert connection.execute(select(StoreRow.identity)).all() == []


def test_who_may_not_mark_a_directory_is_told_who_does(
    directory: Path, engine: Engine, identities: StoreIdentities
) -> None:
    with pytest.raises(StoreMissing) as refused:
        FileStore("file", directory, identities.known).check()
    assert "the first start of a server" in refused.value.advice
    assert_untouched(directory, engine)


# -- what an operator adopts


def test_a_new_disk_gets_the_identity_that_the_database_knows(
    store: FileStore, directory: Path, identities: StoreIdentities
) -> None:
    store.check()
    known = marker_of(directory)
    directory.rename(directory.with_name("old"))
    assert identities.adopt(store, although_empty=False).there == 0
    assert marker_of(directory) == known
    store.check()


@pytest.mark.parametrize("is_known", [True, False])
def test_the_database_takes_the_identity_of_a_marked_directory(
    store: FileStore, directory: Path, identities: StoreIdentities, is_known: bool
) -> None:
    if is_known:
        store.check()
    mark(directory, OTHER)
    identities.adopt(store, although_empty=False)
    assert (identities.known(store), marker_of(directory)) == (OTHER, OTHER)
    FileStore("file", directory, identities.identify).check()


def test_adopting_what_is_adopted_changes_nothing(
    store: FileStore, directory: Path, identities: StoreIdentities
) -> None:
    store.check()
    before = (directory / "blobs" / MARKER).stat()
    identities.adopt(store, although_empty=False)
    assert (directory / "blobs" / MARKER).stat() == before
    store.check()


@pytest.mark.parametrize("text", ["", "no identity\n", OTHER, f"{OTHER}0\n", "\xff" * 33])
def test_a_marker_that_is_none_is_refused_and_replaced(
    store: FileStore, directory: Path, identities: StoreIdentities, text: str
) -> None:
    store.check()
    known = marker_of(directory)
    (directory / "blobs" / MARKER).write_text(text)
    with pytest.raises(StoreMissing):
        FileStore("file", directory, identities.identify).check()
    identities.adopt(store, although_empty=False)
    assert marker_of(directory) == known


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("marker")])
def test_a_marker_that_is_not_a_file_is_refused_and_not_opened(
    store: FileStore, directory: Path, put: Callable[[Path], None]
) -> None:
    """Although it leads to the right identity, or would make who opens it wait."""
    store.check()
    (directory / "blobs" / MARKER).rename(directory / "blobs/marker")
    put(directory / "blobs" / MARKER)
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "pyrimage-store cannot be read: " in refused.value.advice


def test_a_directory_without_any_of_the_blobs_is_adopted_by_force_alone(
    store: FileStore, directory: Path, identities: StoreIdentities, engine: Engine, installation: Installation
) -> None:
    """It may be that of a disk that is not mounted."""
    name_blob(installation)
    with pytest.raises(StoreMissing):
        identities.adopt(store, although_empty=False)
    assert_untouched(directory, engine)
    assert not directory.exists()
    count = identities.adopt(store, although_empty=True)
    assert (count.there, count.missing) == (0, 1)
    store.check()
    assert files_below(directory) == []
