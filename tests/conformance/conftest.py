"""The application over each database: what ``tests/conftest.py`` gives is here given three times; and a file store."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import update

from blob import DATA, KEY, make_store, put
from conftest import Installation, install
from pyrimage.catalogue.records import utcnow
from pyrimage.catalogue.sql.catalogue import SqlCatalogue
from pyrimage.catalogue.testing import Subject
from pyrimage.models import ClaimRow
from pyrimage.settings import Settings
from pyrimage.stores.file import FileStore
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


@pytest.fixture
def catalogue(installation: Installation) -> Subject:
    """The SQL catalogue of an installation."""
    return catalogue_of(installation, installation.settings)


def catalogue_of(installation: Installation, settings: Settings) -> Subject:
    """Make the SQL catalogue of an installation under other settings."""

    def expire(key: str) -> None:
        with installation.engine.begin() as connection:
            lease = utcnow() - timedelta(hours=1)
            connection.execute(update(ClaimRow).where(ClaimRow.key == key).values(lease=lease))

    def limited(**limits: Any) -> Subject:
        return catalogue_of(installation, dataclasses.replace(settings, **limits))

    return Subject(SqlCatalogue(installation.engine, settings), expire, limited)


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
