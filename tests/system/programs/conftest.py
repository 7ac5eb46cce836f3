"""What tests of the programs share: an installation that they serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.programs import Programs


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path, sample="development") as made:
        made.configure("logger_pyrimage", {"level": "INFO"})
        yield made
        made.stop()


@pytest.fixture
def with_workers(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as made:
        yield made
        made.stop()
