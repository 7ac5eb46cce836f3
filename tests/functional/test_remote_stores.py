"""Which directory is a store's, where API servers ask a registry: several that start at once, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select

from catalogues import remote_catalogue, served
from conftest import Installation
from pyrimage.catalogue.interfaces import StoreIdentities
from pyrimage.catalogue.remote import stores as remote_stores
from pyrimage.catalogue.testing.catalogue import at_once
from pyrimage.errors import DatabaseAway, DatabaseBusy, DatabaseError, StoreMissing
from pyrimage.models import StoreRow
from pyrimage.stores.directory import MARKER
from pyrimage.stores.file import FileStore
from registries import registry_of

SERVERS = 4


@pytest.fixture
def registry(own_installation: Installation, tmp_path: Path) -> Iterator[Installation]:
    """A registry whose database may be broken."""
    with registry_of(own_installation, tmp_path / "registry") as made:
        yield made.installation


@pytest.fixture
def identities(registry: Installation) -> Iterator[StoreIdentities]:
    with served(registry.wsgi) as port, remote_catalogue(registry.settings, port) as catalogue:
        yield catalogue.identities


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var/images"


def other_store(directory: Path, identities: StoreIdentities) -> FileStore:
    return FileStore("other", directory, identities.identify)


def test_servers_that_start_at_once_agree(directory: Path, identities: StoreIdentities) -> None:
    stores = [other_store(directory, identities) for _ in range(SERVERS)]
    assert at_once(*(store.check for store in stores)) == [None] * SERVERS
    assert identities.known(stores[0]) == (directory / "blobs" / MARKER).read_text().strip()
    assert [path.name for path in (directory / "blobs").iterdir()] == [MARKER]


def test_servers_that_start_at_once_with_directories_of_their_own_get_one_that_is_the_stores(
    directory: Path, identities: StoreIdentities
) -> None:
    stores = [other_store(directory / str(number), identities) for number in range(SERVERS)]
    outcomes = at_once(*(store.check for store in stores))
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [StoreMissing] * (SERVERS - 1)
    (marker,) = directory.glob(f"*/blobs/{MARKER}")
    assert identities.known(stores[0]) == marker.read_text().strip()


def test_the_marker_of_a_start_that_came_in_between_is_waited_for_and_one_of_nobody_is_not_for_ever(
    directory: Path, identities: StoreIdentities, registry: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_stores, "_OTHERS_SECONDS", 0.1)
    store = other_store(directory, identities)
    store.marker.write("f" * 32, replace=True)
    with pytest.raises(StoreMissing) as refused:
        store.check()
    assert "a store that this database does not know" in refused.value.advice
    monkeypatch.setattr(remote_stores, "_OTHERS_SECONDS", 30)

    def arrive(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT stores"):
            asked.append(statement)
            if len(asked) == 3:
                with registry.engine.begin() as other:
                    other.execute(insert(StoreRow).values(name="other", identity="f" * 32))

    asked: list[str] = []
    event.listen(registry.engine, "before_cursor_execute", arrive)
    store.check()
    event.remove(registry.engine, "before_cursor_execute", arrive)


@pytest.mark.parametrize(
    ("error", "is_known_to_have_failed"), [(DatabaseBusy("busy"), True), (DatabaseError("unknown"), False)]
)
def test_a_first_start_that_a_registry_refuses_takes_its_marker_back_unless_it_may_have_been_kept(
    directory: Path,
    identities: StoreIdentities,
    registry: Installation,
    error: DatabaseError,
    is_known_to_have_failed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyrimage.catalogue.remote.transport.PATIENCE", 0)

    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("INSERT INTO stores"):
            raise error

    event.listen(registry.engine, "before_cursor_execute", fail)
    with pytest.raises(DatabaseBusy if is_known_to_have_failed else DatabaseAway):
        other_store(directory, identities).check()
    event.remove(registry.engine, "before_cursor_execute", fail)
    assert (directory / "blobs" / MARKER).exists() is not is_known_to_have_failed
    with registry.engine.connect() as connection:
        assert connection.execute(select(StoreRow).where(StoreRow.name == "other")).all() == []


def test_the_directory_of_another_store_is_refused_by_its_name(directory: Path, identities: StoreIdentities) -> None:
    other_store(directory, identities).check()
    with pytest.raises(StoreMissing) as refused:
        identities.adopt(FileStore("third", directory, identities.identify), although_empty=False)
    assert f"{directory}/blobs is the directory of the store other: give the store third one" in refused.value.advice
