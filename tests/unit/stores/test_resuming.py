"""A blob that is read over a network: what breaks off is asked for again, and a short one is never taken for whole."""

from collections.abc import Iterator

import pytest

from pyrimage.errors import BlobDamaged, StoreUnavailable
from pyrimage.stores.resuming import TRIES, ResumingReader, Stream
from pyrimage.stores.testing import pattern

DATA = pattern(1000)


class Broken(Exception):
    pass


class Piece:
    """A stream of what lies between two offsets, which then ends, or breaks off with an error."""

    def __init__(self, start: int, stop: int, error: Exception | None = None) -> None:
        self.at, self.stop, self.error, self.is_closed = start, stop, error, False

    def read(self, size: int, /) -> bytes:
        data = DATA[self.at : min(self.at + size, self.stop)]
        self.at += len(data)
        if not data and self.error is not None:
            raise self.error
        return data

    def close(self) -> None:
        self.is_closed = True


class Place:
    """Where streams are opened; each call gives the next of ``streams``, or raises it."""

    def __init__(self, *streams: Piece | Exception) -> None:
        self.asked: list[int] = []
        self._streams: Iterator[Piece | Exception] = iter(streams)

    def open_at(self, offset: int) -> Stream:
        self.asked.append(offset)
        stream = next(self._streams)
        if isinstance(stream, Exception):
            raise stream
        return stream

    def reader(self, start: int = 0, stop: int = len(DATA)) -> ResumingReader:
        return ResumingReader(self.open_at, start, stop, broken=(Broken,), name="blob")


def read_to_end(reader: ResumingReader, size: int = 300) -> bytes:
    return b"".join(iter(lambda: reader.read(size), b""))


def test_a_part_is_read_and_no_more() -> None:
    assert read_to_end(Place(Piece(100, len(DATA))).reader(100, 500)) == DATA[100:500]


@pytest.mark.parametrize("error", [Broken(), ConnectionResetError(), StoreUnavailable("away"), None])
@pytest.mark.parametrize("at", [0, 1, 500, 999])
def test_what_breaks_off_or_ends_is_asked_for_from_there(at: int, error: Exception | None) -> None:
    place = Place(Piece(0, at, error), Piece(at, len(DATA)))
    assert read_to_end(place.reader()) == DATA
    assert place.asked == [0, at]


def test_it_is_asked_for_again_after_an_error_in_asking() -> None:
    place = Place(Piece(0, 10, Broken()), StoreUnavailable("away"), Piece(10, len(DATA)))
    assert read_to_end(place.reader()) == DATA


def test_each_byte_that_comes_gives_new_tries() -> None:
    steps = 5 * TRIES
    place = Place(*(Piece(at, at + 1, Broken()) for at in range(steps)), Piece(steps, len(DATA)))
    assert read_to_end(place.reader()) == DATA


@pytest.mark.parametrize("error", [Broken(), BlobDamaged("another one"), None])
def test_a_short_blob_is_an_error_and_never_an_end(error: Exception | None) -> None:
    """S16."""
    place = Place(*(Piece(min(999, at), 999, error) for at in [0, *[999] * TRIES]))
    reader = place.reader()
    assert reader.read(999) == DATA[:999]
    with pytest.raises(OSError, match="at 999 of 1000"):
        reader.read(1)
    assert place.asked == [0, *[999] * TRIES]


def test_the_first_error_is_told_at_once() -> None:
    with pytest.raises(BlobDamaged):
        Place(BlobDamaged("missing")).reader()


def test_an_error_that_is_not_the_networks_is_not_tried_again() -> None:
    place = Place(Piece(0, 10, KeyError()), Piece(10, len(DATA)))
    reader = place.reader()
    reader.read(10)
    with pytest.raises(KeyError):
        reader.read(10)
    assert place.asked == [0]


def test_it_reads_into_buffers_and_all_at_once() -> None:
    assert Place(Piece(0, len(DATA))).reader().read() == DATA
    buffer = bytearray(100)
    reader = Place(Piece(0, len(DATA))).reader()
    assert reader.readinto(memoryview(buffer)) == 100
    assert buffer == DATA[:100]
    assert reader.readable()


def test_closing_gives_the_connection_up() -> None:
    piece = Piece(0, len(DATA))
    with Place(piece).reader() as reader:
        reader.read(10)
    assert piece.is_closed


def test_a_stream_that_broke_off_is_closed() -> None:
    piece = Piece(0, 10, Broken())
    read_to_end(Place(piece, Piece(10, len(DATA))).reader())
    assert piece.is_closed
