"""The application over each database: what ``tests/conftest.py`` gives is here given three times; and a file store."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import update

from blob import DATA, KEY, make_store, put
from conftest import Installation, install
from pyrimage.catalogue.records import utcnow
from pyrimage.catalogue.remote.catalogue import RemoteCatalogue
from pyrimage.catalogue.sql.catalogue import SqlCatalogue
from pyrimage.catalogue.testing import Subject
from pyrimage.models import ClaimRow
from pyrimage.settings import Settings
from pyrimage.stores.file import FileStore
from registries import registry_of
from servers import databases
from servers.in_process_server import serving


@pytest.fixture(scope="session", params=databases.KINDS)
def shared_installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp(request.param)
    with databases.fresh_database(request.param, directory) as url:
        made = install(directory, **{"sqlalchemy.url": url})
        yield made
        made.engine.dispose()


def catalogue_of(installation: Installation, settings: Settings) -> Subject:
    """Make the SQL catalogue of an installation under other settings."""

    def expire(key: str) -> None:
        with installation.engine.begin() as connection:
            lease = utcnow() - timedelta(hours=1)
            connection.execute(update(ClaimRow).where(ClaimRow.key == key).values(lease=lease))

    def limited(**limits: Any) -> Subject:
        return catalogue_of(installation, dataclasses.replace(settings, **limits))

    return Subject(SqlCatalogue(installation.engine, settings), expire, limited)


class Remotes:
    """Registries over installations, each served for as long as the tests run, and catalogues that ask them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory
        self._made: dict[tuple[str, ...], RemoteCatalogue] = {}

    def catalogue_of(self, installation: Installation, **limits: Any) -> Subject:
        """Make the catalogue of an API server under these limits, which are the registry's to keep."""

        def limited(**more: Any) -> Subject:
            return self.catalogue_of(installation, **limits, **more)

        key = (str(installation.engine.url), *(f"{name}={limits[name]}" for name in sorted(limits)))
        if key not in self._made:
            self._made[key] = self._serve(installation, {name: str(value) for name, value in limits.items()})
        expire = catalogue_of(installation, installation.settings).expire
        return Subject(self._made[key], expire, limited)

    def _serve(self, installation: Installation, limits: dict[str, str]) -> RemoteCatalogue:
        directory = self._directory / str(len(self._made))
        registry = self._stack.enter_context(registry_of(installation, directory, **limits))
        running = self._stack.enter_context(serving(registry.installation.wsgi, logging.WARNING))
        settings = registry.installation.settings
        remote = RemoteCatalogue(
            dataclasses.replace(
                settings, registry_host=(("127.0.0.1", running.serving.listeners[0].socket.getsockname()[1]),)
            )
        )
        self._stack.callback(remote.close)
        return remote


@pytest.fixture(scope="session")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remotes]:
    """Registries, and what asks them."""
    with ExitStack() as stack:
        yield Remotes(stack, tmp_path_factory.mktemp("registries"))


@pytest.fixture(params=["sql"])
def catalogue(request: pytest.FixtureRequest, installation: Installation, remotes: Remotes) -> Subject:
    """The SQL catalogue of an installation, or that of an API server which asks a registry over it."""
    if request.param == "sql":
        return catalogue_of(installation, installation.settings)
    return remotes.catalogue_of(installation)


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
