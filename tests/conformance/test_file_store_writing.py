"""What a file store writes: the room that it takes, and what happens where a disk or a directory fails."""

import contextlib
import ctypes
import errno
import os
import resource
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from blob import DATA, IDENTITY, KEY, put
from factories import files_below
from pyrimage.errors import StoreFull, StoreUnavailable
from pyrimage.stores.file import LIBC, WRITE_BACK, FileStore

FULL = Path("/dev/full")
MIB = 1 << 20


# -- room and speed


@pytest.mark.skipif(sys.platform != "linux", reason="fallocate is Linux'")
def test_room_for_announced_bytes_is_taken_before_they_come(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, 3 * MIB)
    staged = (directory / "staging" / KEY).stat()
    writer.discard()
    assert staged.st_blocks * 512 >= 3 * MIB
    assert staged.st_size == 0  # until they are there


@pytest.mark.parametrize("size", [0, None])
def test_no_room_is_taken_for_nothing(store: FileStore, size: int | None) -> None:
    with c_call("fallocate", error=errno.EINVAL) as calls:
        store.open_writer(KEY, size).discard()
    assert calls == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_upload_whose_room_cannot_be_taken_is_refused_and_leaves_nothing(
    store: FileStore, directory: Path, error: int
) -> None:
    with c_call("fallocate", error) as calls, pytest.raises(StoreFull, match="no room for 10 bytes"):
        store.open_writer(KEY, len(DATA))
    assert [arguments[1:] for arguments in calls] == [(1, 0, len(DATA))]  # 1: the file's size stays
    assert files_below(directory) == []


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EINTR])
def test_file_system_that_takes_no_room_ahead_stores_all_the_same(
    store: FileStore, directory: Path, error: int
) -> None:
    with c_call("fallocate", error):
        put(store)
    assert (directory / "blobs/ef" / KEY).read_bytes() == DATA


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no file that is longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_upload_that_is_longer_than_the_process_may_write_is_refused_at_once(store: FileStore, directory: Path) -> None:
    """Which fallocate does not see, as long as the file itself stays empty."""
    with files_of_at_most(MIB):
        with pytest.raises(StoreFull, match=f"no room for {MIB + 1} bytes"):
            store.open_writer(KEY, MIB + 1)
        assert files_below(directory) == []
        store.open_writer(KEY, MIB).discard()


def test_upload_of_unknown_length_that_becomes_longer_than_a_file_may_be_is_told_as_full(store: FileStore) -> None:
    with files_of_at_most(MIB):
        writer = store.open_writer(KEY, None)
        writer.write(bytes(MIB))
        with pytest.raises(StoreFull):
            writer.write(b"x")
        writer.discard()


@pytest.mark.parametrize("error", [0, errno.EIO])
def test_disk_begins_to_write_before_the_last_byte_is_there(store: FileStore, directory: Path, error: int) -> None:
    """So that little is left for the flush at the end. The flush is what counts: of this call, no error matters."""
    length = WRITE_BACK - MIB
    with c_call("sync_file_range", error) as calls:
        writer = store.open_writer(KEY, None)
        for _ in range(3):
            writer.write(bytes(length))
        writer.write(bytes(5))
    writer.finish()
    assert [arguments[1:] for arguments in calls] == [(0, 2 * length, 2)]  # 2: begin, and wait for nothing
    assert (directory / "blobs/ef" / KEY).stat().st_size == 3 * length + 5


def test_every_byte_of_a_long_upload_is_begun_once(store: FileStore) -> None:
    with c_call("sync_file_range", 0) as calls:
        writer = store.open_writer(KEY, None)
        for _ in range(3 * WRITE_BACK // MIB + 1):
            writer.write(bytes(MIB))
    writer.discard()
    assert [arguments[1:3] for arguments in calls] == [(number * WRITE_BACK, WRITE_BACK) for number in range(3)]


@contextlib.contextmanager
def c_call(name: str, error: int) -> Iterator[list[tuple[int, ...]]]:
    """Let a call of the C library fail, or do nothing where ``error`` is 0; give the arguments of each call."""
    calls: list[tuple[int, ...]] = []

    def act(*arguments: Any) -> int:
        calls.append(tuple(getattr(argument, "value", argument) for argument in arguments))
        ctypes.set_errno(error)
        return -1 if error else 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LIBC, name, act)
        yield calls


# -- troubles


def descriptor_of(path: Path) -> int:
    """Find the descriptor under which this process has a file open."""
    (found,) = (entry for entry in Path("/proc/self/fd").iterdir() if os.path.realpath(entry) == str(path))
    return int(found.name)


def test_upload_that_has_no_room_is_refused_at_once(store: FileStore, directory: Path) -> None:
    with pytest.raises(StoreFull, match="no room for"):
        store.open_writer(KEY, 2**62)
    assert files_below(directory) == []


def test_disk_that_is_full_is_told(store: FileStore, directory: Path) -> None:
    """The device that is always full stands in for the file."""
    writer = store.open_writer(KEY, None)
    with FULL.open("wb", buffering=0) as full:
        os.dup2(full.fileno(), descriptor_of(directory / "staging" / KEY))
    with pytest.raises(StoreFull):
        writer.write(DATA)
    writer.discard()
    assert files_below(directory) == []


def test_disk_that_does_not_flush_is_told(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, None)
    read, write = os.pipe()  # nothing that could be flushed
    os.dup2(write, descriptor_of(directory / "staging" / KEY))
    with pytest.raises(StoreUnavailable):
        writer.finish()
    writer.discard()
    os.close(read)
    os.close(write)
    assert files_below(directory) == []


@pytest.mark.parametrize("place", ["", "staging", "blobs", "blobs/ef"])
def test_file_in_the_place_of_a_directory_is_a_store_that_is_away(
    store: FileStore, directory: Path, tmp_path: Path, place: str
) -> None:
    if (directory / place).exists():
        (directory / place).rename(tmp_path / "aside")
    (directory / place).write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        put(store)


def test_blob_that_cannot_be_removed_is_a_store_that_is_away(store: FileStore, stored: Path) -> None:
    stored.unlink()
    stored.mkdir()
    with pytest.raises(StoreUnavailable):
        store.delete(KEY)


@contextlib.contextmanager
def no_fsync_of_directories(error: int) -> Iterator[None]:
    """Let every fsync of a directory fail."""
    fsync = os.fsync

    def act(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", act)
        yield


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP])
def test_file_system_that_flushes_no_directories_stores_all_the_same(
    store: FileStore, directory: Path, error: int
) -> None:
    with no_fsync_of_directories(error):
        put(store)
        store.marker.write(IDENTITY, replace=True)
        assert (directory / "blobs/ef" / KEY).read_bytes() == DATA


def test_directory_that_cannot_be_flushed_for_a_fault_of_the_disk_is_told(store: FileStore) -> None:
    with no_fsync_of_directories(errno.EIO), pytest.raises(StoreUnavailable):
        put(store)


def test_a_finish_that_fails_after_the_rename_is_taken_back(store: FileStore, directory: Path) -> None:
    """The file is in its place, and whether that would outlive a power cut is not known."""
    writer, fsync = store.open_writer(KEY, None), os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError("no fsync today")
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable):
            writer.finish()
    assert files_below(directory) == [f"blobs/ef/{KEY}"]
    writer.discard()
    assert files_below(directory) == []


def test_two_uploads_may_make_the_directories_at_once(store: FileStore) -> None:
    keys = [store.new_key("f17") for _ in range(8)]
    threads = [Thread(target=put, args=(store, key)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in keys:
        store.open_reader(key, len(DATA)).close()
