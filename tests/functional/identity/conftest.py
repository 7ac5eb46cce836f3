"""An installation of mode ``users``."""

from collections.abc import Iterator

import pytest
from webtest import TestApp

from accounts import write_users
from conftest import Installation, install
from identity_calls import addresses


@pytest.fixture(scope="session")
def shared_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("users")
    made = install(directory, auth="users", users_file=str(write_users(directory)))
    yield made
    made.engine.dispose()


@pytest.fixture
def app(installation: Installation) -> TestApp:
    """A client with an address of its own, from which nobody has failed to log in yet."""
    return installation.client(REMOTE_ADDR=next(addresses))
