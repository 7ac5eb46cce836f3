"""The database that a module of tests makes, and what the suites of the catalogue need of it."""

from collections.abc import Iterator

import pytest

from catalogues import catalogue_of
from conftest import Installation, install
from pyrimage.catalogue.testing import Subject


@pytest.fixture(scope="module")
def shared_installation(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = install(tmp_path_factory.mktemp("shared"), **database)
    yield made
    made.engine.dispose()


@pytest.fixture
def catalogue(installation: Installation) -> Subject:
    return catalogue_of(installation, installation.settings)
