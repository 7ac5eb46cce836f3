"""What the tests of atomicity share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from webtest import TestApp

from conftest import Installation, install
from factories import reserve, upload


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Threads to do something in meanwhile."""
    with ThreadPoolExecutor(max_workers=32) as pool:
        yield pool


@pytest.fixture
def queued(committing_app: TestApp) -> str:
    """The path of an image ``f17`` that waits for its data."""
    return reserve(committing_app, id="f17")


@pytest.fixture
def active(committing_app: TestApp) -> str:
    """The path of an image ``f17`` whose data are ``b"bytes"``."""
    return upload(committing_app, id="f17")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Where an export goes; not there yet."""
    return tmp_path / "export"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Installation]:
    """Another installation, which has nothing yet."""
    made = install(tmp_path / "target")
    yield made
    made.engine.dispose()
