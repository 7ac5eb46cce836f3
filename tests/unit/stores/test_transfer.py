"""The copy from a body into a writer: counted, hashed, and stopped where it must be."""

import errno
import hashlib
import io
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from factories import md5, sha256
from pyrimage.catalogue.records import EMPTY, Blob
from pyrimage.errors import (
    ClientLeft,
    ClientTooSlow,
    DataMismatch,
    Invalid,
    LimitExceeded,
    PyrimageError,
    StoreFull,
)
from pyrimage.stores.interfaces import Buffer
from pyrimage.stores.transfer import BUFFERS, CHUNK, copy
from servers.processes import wait_until

SHA256 = hashlib.sha256


class Memory:
    """A writer that keeps what it is given."""

    def __init__(self, room: int | None = None) -> None:
        self.parts: list[bytes] = []
        self._room = room

    def write(self, data: Buffer) -> None:
        if self._room is not None and sum(map(len, self.parts)) + len(data) > self._room:
            raise StoreFull("full")
        self.parts.append(bytes(data))

    def finish(self) -> None: ...

    def discard(self) -> None: ...


def nothing(came: int) -> None:
    """Admit everything."""


class Drops:
    """A source that gives a few bytes at a time, as sockets do, by ``read`` alone, and notes how many it gave."""

    def __init__(self, data: bytes, drop: int) -> None:
        self._rest, self._drop = data, drop
        self.reads = self.given = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        data, self._rest = self._rest[: min(size, self._drop)], self._rest[min(size, self._drop) :]
        self.given += len(data)
        return data


class Breaks(io.RawIOBase):
    """A source that gives some bytes, then raises an error: as a server's body does when something happens."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._data, self._error = io.BytesIO(data), error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self._data.readinto(buffer)
        if not count:
            raise self._error
        return count


@pytest.mark.parametrize("size", [1, CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("is_announced", [True, False])
def test_bytes_are_written_counted_and_hashed(size: int, is_announced: bool) -> None:
    data, writer = bytes(size - 1) + b"x", Memory()
    expected = Blob(size, md5(data), sha256(data))
    assert copy(io.BytesIO(data), writer, size if is_announced else None, nothing) == expected
    assert b"".join(writer.parts) == data


@pytest.mark.parametrize("size", [0, None])
def test_no_bytes_are_the_empty_blob(size: int | None) -> None:
    writer = Memory()
    assert copy(io.BytesIO(), writer, size, nothing) == EMPTY
    assert writer.parts == []


def test_pieces_are_gathered_until_a_chunk_is_full() -> None:
    data, writer = bytes(2 * CHUNK + 5), Memory()
    copy(Drops(data, drop=1000), writer, None, nothing)
    assert [len(part) for part in writer.parts] == [CHUNK, CHUNK, 5]


@pytest.mark.parametrize("size", [5, CHUNK, None])
def test_nothing_is_asked_of_a_source_after_its_end(size: int | None) -> None:
    source = Drops(bytes(size or 5), drop=CHUNK)
    copy(source, Memory(), size, nothing)
    assert source.reads == 2


def test_end_that_comes_too_early_is_a_mismatch() -> None:
    with pytest.raises(DataMismatch, match="11 bytes were announced, but 10 came"):
        copy(io.BytesIO(b"0123456789"), Memory(), 11, nothing)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("drop", [1000, CHUNK])
def test_of_too_many_bytes_one_is_taken(size: int, drop: int) -> None:
    """S35."""
    source, writer = Drops(bytes(9 * CHUNK), drop), Memory()
    with pytest.raises(DataMismatch, match=f"More than the {size} bytes"):
        copy(source, writer, size, nothing)
    assert source.given == size + 1
    assert sum(map(len, writer.parts)) <= size


@pytest.mark.parametrize("size", [None, 2 * CHUNK + 5])
def test_each_chunk_is_admitted_before_it_is_written(size: int | None) -> None:
    writer, seen = Memory(), []

    def admit(came: int) -> None:
        seen.append((came, sum(map(len, writer.parts))))

    copy(io.BytesIO(bytes(2 * CHUNK + 5)), writer, size, admit)
    assert seen == [(CHUNK, 0), (2 * CHUNK, CHUNK), (2 * CHUNK + 5, 2 * CHUNK)]


def test_a_chunk_that_is_not_admitted_is_not_written_and_none_is_read_after_it() -> None:
    """S34."""
    source, writer = Drops(bytes(4 * CHUNK), drop=CHUNK), Memory()

    def admit(came: int) -> None:
        if came > CHUNK:
            raise LimitExceeded("enough")

    with pytest.raises(LimitExceeded):
        copy(source, writer, None, admit)
    assert sum(map(len, writer.parts)) == CHUNK
    assert source.given == 2 * CHUNK


def test_trouble_of_the_writer_ends_the_copy() -> None:
    source = Drops(bytes(4 * CHUNK), drop=CHUNK)
    with pytest.raises(StoreFull):
        copy(source, Memory(room=CHUNK + 1), 4 * CHUNK, nothing)
    assert source.given == 2 * CHUNK


def test_source_is_read_into_the_buffer_where_it_can_be() -> None:
    class Filling(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("copied once more than needed")

    data = bytes(2 * CHUNK)
    assert copy(Filling(data), Memory(), None, nothing).checksum == md5(data)


# -- errors of the source


LEFT = ConnectionResetError("gone")


@pytest.mark.parametrize(
    ("error", "kind", "size", "text"),
    [
        (LEFT, ClientLeft, 456, "The client left after 123 of 456 bytes."),
        (LEFT, ClientLeft, None, "The client left after 123 bytes."),
        (TimeoutError("slow"), ClientTooSlow, 456, "too slow .*: 123 of 456 bytes had come"),
        (ValueError("no size"), Invalid, None, "chunks are malformed; 123 bytes had come"),
        (OSError(errno.EFBIG, "big"), LimitExceeded, None, r"\(max_request_body_size\); 123 bytes had come"),
        (OSError(errno.EIO, "disk"), OSError, 456, "disk"),
    ],
)
@pytest.mark.parametrize("is_buffered", [True, False])
def test_error_of_the_source_is_told_with_how_much_had_come(
    error: Exception, kind: type[Exception], size: int | None, text: str, is_buffered: bool
) -> None:
    source: Any = Breaks(bytes(123), error)
    with pytest.raises(kind, match=text) as raised:
        copy(io.BufferedReader(source, 100) if is_buffered else source, Memory(), size, nothing)
    assert error in (raised.value, raised.value.__cause__)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), ValueError(), OSError(errno.EFBIG, "")])
def test_error_of_the_writer_or_of_who_admits_is_not_taken_for_the_clients(error: Exception) -> None:
    def admit(came: int) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        copy(io.BytesIO(b"bytes"), Memory(), None, admit)
    assert raised.value is error


# -- the ring


class Sink(Memory):
    """A writer that keeps nothing, so that what is measured is the copy's."""

    def write(self, data: Buffer) -> None:
        pass


class Endless(io.RawIOBase):
    """So many bytes, which take no memory; ``before`` happens before each read."""

    def __init__(self, size: int, before: Callable[[], object] = lambda: None) -> None:
        self._left, self._before, self.given = size, before, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._before()
        count = min(self._left, len(buffer))
        self._left -= count
        self.given += count
        return count


class Watched:
    """A sha256 that tells how much it has hashed."""

    name = "sha256"
    hashed = 0

    def __init__(self, **options: bool) -> None:
        self._digest = SHA256()
        Watched.hashed = 0

    def update(self, data: Buffer) -> None:
        self._digest.update(data)
        Watched.hashed += len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class Exhausted(Watched):
    """One that has no memory left for the second update."""

    def update(self, data: Buffer) -> None:
        if self.hashed:
            raise MemoryError
        super().update(data)


def hashing_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.endswith(" of an upload"))


def peak_of(action: Callable[[], object]) -> int:
    """Return how many bytes of memory an action had at once, beside what there was."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [256 * 1024 * 1024, None])
def test_upload_needs_little_memory_however_long_it_is(size: int | None) -> None:
    """S34."""
    source = io.BufferedReader(Endless(256 * 1024 * 1024))
    assert peak_of(lambda: copy(source, Sink(), size, nothing)) < BUFFERS * CHUNK + 512 * 1024


def test_slow_upload_needs_few_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """S40: two, in truth; a thread may be about to give one back."""
    source = Endless(3 * BUFFERS * CHUNK, before=lambda: wait_until(lambda: Watched.hashed == source.given, 30))
    monkeypatch.setattr(hashlib, "sha256", Watched)
    assert peak_of(lambda: copy(io.BufferedReader(source), Sink(), None, nothing)) < 4 * CHUNK


@pytest.mark.parametrize("size", [1, CHUNK])
@pytest.mark.parametrize("is_announced", [True, False])
def test_body_that_fits_into_one_buffer_needs_no_thread(size: int, is_announced: bool) -> None:
    seen: list[str] = []
    source = Endless(size, before=lambda: seen.extend(hashing_threads()))
    copy(io.BufferedReader(source), Sink(), size if is_announced else None, nothing)
    assert seen == []


def test_md5_and_sha256_have_a_thread_each_while_a_long_body_comes() -> None:
    seen: list[list[str]] = []
    copy(io.BufferedReader(Endless(4 * CHUNK, lambda: seen.append(hashing_threads()))), Sink(), None, nothing)
    assert seen[-1] == ["md5 of an upload", "sha256 of an upload"]
    assert hashing_threads() == []


@pytest.mark.parametrize("who", ["source", "writer", "admit", "end"])
def test_no_thread_outlives_a_copy_that_fails(who: str) -> None:
    length = 2 * BUFFERS * CHUNK
    seen: list[list[str]] = []

    def admit(came: int) -> None:
        seen.append(hashing_threads())
        if who == "admit" and came == length:
            raise LimitExceeded("enough")

    source = Breaks(bytes(length), LEFT) if who == "source" else io.BytesIO(bytes(length))
    writer = Memory(room=length - 1 if who == "writer" else None)
    with pytest.raises(PyrimageError):
        copy(io.BufferedReader(source), writer, length + 1, admit)
    assert len(seen[-1]) == 2
    assert hashing_threads() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["md5", "sha256"])
@pytest.mark.parametrize("chunks", [2, 4 * BUFFERS])
def test_digests_are_never_made_of_less_than_everything(
    monkeypatch: pytest.MonkeyPatch, name: str, chunks: int
) -> None:
    monkeypatch.setattr(hashlib, name, Exhausted)
    with pytest.raises(RuntimeError, match="a thread that hashes has failed"):
        copy(io.BufferedReader(Endless(chunks * CHUNK)), Sink(), None, nothing)
    assert hashing_threads() == []


def test_thread_that_cannot_be_started_leaves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if hashing_threads():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start"):
        copy(io.BufferedReader(Endless(4 * CHUNK)), Sink(), None, nothing)
    assert hashing_threads() == []
