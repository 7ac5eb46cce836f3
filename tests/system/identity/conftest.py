"""A server that asks a real Keystone, and who asks it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers.keystone import Identity
from servers.keystone_accounts import PYRIMAGE
from servers.pyrimage import Server


def section(url: str, **more: str) -> dict[str, str]:
    """Return the options of a service that asks at ``url``, and remembers nothing."""
    return {
        "auth_url": url,
        "auth_type": "password",
        "username": PYRIMAGE.name,
        "password": PYRIMAGE.password,
        "user_domain_id": "default",
        "project_name": PYRIMAGE.project,
        "project_domain_id": "default",
        "token_cache_time": "-1",
        **more,
    }


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Give a function that starts a server of the test's own which asks Keystone, with more options of its section."""
    made: list[Server] = []

    def start(url: str, **more: str) -> Server:
        directory = tmp_path / f"server-{len(made)}"
        directory.mkdir()
        server = Server(directory, main={"pyrimage.auth": "keystone"})
        server.configure("keystone_authtoken", section(url, **more))
        made.append(server)
        server.start()
        return server

    yield start
    for each in made:
        each.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, identity_service: Identity) -> Iterator[Server]:
    """A server that a module's tests share."""
    made = Server(tmp_path_factory.mktemp("server"), main={"pyrimage.auth": "keystone"})
    made.configure("keystone_authtoken", section(identity_service.url))
    with made as running:
        yield running
