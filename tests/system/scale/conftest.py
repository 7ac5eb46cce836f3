"""What tests of several servers share."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import databases


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An empty database on PostgreSQL."""
    with databases.fresh_database("postgresql", tmp_path) as made:
        yield made


@pytest.fixture
def seed() -> str:
    """What the moments of a test come from."""
    made = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", made)
    return made
