"""The marker of a store's directory, without a database."""

import errno
import os
from pathlib import Path

import pytest

from pyrimage.errors import StoreMissing
from pyrimage.stores.directory import MARKER, Marker

IDENTITY = "0" * 32


def test_a_file_system_without_hard_links_is_marked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    Marker(tmp_path, "file").write(IDENTITY, replace=False)
    assert Marker(tmp_path, "file").read() == IDENTITY
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_marks_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    blobs = tmp_path / "images" / "blobs"
    Marker(blobs, "file").write(IDENTITY, replace=True)
    made = [blobs.parent, blobs, blobs / MARKER]
    assert [(path.stat().st_uid, path.stat().st_gid) for path in made] == [(12345, 23456)] * 3


@pytest.mark.parametrize("is_known", [True, False])
def test_a_marker_that_is_there_and_cannot_be_read_is_said_with_what_to_do(tmp_path: Path, is_known: bool) -> None:
    marker = Marker(tmp_path, "file")
    (tmp_path / MARKER).mkdir()  # which not even root can read
    with pytest.raises(StoreMissing) as refused:
        marker.check(IDENTITY) if is_known else marker.read()
    for words in (f"{tmp_path}/{MARKER} cannot be read: ", "the user that runs the servers", "store adopt"):
        assert words in refused.value.advice


@pytest.mark.parametrize("mask", [0o000, 0o277])
def test_the_owner_reads_the_marker_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        Marker(tmp_path, "file").write(IDENTITY, replace=False)
    finally:
        os.umask(before)
    assert (tmp_path / MARKER).stat().st_mode & 0o777 == 0o600
