"""What functional tests share beside the API: a registry of the same database."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from registries import Registry, registry_of

if TYPE_CHECKING:
    from conftest import Installation


@pytest.fixture(scope="session")
def shared_registry(
    shared_installation: "Installation", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    with registry_of(shared_installation, tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def registry(installation: "Installation", shared_registry: Registry) -> Registry:
    """A registry, asked by an administrator, of the database and store of ``installation``, which is empty."""
    return shared_registry
