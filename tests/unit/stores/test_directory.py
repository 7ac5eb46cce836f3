"""The marker of a store's directory, without a database."""

import errno
import os
from pathlib import Path

import pytest

from pyrimage.stores.directory import MARKER, Marker

IDENTITY = "0" * 32


def test_a_file_system_without_hard_links_is_marked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    Marker(tmp_path).write(IDENTITY, replace=False)
    assert Marker(tmp_path).read() == IDENTITY
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]
