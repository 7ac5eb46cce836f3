"""The application over each database: what ``tests/conftest.py`` gives is here given three times; and a file store."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from blob import DATA, KEY, make_store, put
from catalogues import Remotes, catalogue_of
from conftest import Installation, install
from pyrimage.catalogue.testing import Subject
from pyrimage.stores.file import FileStore
from registries import Registry, registry_of
from servers import databases


@pytest.fixture(scope="session", params=databases.KINDS)
def shared_installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp(request.param)
    with databases.fresh_database(request.param, directory) as url:
        made = install(directory, **{"sqlalchemy.url": url})
        yield made
        made.engine.dispose()


@pytest.fixture(scope="session")
def shared_registry(shared_installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_of(shared_installation, tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def registry(installation: Installation, shared_registry: Registry) -> Registry:
    """A registry over the installation's database, asked by an administrator."""
    return shared_registry


@pytest.fixture(scope="session")
def shared_remotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remotes]:
    with ExitStack() as stack:
        yield Remotes(stack, tmp_path_factory.mktemp("registries"))


@pytest.fixture
def remotes(shared_remotes: Remotes) -> Iterator[Remotes]:
    """Registries, and what asks them."""
    yield shared_remotes
    shared_remotes.rest()


@pytest.fixture
def catalogue(installation: Installation) -> Subject:
    """The SQL catalogue of an installation."""
    return catalogue_of(installation, installation.settings)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var/images"


@pytest.fixture
def store(directory: Path) -> FileStore:
    return make_store(directory)


@pytest.fixture
def stored(store: FileStore, directory: Path) -> Path:
    """The file of a published blob."""
    put(store)
    return directory / "blobs/ef" / KEY


@pytest.fixture
def reader(store: FileStore, stored: Path) -> Iterator[IO[bytes]]:
    with store.open_reader(KEY, len(DATA)) as opened:
        yield opened
