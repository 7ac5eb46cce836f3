"""A service on a real socket, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts import write_users
from client_sites import Site
from conftest import install
from pyrimage.client import Client
from servers.in_process_server import MIB, serving


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = install(tmp_path_factory.mktemp("site"), api_limit_max="3", image_size_cap=str(100 * MIB))
    with serving(made.wsgi) as running:
        yield Site(made, running)
    made.engine.dispose()


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """A service of which everybody here is an administrator, empty. Its pages have three images at most."""
    yield shared_site
    shared_site.installation.empty()


@pytest.fixture
def users_site(tmp_path: Path) -> Iterator[Site]:
    """A service with users, of the test's own: from its address nobody has failed to log in yet."""
    directory = tmp_path / "users"
    directory.mkdir()
    made = install(directory / "site", auth="users", users_file=str(write_users(directory)))
    with serving(made.wsgi) as running:
        yield Site(made, running)
    made.engine.dispose()


@pytest.fixture(params=["", "/v1"], ids=["guide", "v1"])
def client(site: Site, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client in either spelling."""
    with Client(f"{site.url}{request.param}") as made:
        yield made


@pytest.fixture
def guide(site: Site) -> Iterator[Client]:
    """A client in the spelling of the guide."""
    with Client(site.url) as made:
        yield made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory for downloads, empty."""
    made = tmp_path / "downloads"
    made.mkdir()
    return made
