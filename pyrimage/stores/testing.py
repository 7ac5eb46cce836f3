"""What every store must do: a suite for pytest, run over each driver by a small subclass.

::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self) -> Store: ...  # may hold blobs of others

        def leftovers(self) -> Sequence[str]: ...  # where the driver can tell

A store that takes no uploads has the half of it that is about reading: ``ReadingConformance``.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..catalogue.records import Blob, utcnow
from ..errors import BlobDamaged, OriginFailed, UploadEnded
from .interfaces import BlobWriter, Buffer, ListedStore, ReadableStore, Store
from .transfer import CHUNK, copy

IMAGE_ID = "f17"
LARGE = 3 * CHUNK + 5
PARTS = (
    *((0, 1), (0, CHUNK), (0, LARGE), (1, CHUNK), (CHUNK - 1, 2), (CHUNK, 2 * CHUNK), (LARGE - 1, 1), (7, LARGE - 7)),
    *((offset, None) for offset in (0, 1, CHUNK, LARGE - 1)),
)
IDS = ("a", "A", "9", "a.b_c-d", "ends.", "0" * 64, "z" * 64)
NO_KEYS = ("", ".", "..", "f17", "/etc/passwd", "../f17.0123456789abcdef", "f17.0123456789abcdef\n", "f17\x00")
SEAMS = ((0, 1), (1, -1), (1, 0), (1, 1), (2, 0), (3, 1))  # whole parts, and bytes more
SIZES = (1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 8 * 1024 * 1024 + 1)

# How far a writer can get before it is discarded.
STAGES: dict[str, tuple[Callable[[BlobWriter], None], ...]] = {
    "opened": (),
    "written": (lambda writer: writer.write(b"bytes"),),
    "finished": (lambda writer: writer.write(b"bytes"), lambda writer: writer.finish()),
}


def pattern(size: int) -> bytes:
    """Make bytes that tell when some are missing, doubled or out of order."""
    blocks = (hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def read_all(store: ReadableStore, key: str, size: int, offset: int = 0, length: int | None = None) -> bytes:
    """Read a blob, or a part of it, to its end in chunks."""
    with store.open_reader(key, size, offset, length) as reader:
        return b"".join(iter(lambda: reader.read(CHUNK), b""))


def assert_unreadable(store: ReadableStore, key: str, size: int, offset: int = 0, length: int | None = None) -> None:
    """Check that nobody can read a blob of this size; a store may notice while it is read."""
    with pytest.raises((BlobDamaged, OriginFailed, OSError)):
        read_all(store, key, size, offset, length)


class ReadingConformance:
    """What every store does that can be read; its driver's subclass puts blobs there."""

    def put(self, store: Any, data: Buffer) -> str:
        """Let a blob lie in the store; return its key."""
        raise NotImplementedError

    def missing(self, store: Any) -> str:
        """Return a key under which nothing lies."""
        raise NotImplementedError

    def test_store_that_is_there_is_found(self, store: ReadableStore) -> None:
        store.check()

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_come_back(self, store: ReadableStore, size: int) -> None:
        data = pattern(size)
        assert read_all(store, self.put(store, data), size) == data

    def test_missing_blob_is_damaged(self, store: ReadableStore) -> None:
        assert_unreadable(store, self.missing(store), 5)

    @pytest.mark.parametrize("size", [0, 4, 6])
    def test_blob_of_another_size_than_the_row_says_is_damaged(self, store: ReadableStore, size: int) -> None:
        assert_unreadable(store, self.put(store, b"bytes"), size)

    @pytest.mark.parametrize(("offset", "length"), PARTS)
    def test_part_of_a_blob_comes_back(self, store: ReadableStore, offset: int, length: int | None) -> None:
        data = pattern(LARGE)
        stop = None if length is None else offset + length
        assert read_all(store, self.put(store, data), LARGE, offset, length) == data[offset:stop]

    @pytest.mark.parametrize("ask", [1, 3, 100, -1])
    def test_part_ends_however_it_is_read(self, store: ReadableStore, ask: int) -> None:
        key = self.put(store, b"0123456789")
        with store.open_reader(key, 10, 2, 5) as reader:
            assert b"".join(iter(lambda: reader.read(ask), b"")) == b"23456"
            assert reader.read(ask) == b""

    @pytest.mark.parametrize("size", [4, 6])
    def test_part_of_a_damaged_blob_is_not_given(self, store: ReadableStore, size: int) -> None:
        assert_unreadable(store, self.put(store, b"bytes"), size, 1, 2)

    def test_reading_may_stop_anywhere(self, store: ReadableStore) -> None:
        data = pattern(3 * CHUNK)
        key = self.put(store, data)
        with store.open_reader(key, len(data)) as reader:
            assert data.startswith(reader.read(10))
        assert read_all(store, key, len(data)) == data

    def test_several_read_at_once(self, store: ReadableStore) -> None:
        data = pattern(3 * CHUNK)
        key = self.put(store, data)
        with store.open_reader(key, len(data)) as one, store.open_reader(key, len(data)) as two:
            start = one.read(10)
            assert b"".join(iter(lambda: two.read(CHUNK), b"")) == data
            assert start + b"".join(iter(lambda: one.read(CHUNK), b"")) == data

    def test_url_shows_no_credentials(self, store: ReadableStore) -> None:
        parts = urlsplit(store.url(self.put(store, b"bytes")))
        assert parts.scheme
        assert (parts.username, parts.password) == (None, None)


class StoreConformance(ReadingConformance):
    """The contract of ``interfaces``; a test also fails if it leaves behind what it did not finish."""

    def leftovers(self) -> Sequence[str]:
        """Name everything that the store holds beside what it held when the test began, half-written things too."""
        return ()

    @pytest.fixture(autouse=True)
    def no_leftovers(self, store: Store) -> Iterator[None]:
        """Remove what the test stored, and look whether that was everything."""
        self.finished: list[str] = []
        yield
        for key in self.finished:
            store.delete(key)
        assert list(self.leftovers()) == []

    def put(self, store: Any, data: Buffer, image_id: str = IMAGE_ID) -> str:
        """Store a blob; return its key."""
        key: str = store.new_key(image_id)
        self.finished.append(key)
        writer = store.open_writer(key, len(data))
        writer.write(data)
        writer.finish()
        return key

    def missing(self, store: Any) -> str:
        """Make a key that was never used."""
        return str(store.new_key(IMAGE_ID))

    @pytest.mark.parametrize("size", [None, 1_000_000])
    def test_bytes_written_in_pieces_of_any_size_come_back(self, store: Store, size: int | None) -> None:
        data = pattern(1_000_000)
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, size)
        self.finished.append(key)
        at = 0
        for length in (0, 1, 7, 500_000, 0, 499_992):
            writer.write(data[at : at + length])
            at += length
        writer.finish()
        assert read_all(store, key, len(data)) == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_buffer_is_written(self, store: Store, kind: Callable[[bytes], Buffer]) -> None:
        assert read_all(store, self.put(store, kind(b"bytes")), 5) == b"bytes"

    @pytest.mark.parametrize("length", [5, CHUNK])
    @pytest.mark.parametrize("is_announced", [True, False])
    def test_buffer_may_be_used_again_after_a_write(self, store: Store, length: int, is_announced: bool) -> None:
        """A driver that keeps the buffer, not what was in it, would store the last bytes over and over."""
        data = pattern(40 * length)
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, len(data) if is_announced else None)
        self.finished.append(key)
        buffer = bytearray(length)
        for at in range(0, len(data), length):
            buffer[:] = data[at : at + length]
            writer.write(memoryview(buffer))
        buffer[:] = bytes(length)
        writer.finish()
        assert read_all(store, key, len(data)) == data

    @pytest.mark.parametrize("size", [None, 20 * CHUNK + 5])
    def test_copied_bytes_are_those_that_were_hashed(self, store: Store, size: int | None) -> None:
        data = pattern(20 * CHUNK + 5)
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, size)
        self.finished.append(key)
        blob = copy(io.BytesIO(data), writer, size)
        writer.finish()
        stored = read_all(store, key, len(data))
        digests = hashlib.md5(stored, usedforsecurity=False).hexdigest(), hashlib.sha256(stored).hexdigest()
        assert blob == Blob(len(data), *digests)

    @pytest.mark.parametrize("image_id", IDS)
    def test_every_image_id_makes_a_key(self, store: Store, image_id: str) -> None:
        key = self.put(store, b"bytes", image_id)
        assert key.startswith(image_id)
        assert read_all(store, key, 5) == b"bytes"

    def test_a_key_is_told_from_other_texts(self, store: Store) -> None:
        for image_id in IDS:
            assert store.is_key(store.new_key(image_id))
        assert [text for text in NO_KEYS if store.is_key(text)] == []

    def test_keys_are_fresh(self, store: Store) -> None:
        assert len({store.new_key(IMAGE_ID) for _ in range(1000)}) == 1000

    def test_attempts_for_one_image_do_not_touch_each_other(self, store: Store) -> None:
        keys = [store.new_key(IMAGE_ID) for _ in range(2)]
        lost, kept = (store.open_writer(key, 5) for key in keys)
        self.finished.append(keys[1])
        lost.write(b"first")
        kept.write(b"other")
        for writer in (lost, kept):
            writer.finish()
        lost.discard()
        store.delete(keys[0])
        assert_unreadable(store, keys[0], 5)
        assert read_all(store, keys[1], 5) == b"other"

    @pytest.mark.parametrize("stage", ["opened", "written"])
    def test_nothing_can_be_read_before_it_is_finished(self, store: Store, stage: str) -> None:
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, 5)
        for step in STAGES[stage]:
            step(writer)
        assert_unreadable(store, key, 5)
        writer.discard()

    @pytest.mark.parametrize("stage", STAGES)
    def test_discard_leaves_nothing_however_far_the_writer_got(self, store: Store, stage: str) -> None:
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, 5)
        for step in STAGES[stage]:
            step(writer)
        writer.discard()
        assert_unreadable(store, key, 5)
        writer.discard()
        writer.discard()

    @pytest.mark.parametrize("stage", STAGES)
    def test_delete_removes_what_a_dead_server_left(self, store: Store, stage: str) -> None:
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, 5)
        for step in STAGES[stage]:
            step(writer)
        store.delete(key)
        assert_unreadable(store, key, 5)
        writer.discard()  # it was alive after all

    def test_delete_of_what_is_not_there_is_success(self, store: Store) -> None:
        key = self.put(store, b"bytes")
        store.delete(store.new_key(IMAGE_ID))
        store.delete(key)
        store.delete(key)
        assert_unreadable(store, key, 5)

    def test_several_write_at_once(self, store: Store) -> None:
        together = threading.Barrier(4)

        def write(number: int) -> tuple[str, bytes]:
            data = pattern(CHUNK + number)
            together.wait()
            return self.put(store, data), data

        with ThreadPoolExecutor() as pool:
            for key, data in pool.map(write, range(4)):
                assert read_all(store, key, len(data)) == data


class PartedStoreConformance(StoreConformance):
    """The contract, for a store that takes large blobs in parts. part_size: bytes of one, where the length is known."""

    part_size: int

    def write_parts(self, store: Store, *, is_finished: bool) -> tuple[str, int, BlobWriter]:
        """Write a blob of two parts and a bit more; return its key, its size and its writer."""
        size, key = 2 * self.part_size + 5, store.new_key(IMAGE_ID)
        writer = store.open_writer(key, size)
        writer.write(pattern(size))
        if is_finished:
            writer.finish()
        return key, size, writer

    @pytest.mark.parametrize("is_announced", [True, False])
    @pytest.mark.parametrize(("parts", "more"), SEAMS)
    def test_blobs_of_any_number_of_parts_come_back(
        self, store: Store, parts: int, more: int, is_announced: bool
    ) -> None:
        data = pattern(parts * self.part_size + more)
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, len(data) if is_announced else None)
        self.finished.append(key)
        for at in range(0, len(data), CHUNK):
            writer.write(data[at : at + CHUNK])
        writer.finish()
        assert read_all(store, key, len(data)) == data

    def test_ranges_at_the_seams_of_parts_come_back(self, store: Store) -> None:
        seam, size = self.part_size, 2 * self.part_size + 5
        data = pattern(size)
        key = self.put(store, data)
        for offset, length in ((seam - 1, 1), (seam - 1, 2), (seam, 1), (seam, seam), (2 * seam - 1, 6), (seam, None)):
            stop = None if length is None else offset + length
            assert read_all(store, key, size, offset, length) == data[offset:stop]

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_parts_leave_nothing_when_they_are_discarded(self, store: Store, is_finished: bool) -> None:
        key, size, writer = self.write_parts(store, is_finished=is_finished)
        writer.discard()
        assert_unreadable(store, key, size)
        writer.discard()

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_delete_removes_parts_that_a_dead_server_left(self, store: Store, is_finished: bool) -> None:
        key, size, writer = self.write_parts(store, is_finished=is_finished)
        store.delete(key)
        assert_unreadable(store, key, size)
        if not is_finished:  # it was alive after all
            with pytest.raises(UploadEnded):
                writer.finish()
        writer.discard()


class ListingConformance:
    """The contract of ``ListedStore``, for a store that is one beside ``StoreConformance``."""

    def times(self, store: ListedStore) -> dict[str, datetime]:
        """List the store's keys, each with its latest time."""
        return {blob.key: blob.modified for blob in sorted(store.blobs(), key=lambda blob: blob.modified)}

    @pytest.mark.parametrize("stage", ["written", "finished"])
    @pytest.mark.parametrize("size", [5, LARGE])
    def test_what_lies_there_is_listed_until_it_is_deleted(self, store: ListedStore, stage: str, size: int) -> None:
        """A store that keeps nothing until it is finished need not list it before."""
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, size)
        writer.write(pattern(size))
        if stage == "finished":
            writer.finish()
            assert key in self.times(store)
        listed = self.times(store)
        assert [each for each in listed if not store.is_key(each)] == []
        store.delete(key)
        assert self.times(store).keys() == listed.keys() - {key}
        writer.discard()

    def test_times_are_in_utc(self, store: ListedStore) -> None:
        key = store.new_key(IMAGE_ID)
        writer = store.open_writer(key, 5)
        writer.write(b"bytes")
        writer.finish()
        assert abs(self.times(store)[key] - utcnow()) < timedelta(minutes=5)  # their clocks may differ a little
        store.delete(key)
