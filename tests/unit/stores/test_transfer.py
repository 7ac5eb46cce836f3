"""The copy from a body into a writer: counted, hashed, and stopped where it must be."""

import io
from typing import Any

import pytest

from factories import md5, sha256
from pyrimage.errors import DataMismatch, LimitExceeded, StoreFull
from pyrimage.records import EMPTY, Blob
from pyrimage.stores.interfaces import Buffer
from pyrimage.stores.transfer import CHUNK, copy


class Memory:
    """A writer that keeps what it is given."""

    def __init__(self, room: int | None = None) -> None:
        self.parts: list[bytes] = []
        self._room = room

    def write(self, data: Buffer) -> None:
        if self._room is not None and sum(map(len, self.parts)) + len(data) > self._room:
            raise StoreFull("full")
        self.parts.append(bytes(data))

    def seal(self) -> None: ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


def nothing(came: int) -> None:
    """Admit everything."""


class Drops(io.BytesIO):
    """A source that gives a few bytes at a time, as sockets do, and notes how many it is asked for."""

    def __init__(self, data: bytes, drop: int) -> None:
        super().__init__(data)
        self._drop = drop
        self.asked: list[Any] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.append(size)
        return super().read(self._drop)


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
@pytest.mark.parametrize("is_announced", [True, False])
def test_bytes_are_written_counted_and_hashed(size: int, is_announced: bool) -> None:
    data, writer = bytes(size - 1) + b"x", Memory()
    assert copy(io.BytesIO(data), writer, size if is_announced else None, nothing) == Blob(
        size, md5(data), sha256(data)
    )
    assert b"".join(writer.parts) == data


@pytest.mark.parametrize("size", [0, None])
def test_no_bytes_are_the_empty_blob(size: int | None) -> None:
    writer = Memory()
    assert copy(io.BytesIO(), writer, size, nothing) == EMPTY
    assert writer.parts == []


def test_source_may_give_less_than_it_is_asked_for() -> None:
    source, writer = Drops(b"0123456789", drop=3), Memory()
    assert copy(source, writer, 10, nothing).size == 10
    assert b"".join(writer.parts) == b"0123456789"


def test_never_more_than_a_chunk_is_asked_for() -> None:
    source = Drops(bytes(3 * CHUNK), drop=CHUNK)
    copy(source, Memory(), None, nothing)
    assert source.asked == [CHUNK] * 4


def test_end_that_comes_too_early_is_a_mismatch() -> None:
    with pytest.raises(DataMismatch, match="11 bytes were announced, but 10 came"):
        copy(io.BytesIO(b"0123456789"), Memory(), 11, nothing)


def test_byte_too_many_is_a_mismatch_and_not_written() -> None:
    writer = Memory()
    with pytest.raises(DataMismatch, match="More than the 6 bytes"):
        copy(Drops(b"0123456789", drop=4), writer, 6, nothing)
    assert b"".join(writer.parts) == b"0123"


def test_too_many_bytes_are_not_read_to_their_end() -> None:
    source = Drops(b"0123456789", drop=1)
    with pytest.raises(DataMismatch):
        copy(source, Memory(), 2, nothing)
    assert len(source.asked) == 3


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_of_too_many_bytes_one_is_taken(size: int) -> None:
    """S35."""
    source, writer = io.BytesIO(bytes(9 * CHUNK)), Memory()
    with pytest.raises(DataMismatch):
        copy(source, writer, size, nothing)
    assert source.tell() == size + 1
    assert sum(map(len, writer.parts)) <= size


@pytest.mark.parametrize("size", [None, 10])
def test_each_chunk_is_admitted_before_it_is_written(size: int | None) -> None:
    writer, seen = Memory(), []

    def admit(came: int) -> None:
        seen.append((came, sum(map(len, writer.parts))))

    copy(Drops(b"0123456789", drop=4), writer, size, admit)
    assert seen == [(4, 0), (8, 4), (10, 8)]


def test_a_chunk_that_is_not_admitted_is_not_written_and_none_is_read_after_it() -> None:
    """S34."""
    source, writer = Drops(b"0123456789", drop=4), Memory()

    def admit(came: int) -> None:
        if came > 7:
            raise LimitExceeded("enough")

    with pytest.raises(LimitExceeded):
        copy(source, writer, None, admit)
    assert b"".join(writer.parts) == b"0123"
    assert len(source.asked) == 2


def test_trouble_of_the_writer_ends_the_copy() -> None:
    source = Drops(b"0123456789", drop=4)
    with pytest.raises(StoreFull):
        copy(source, Memory(room=7), 10, nothing)
    assert len(source.asked) == 2
