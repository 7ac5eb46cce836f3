"""The file store: the suite, and what files alone can show."""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import IO, Any

import pytest
from waitress.buffers import ReadOnlyFileBasedBuffer

from factories import files_below
from pyrimage.errors import BlobDamaged, StoreFull, StoreUnavailable
from pyrimage.stores.file import LIBC, WRITE_BACK, FileStore
from pyrimage.stores.testing import StoreConformance

DATA = b"0123456789"
KEY = "f17.0123456789abcdef"

OUTSIDE = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../f17.0123456789abcdef",
    "x/../../../f17.0123456789abcdef",
    "staging/f17.0123456789abcdef",
    ".f17.0123456789abcdef",
    "f17",
    "f17.0123456789abcde/",
    "f17.0123456789abcdef\n",
    "f17.0123456789abcdef\x00",
    "f17.0123456789ABCDEF",
    "f\u00b9.0123456789abcdef",
    f"{'x' * 65}.0123456789abcdef",
]

FULL = Path("/dev/full")


class TestFileStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        self.directory = tmp_path / "images"
        return FileStore(self.directory)

    def leftovers(self) -> list[str]:
        return files_below(self.directory) if self.directory.exists() else []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var/images"


@pytest.fixture
def store(directory: Path) -> FileStore:
    return FileStore(directory)


def put(store: FileStore, key: str = KEY) -> None:
    writer = store.open_writer(key, len(DATA))
    writer.write(DATA)
    writer.seal()
    writer.publish()


@pytest.fixture
def stored(store: FileStore, directory: Path) -> Path:
    """The file of a published blob."""
    put(store)
    return directory / "blobs/ef" / KEY


@pytest.fixture
def reader(store: FileStore, stored: Path) -> Iterator[IO[bytes]]:
    with store.open_reader(KEY, len(DATA)) as opened:
        yield opened


# -- where files lie


def test_bytes_are_staged_inside_the_directory(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, None)
    assert files_below(directory) == [f"staging/{KEY}"]
    writer.discard()


def test_blobs_are_spread_over_subdirectories(store: FileStore, directory: Path) -> None:
    for number in range(64):
        put(store, store.new_key(f"f{number}"))
    assert len(list((directory / "blobs").iterdir())) > 16
    assert {path.name[-2:] for path in (directory / "blobs").glob("*/*")} == {
        path.name for path in (directory / "blobs").iterdir()
    }


def test_publishing_moves_the_file_and_copies_nothing(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, None)
    writer.write(DATA)
    writer.seal()
    staged = (directory / "staging" / KEY).stat().st_ino
    writer.publish()
    assert files_below(directory) == [f"blobs/ef/{KEY}"]
    assert (directory / "blobs/ef" / KEY).stat().st_ino == staged


def test_no_key_is_written_twice(store: FileStore) -> None:
    writer = store.open_writer(KEY, None)
    with pytest.raises(StoreUnavailable):
        store.open_writer(KEY, None)
    writer.discard()


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.open_writer(key, None),
        lambda store, key: store.open_reader(key, 1),
        lambda store, key: store.delete(key),
    ],
    ids=["open_writer", "open_reader", "delete"],
)
def test_key_that_leads_out_of_the_directory_is_refused(
    store: FileStore, directory: Path, key: str, use: Callable[[FileStore, str], object]
) -> None:
    """S26."""
    with pytest.raises(BlobDamaged):
        use(store, key)
    assert list(directory.parent.parent.rglob("*")) == []


def test_url_names_the_file(store: FileStore, stored: Path) -> None:
    assert store.url(KEY) == f"file://{stored}"


# -- durability


def test_file_and_directories_are_flushed_in_this_order(store: FileStore, directory: Path) -> None:
    """A rename that is durable before its bytes would show an empty file after a power cut.

    Likewise the directories on its way, which another upload may have made a moment ago.
    """
    staged, final = directory / "staging" / KEY, directory / "blobs/ef" / KEY
    sealed = [f"fsync {staged}", f"fsync {directory / 'blobs'}", f"fsync {directory}"]
    published = [f"rename {staged} {final}", f"fsync {final.parent}"]
    assert traced(lambda: put(store)) == [f"fsync {directory.parent}", *sealed, *published]
    other = KEY.replace("0", "1")
    again = [line.replace(KEY, other) for line in (*sealed, *published)]
    assert traced(lambda: put(store, other)) == again


def test_other_users_of_the_machine_read_no_bytes(store: FileStore, directory: Path) -> None:
    put(store)
    assert [(directory / name).stat().st_mode & 0o777 for name in ("staging", "blobs")] == [0o700, 0o700]


def traced(action: Callable[[], None]) -> list[str]:
    """Return the names of what an action flushed and renamed, in order."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        seen.append(f"fsync {name_of(descriptor)}")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        seen.append(f"rename {source} {target}")
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", note_fsync)
        patch.setattr(os, "rename", note_rename)
        action()
    return seen


def name_of(descriptor: int) -> str:
    return os.path.realpath(f"/proc/self/fd/{descriptor}")


def descriptor_of(path: Path) -> int:
    """Find the descriptor under which this process has a file open."""
    (found,) = (entry for entry in Path("/proc/self/fd").iterdir() if os.path.realpath(entry) == str(path))
    return int(found.name)


# -- room and speed


MIB = 1 << 20


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


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
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


@pytest.mark.parametrize("error", [0, errno.EIO])
def test_disk_begins_to_write_before_the_last_byte_is_there(store: FileStore, directory: Path, error: int) -> None:
    """So that little is left for the flush at the end. The flush is what counts: of this call, no error matters."""
    length = WRITE_BACK - MIB
    with c_call("sync_file_range", error) as calls:
        writer = store.open_writer(KEY, None)
        for _ in range(3):
            writer.write(bytes(length))
        writer.write(bytes(5))
    writer.seal()
    writer.publish()
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
        writer.seal()
    writer.discard()
    os.close(read)
    os.close(write)
    assert files_below(directory) == []


@pytest.mark.parametrize("place", ["", "staging", "blobs", "blobs/ef"])
def test_file_in_the_place_of_a_directory_is_a_store_that_is_away(
    store: FileStore, directory: Path, place: str
) -> None:
    (directory / place).parent.mkdir(parents=True, exist_ok=True)
    (directory / place).write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        put(store)


def test_blob_that_cannot_be_opened_is_a_store_that_is_away(store: FileStore, stored: Path) -> None:
    stored.unlink()
    stored.mkdir()
    with pytest.raises(StoreUnavailable):
        store.open_reader(KEY, len(DATA))
    with pytest.raises(StoreUnavailable):
        store.delete(KEY)


def test_failed_publish_is_taken_back(store: FileStore, directory: Path) -> None:
    """The file is in its place, and whether that would outlive a power cut is not known."""
    writer = store.open_writer(KEY, None)
    writer.seal()

    def fail(descriptor: int) -> None:
        raise OSError("no fsync today")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable):
            writer.publish()
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


# -- damage


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
def test_file_of_another_size_is_damaged(store: FileStore, stored: Path, size: int) -> None:
    os.truncate(stored, size)
    with pytest.raises(BlobDamaged, match=f"{size} bytes"):
        store.open_reader(KEY, len(DATA))


@pytest.mark.parametrize("lost", ["file", "directory"])
def test_missing_file_is_damaged(store: FileStore, stored: Path, lost: str) -> None:
    if lost == "file":
        stored.unlink()
    else:
        shutil.rmtree(stored.parent)
    with pytest.raises(BlobDamaged, match="missing"):
        store.open_reader(KEY, len(DATA))


@pytest.mark.parametrize("cut", [0, 4, len(DATA) - 1])
@pytest.mark.parametrize("ask", [1, 4, 100, -1, None])
def test_file_that_is_cut_while_it_is_read_never_ends(reader: IO[bytes], stored: Path, cut: int, ask: int) -> None:
    """S16."""
    os.truncate(stored, cut)
    with pytest.raises(OSError, match="end early"):
        read_to_end(reader, ask)


def read_to_end(reader: IO[bytes], ask: int) -> bytes:
    return b"".join(iter(lambda: reader.read(ask), b""))


@pytest.mark.parametrize("cut", [0, 2, 4])
@pytest.mark.parametrize("ask", [1, 4, 100, -1, None])
def test_part_of_a_file_that_is_cut_meanwhile_never_ends(store: FileStore, stored: Path, cut: int, ask: int) -> None:
    """S16."""
    with store.open_reader(KEY, len(DATA), 2, 5) as part:
        os.truncate(stored, cut)
        with pytest.raises(OSError, match="end early"):
            read_to_end(part, ask)


def test_file_that_is_cut_behind_a_part_harms_it_not(store: FileStore, stored: Path) -> None:
    with store.open_reader(KEY, len(DATA), 2, 5) as part:
        os.truncate(stored, 7)
        assert read_to_end(part, 4) == DATA[2:7]


@pytest.mark.parametrize("ask", [1, 4, 100, -1, None])
def test_file_that_grows_while_it_is_read_ends_where_the_row_says(reader: IO[bytes], stored: Path, ask: int) -> None:
    """More bytes than were announced would be taken for the next answer."""
    with stored.open("ab") as file:
        file.write(b"more")
    assert read_to_end(reader, ask) == DATA


@pytest.mark.parametrize("ask", [1, 4, len(DATA), 100, -1, None])
def test_whole_file_ends(reader: IO[bytes], ask: int) -> None:
    assert read_to_end(reader, ask) == DATA
    assert reader.read(ask) == b""


def test_reading_nothing_is_no_end(reader: IO[bytes]) -> None:
    assert reader.read(0) == b""
    assert reader.read() == DATA


def test_end_is_where_the_row_says(reader: IO[bytes], stored: Path) -> None:
    """Servers learn the size by seeking to the end; that of a file that was cut would become the answer's length."""
    os.truncate(stored, 4)
    assert reader.seek(0, os.SEEK_END) == len(DATA)
    assert reader.seek(-1, os.SEEK_END) == len(DATA) - 1
    assert reader.seek(2) == 2
    assert reader.seek(1, os.SEEK_CUR) == 3
    assert reader.tell() == 3


# -- servers


def test_waitress_takes_the_reader_for_a_file(reader: IO[bytes]) -> None:
    buffer = ReadOnlyFileBasedBuffer(reader, 4)
    assert buffer.prepare(len(DATA)) == len(DATA)
    assert b"".join(iter(lambda: buffer.get(4, skip=True), b"")) == DATA
    buffer.close()
    assert reader.closed


def test_waitress_hears_of_a_file_that_was_cut(reader: IO[bytes], stored: Path) -> None:
    """S16."""
    os.truncate(stored, 4)
    buffer = ReadOnlyFileBasedBuffer(reader, 4)
    assert buffer.prepare(len(DATA)) == len(DATA)
    assert buffer.get(4, skip=True) == DATA[:4]
    with pytest.raises(OSError, match="end early"):
        buffer.get(4, skip=True)
    buffer.close()


def test_waitress_takes_a_part_for_a_file(store: FileStore, stored: Path) -> None:
    buffer = ReadOnlyFileBasedBuffer(store.open_reader(KEY, len(DATA), 2, 5), 4)
    assert buffer.prepare(None) == buffer.prepare(5) == 5
    assert b"".join(iter(lambda: buffer.get(4, skip=True), b"")) == DATA[2:7]
    buffer.close()


def test_part_begins_where_the_kernel_would_read_on(store: FileStore, stored: Path) -> None:
    """Servers that let the kernel send a file ask its descriptor for the place."""
    with store.open_reader(KEY, len(DATA), 2, 5) as part:
        assert os.lseek(part.fileno(), 0, os.SEEK_CUR) == part.tell() == 2
        assert os.read(part.fileno(), 5) == DATA[2:7]


def test_end_of_a_part_is_where_it_was_asked_to_end(store: FileStore, stored: Path) -> None:
    with store.open_reader(KEY, len(DATA), 2, 5) as part:
        for place in (part.seek(0, os.SEEK_END), part.seek(8)):
            assert place >= 7
            assert (part.read(3), part.read()) == (b"", b"")


def test_kernel_can_send_the_file(reader: IO[bytes]) -> None:
    assert os.pread(reader.fileno(), len(DATA), 0) == DATA
