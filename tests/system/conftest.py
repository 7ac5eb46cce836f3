"""Servers for the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.pyrimage import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server like ``make serve``'s that a module's tests share: each knows its own images only."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be counted or broken."""
    with Server(tmp_path) as running:
        yield running
