"""Blobs that no row knows: those of a database that was lost, or that a store kept against its word.

Uploads and deletions leave none, whatever becomes of their server: ``scrub`` finds what they left without a list.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..catalogue.interfaces import Claims
from ..catalogue.records import utcnow
from ..errors import StoreError
from ..stores.interfaces import ListedStore, StoredBlob

ORPHAN_AGE = timedelta(days=1)  # for clocks that differ, of stores and of whoever restores a database
BATCH = 500  # keys of one question to the catalogue


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a store: how many blobs that rows know, how many others are too young to judge, and the orphans."""

    known: int
    young: int
    orphans: Sequence[StoredBlob]

    @property
    def is_foreign(self) -> bool:
        """Whether most of it is unknown: then it may be another installation's, or the database an old copy."""
        return len(self.orphans) + self.young > self.known


def scan(store: ListedStore, claims: Claims, age: timedelta, came: Callable[[int], object]) -> Scan:
    """List a store, then ask for the rows of what lies there; changes nothing. Orphans are ``age`` old at least.

    came: is told how many blobs were listed so far. All keys of a store are held in memory, some 200 bytes each.

    Raises StoreUnavailable, DatabaseError.
    """
    modified: dict[str, datetime] = {}
    for blob in store.blobs():
        modified[blob.key] = max(blob.modified, modified.get(blob.key, blob.modified))
        came(len(modified))
    blobs = [StoredBlob(key, modified[key]) for key in sorted(modified) if store.is_key(key)]
    unknown = [blob for batch in _batches(blobs) for blob in _without_row(batch, claims)]
    latest = utcnow() - age
    orphans = [blob for blob in unknown if blob.modified <= latest]
    return Scan(len(blobs) - len(unknown), len(unknown) - len(orphans), orphans)


def remove(
    store: ListedStore, claims: Claims, orphans: Sequence[StoredBlob]
) -> Iterator[tuple[StoredBlob, StoreError | None]]:
    """Remove orphans, unless a row names them by now; give each, with the error of a store that did not let us."""
    for batch in _batches(orphans):
        for blob in _without_row(batch, claims):
            try:
                store.delete(blob.key)
            except StoreError as error:
                yield blob, error
            else:
                yield blob, None


def _batches(blobs: Sequence[StoredBlob]) -> Iterator[Sequence[StoredBlob]]:
    return (blobs[start : start + BATCH] for start in range(0, len(blobs), BATCH))


def _without_row(blobs: Sequence[StoredBlob], claims: Claims) -> Sequence[StoredBlob]:
    known = claims.known([blob.key for blob in blobs])
    return [blob for blob in blobs if blob.key not in known]
