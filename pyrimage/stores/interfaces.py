"""What a store is: the least that every backend can do without an extra round trip.

Write a new blob in order, read one whose size is known, delete by key. No move, no overwrite, no listing.
"""

from typing import IO, Protocol

Buffer = bytes | bytearray | memoryview


class BlobWriter(Protocol):
    """A new blob on its way; nobody can read it before ``finish``."""

    def write(self, data: Buffer) -> None:
        """Append bytes, which are the caller's again afterwards: what is kept must be copied.

        Raises StoreFull or StoreUnavailable.
        """

    def finish(self) -> None:
        """Make the blob durable, and readable under its key: everything slow, after the last byte and before any SQL.

        Raises StoreFull, StoreUnavailable, and UploadEnded if somebody deleted what was written.
        """

    def discard(self) -> None:
        """Undo whatever was done, finished or not; may be called any number of times.

        Raises StoreUnavailable where that cannot be done now.
        """


class Store(Protocol):
    """A place for blobs. name: the settings and the rows call it so; the kinds' own names show in ``url`` alone."""

    name: str

    def check(self) -> None:
        """Refuse to take another place for the store, or none; every other call that goes there does so by itself.

        Raises StoreMissing, StoreUnavailable.
        """

    def new_key(self, image_id: str) -> str:
        """Make a key that was never used, so that no attempt can touch another one's bytes."""

    def is_key(self, key: str) -> bool:
        """Say whether ``key`` has the form of those that ``new_key`` makes; bytes lie under no other. Asks nobody."""

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        """Begin a new blob. size: bytes to come, None if unknown.

        Raises StoreFull where ``size`` bytes have no room, StoreUnavailable.
        """

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        """Open a blob of which the row says that it has ``size`` bytes: a binary file, for reading in order.

        It begins at ``offset`` and ends ``length`` bytes further on, which the row must promise; None is for all the
        rest. A read raises OSError where the bytes end early. Raises BlobDamaged if that is known at once,
        StoreUnavailable.
        """

    def delete(self, key: str) -> None:
        """Remove a blob, finished or not; one that is not there is already removed. Raises StoreUnavailable."""

    def url(self, key: str) -> str:
        """Return the blob's location for an administrator's eyes; never with credentials."""
