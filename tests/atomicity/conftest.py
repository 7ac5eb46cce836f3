"""What the tests of atomicity share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Threads to do something in meanwhile."""
    with ThreadPoolExecutor(max_workers=32) as pool:
        yield pool
