"""What tests of ``pyrimage-control`` share: an installation that it may start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.controlled import Controlled


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Controlled]:
    with Controlled(tmp_path) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Controlled]:
    """A server with one worker, which starts faster."""
    with Controlled(tmp_path, sample="development") as made:
        yield made
