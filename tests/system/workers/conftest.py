"""What tests of several processes on one socket share: a server with two workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.pyrimage import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, server={"workers": "2"}) as running:
        running.wait_for_workers(2)
        yield running
