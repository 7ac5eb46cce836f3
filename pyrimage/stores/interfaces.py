"""What a store is: the least that every backend can do without an extra round trip.

Write a new blob in order, read one whose size is known, delete by key. No move, no overwrite. What only some stores can
do stands in protocols of its own, below ``Store``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


class BlobWriter(Protocol):
    """A new blob on its way; nobody can read it before ``finish``."""

    def write(self, data: Buffer) -> None:
        """Append bytes, which are the caller's again afterwards: what is kept must be copied.

        Raises LimitExceeded for more than the store can take, StoreFull or StoreUnavailable.
        """

    def finish(self) -> None:
        """Make the blob durable, and readable under its key: everything slow, after the last byte and before any SQL.

        Raises StoreFull, StoreUnavailable, and UploadEnded if somebody deleted what was written.
        """

    def discard(self) -> None:
        """Undo whatever was done, finished or not; may be called any number of times.

        Raises StoreUnavailable where that cannot be done now.
        """


class ReadableStore(Protocol):
    """A place from which blobs are read. name: settings and rows call it so; what its kind says shows in ``url``."""

    name: str

    def check(self) -> None:
        """Refuse to take another place for the store, or none; every other call that goes there does so by itself.

        Raises StoreMissing, StoreUnavailable.
        """

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        """Open a blob of which the row says that it has ``size`` bytes: a binary file, for reading in order.

        It begins at ``offset`` and ends ``length`` bytes further on, which the row must promise; None is for all the
        rest. A read may wait for the network; it raises OSError where the bytes end early. Raises BlobDamaged if that
        is known at once, StoreUnavailable.
        """

    def url(self, key: str) -> str:
        """Return the blob's location for an administrator's eyes; never with credentials."""


@runtime_checkable
class Store(ReadableStore, Protocol):
    """A place for blobs, which takes uploads."""

    def new_key(self, image_id: str) -> str:
        """Make a key that was never used, so that no attempt can touch another one's bytes."""

    def is_key(self, key: str) -> bool:
        """Say whether ``key`` has the form of those that ``new_key`` makes; bytes lie under no other. Asks nobody."""

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        """Begin a new blob. size: bytes to come, None if unknown.

        Raises LimitExceeded where the store can never take ``size`` bytes, StoreFull where they have no room,
        StoreUnavailable.
        """

    def delete(self, key: str) -> None:
        """Remove a blob, finished or not; one that is not there is already removed. Raises StoreUnavailable."""


@runtime_checkable
class LocationStore(Protocol):
    """A store of which clients may register what somebody else has put there."""

    def register(self, url: str) -> str | None:
        """Return the key under which what lies at a client's URL can be read; None unless the URL is of this store.

        Such a key is none of ``is_key``. Asks nobody. Raises Invalid for what may not be registered: a place among the
        store's own blobs, a URL with credentials, or one that is malformed.
        """

    def stat(self, key: str) -> int:
        """Ask how many bytes lie under a registered key. Raises Invalid where there are none, StoreError."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What lies in a store under a key, finished or not. modified: UTC, without zone."""

    key: str
    modified: datetime


@runtime_checkable
class ListedStore(Store, Protocol):
    """One that can list what it holds, to find bytes that no row knows."""

    def blobs(self) -> Iterator[StoredBlob]:
        """List every key under which something lies, unfinished uploads too, in any order; a key may come twice.

        What does not have the form of a key is somebody else's, and left out. Raises StoreUnavailable.
        """


@runtime_checkable
class RedirectingStore(Protocol):
    """A store from which clients can read by themselves, with a URL that is good for a while."""

    def temporary_url(self, key: str, seconds: int, disposition: str) -> str | None:
        """Return a URL from which anybody can read a blob for so long; None where the settings name no such place.

        disposition: the ``Content-Disposition`` of what is read there.
        """
