"""The default store of the tests' installations: files, or what PYRIMAGE_TEST_STORE says.

It has the name ``file`` whatever its kind is, so that tests can name it.
"""

import os
from pathlib import Path

import pytest

KIND = os.environ.get("PYRIMAGE_TEST_STORE") or "file"

file_store_only = pytest.mark.skipif(KIND != "file", reason="is about files and directories")


def place_in(directory: Path) -> dict[str, str]:
    """Return the ini's keys for a default store whose place is that of ``directory``."""
    return {"pyrimage.filesystem_store_datadir": str(directory / "images")}
