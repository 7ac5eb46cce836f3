"""The database that a module of tests makes, and what the suites of the catalogue need of it."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from conftest import Installation, install
from pyrimage.catalogue.records import utcnow
from pyrimage.catalogue.sql.catalogue import SqlCatalogue
from pyrimage.catalogue.testing import Subject
from pyrimage.models import ClaimRow
from pyrimage.settings import Settings


@pytest.fixture(scope="module")
def shared_installation(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = install(tmp_path_factory.mktemp("shared"), **database)
    yield made
    made.engine.dispose()


@pytest.fixture
def catalogue(installation: Installation) -> Subject:
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
