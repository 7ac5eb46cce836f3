"""What a file store reads: files that were damaged or cut, and what servers take for a file."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from waitress.buffers import ReadOnlyFileBasedBuffer

from blob import DATA, KEY
from pyrimage.errors import BlobDamaged
from pyrimage.stores.file import FileStore

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


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # a socket's path may not be long
        made.bind(path.name)


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        Path.mkdir,
        make_socket,
        lambda path: path.symlink_to(path.with_name("elsewhere")),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("/dev/zero"),
    ],
    ids=["fifo", "directory", "socket", "link", "dangling", "device"],
)
def test_what_is_no_file_is_damaged_and_never_opened(
    store: FileStore, stored: Path, put: Callable[[Path], None]
) -> None:
    """A pipe would wait for its writer for ever, and a link may lead anywhere, to the same bytes too."""
    stored.rename(stored.with_name("elsewhere"))
    put(stored)
    with pytest.raises(BlobDamaged, match="not a file"):
        store.open_reader(KEY, len(DATA))


@pytest.mark.parametrize("cut", [0, len(DATA) - 1])
@pytest.mark.parametrize("ask", [4, 100, -1, None])
def test_file_that_is_cut_while_it_is_read_never_ends(reader: IO[bytes], stored: Path, cut: int, ask: int) -> None:
    """S16."""
    os.truncate(stored, cut)
    with pytest.raises(OSError, match="end early"):
        read_to_end(reader, ask)


def read_to_end(reader: IO[bytes], ask: int) -> bytes:
    return b"".join(iter(lambda: reader.read(ask), b""))


@pytest.mark.parametrize("cut", [2, 4])
@pytest.mark.parametrize("ask", [4, 100, -1, None])
def test_part_of_a_file_that_is_cut_meanwhile_never_ends(store: FileStore, stored: Path, cut: int, ask: int) -> None:
    """S16."""
    with store.open_reader(KEY, len(DATA), 2, 5) as part:
        os.truncate(stored, cut)
        with pytest.raises(OSError, match="end early"):
            read_to_end(part, ask)


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
