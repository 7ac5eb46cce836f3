"""Reading an export into an installation: ``pyrimage-manage import``."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from transaction import TransactionManager

from ..catalogue.interfaces import Catalogue, Writes
from ..catalogue.records import ADMINISTRATOR, DIGESTS, IMAGE_FIELDS, Blob, Claim, Image, Location, Status
from ..errors import BlobDamaged, DatabaseError, Invalid, PyrimageError, StoreUnavailable
from ..settings import Settings
from ..stores import Store, Stores
from ..stores.transfer import copy
from ..uploads.claims import LiveClaims
from ..uploads.data_manager import Upload
from .counted import Came, Counted
from .directory import Export
from .lines import Entry, id_in, parse_entry

BATCH = 100  # images without bytes to copy, of one transaction
_BATCH_BYTES = 2**20  # of their lines, which bound the memory


class Outcome(Enum):
    """What became of an image."""

    ADDED = "added"
    EQUAL = "equal"  # it was there already
    DIFFERENT = "different"  # another one was, or it was changed; that is left as it is
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One line of an export. name: the image's id, or the line's number where it has none. copied: bytes."""

    name: str
    outcome: Outcome
    reason: str = ""
    copied: int = 0


def unlimited(settings: Settings) -> Settings:
    """Return the settings without limits on images: what the old installation allowed is not refused by the new one."""
    return dataclasses.replace(
        settings,
        image_property_quota=None,
        image_property_bytes=None,
        image_member_quota=None,
        user_image_quota=None,
        user_storage_quota=None,
    )


def load(
    catalogue: Catalogue, claims: LiveClaims, export: Export, store: str, came: Came, *, adopts: bool
) -> Iterator[Loaded]:
    """Add every image of an export that is not there; give what became of each. May be repeated.

    store: takes the bytes. adopts: copy none, and let the rows name them where they are: in stores of the old name and
    place, and the new database's own from then on. came: is told of bytes that were copied, chunk by chunk.

    Raises StoreUnavailable, ExportUnusable, DatabaseError; what was given stays added.
    """
    loader = _Loader(catalogue, claims, export, store, came, adopts=adopts)
    batch: list[Entry] = []
    size = 0
    for number, line in export.lines():
        try:
            entry = _parse(line)
        except Invalid as error:
            yield Loaded((line and id_in(line)) or f"line {number}", Outcome.FAILED, str(error))
            continue
        if entry.blob is not None and not adopts:
            yield loader.load(entry)
            continue
        batch.append(entry)
        size += len(line or b"")
        if len(batch) == BATCH or size > _BATCH_BYTES:
            yield from loader.load_batch(batch)
            batch, size = [], 0
    yield from loader.load_batch(batch)


def _parse(line: bytes | None) -> Entry:
    if line is None:
        raise Invalid("The line is too long.")
    return parse_entry(line)


class _Loader:
    def __init__(
        self, catalogue: Catalogue, claims: LiveClaims, export: Export, store: str, came: Came, *, adopts: bool
    ) -> None:
        self._catalogue, self._claims, self._export = catalogue, claims, export
        self._store, self._came, self._adopts = claims.stores.writable(store), came, adopts

    @property
    def _stores(self) -> Stores:
        return self._claims.stores

    def load_batch(self, entries: Sequence[Entry]) -> Iterator[Loaded]:
        """Add images whose bytes are not copied, in one transaction; if one of them is there or fails, each alone."""
        try:
            self._add_located(entries)
        except (DatabaseError, StoreUnavailable):
            raise
        except PyrimageError:
            yield from map(self.load, entries)
        else:
            yield from (Loaded(entry.image.id, Outcome.ADDED) for entry in entries)

    def load(self, entry: Entry) -> Loaded:
        """Add one image, unless it is there."""
        name = entry.image.id
        if (found := self._look(entry)) is not None:
            return found
        try:
            if entry.blob is not None and not self._adopts:
                return Loaded(name, Outcome.ADDED, copied=self._add_with_bytes(entry, entry.blob))
            self._add_located([entry])
        except (DatabaseError, StoreUnavailable):
            raise
        except PyrimageError as error:
            return Loaded(name, Outcome.FAILED, str(error))
        return Loaded(name, Outcome.ADDED)

    def _look(self, entry: Entry) -> Loaded | None:
        """Compare an image with that of its id which is there, if any."""
        image = entry.image
        found = self._catalogue.find(image.id, ADMINISTRATOR)
        if found is None:
            return None
        differing = [name for name in (*IMAGE_FIELDS, "properties") if getattr(found, name) != getattr(image, name)]
        if not image.deleted and self._members(image.id) != entry.members:
            differing.append("members")
        if not self._is_place(entry, found.location):
            differing.append("location")
        if differing:
            return Loaded(image.id, Outcome.DIFFERENT, f"It is there, and differs: {', '.join(differing)}.")
        return Loaded(image.id, Outcome.EQUAL)

    def _members(self, image_id: str) -> Mapping[str, bool]:
        return {each.member: each.can_share for each in self._catalogue.members_of(image_id, ADMINISTRATOR)}

    def _is_place(self, entry: Entry, location: Location | None) -> bool:
        """Say whether an image's bytes are where an import puts them."""
        if entry.url is not None:
            store = None if location is None or location.owned else self._stores.get(location.store)
            return location is not None and store is not None and store.url(location.key) == entry.url
        if self._adopts or entry.image.location is None or not entry.image.location.owned:
            return location == entry.image.location
        return location is not None and location.owned

    def _add_located(self, entries: Sequence[Entry]) -> None:
        """Add images whose bytes are elsewhere, or adopted where they are, or that have none."""
        places = [entry.image.location for entry in entries]
        keys = [place.key for place in places if place is not None and place.owned]
        if len(set(keys)) < len(keys) or self._claims.rows.known(keys):
            raise Invalid("location: the bytes are those of another image.")
        blobs = [self._located(entry) for entry in entries]
        with _transaction() as manager:
            writes = self._catalogue.writes(manager, ADMINISTRATOR)
            for entry, blob in zip(entries, blobs, strict=True):
                _add(writes, entry, blob)

    def _located(self, entry: Entry) -> Blob | None:
        """Return the blob of an image's bytes where they are; None without bytes. Raises Invalid, BlobDamaged."""
        image, location = entry.image, entry.image.location
        if entry.url is not None:
            location = self._stores.locate(entry.url)
        elif location is not None and location.owned:
            if not self._adopts:
                raise Invalid("Its bytes are not in the export; make it with --data, or see --adopt.")
            store = self._stores.get(location.store)
            if not isinstance(store, Store):
                raise Invalid(f"Its bytes are in the store {location.store}, which is none here that takes uploads.")
            if not store.is_key(location.key):
                raise Invalid(f"location: {location.key!a} is not a key of the store {location.store}.")
            store.open_reader(location.key, image.size).close()  # which compares the size
        return None if location is None else Blob(image.size, image.checksum, image.sha256, location)

    def _add_with_bytes(self, entry: Entry, sha256: str) -> int:
        """Copy an image's bytes into the store, as an upload is taken, and add it; return how many there were.

        Raises BlobDamaged, ExportUnusable, Conflict, LimitExceeded, StoreError.
        """
        image, store = entry.image, self._store
        with self._export.open_blob(sha256) as file:
            if (size := os.fstat(file.fileno()).st_size) != image.size:
                raise BlobDamaged(f"The export holds {size} bytes of the image's {image.size}.")
            claim = Claim(image.id, store.name, store.new_key(image.id), image.owner, image.size)
            with self._uploading(claim) as (manager, upload):
                writer = upload.writer = store.open_writer(claim.key, image.size)
                unreadable = BlobDamaged("The image's bytes in the export cannot be read.")
                blob = copy(Counted(file, self._came, unreadable), writer, image.size)
                _compare(blob, image, sha256)
                writer.finish()
                located = dataclasses.replace(blob, location=Location(store.name, claim.key), claim=claim.key)
                _add(self._catalogue.writes(manager, ADMINISTRATOR), entry, located)
        return blob.size

    @contextmanager
    def _uploading(self, claim: Claim) -> Iterator[tuple[TransactionManager, Upload]]:
        """Claim an image, whose bytes and row come in the block; neither stays if it fails."""
        self._claims.begin(claim, ADMINISTRATOR, is_new=True)
        with contextlib.ExitStack() as over, _transaction() as manager:
            upload = Upload(manager, self._claims, claim)
            over.callback(upload.end, "The import failed.")  # when the transaction holds no lock any more
            yield manager, upload


def _compare(blob: Blob, image: Image, sha256: str) -> None:
    for name, told in (("sha256", sha256), *((name, getattr(image, name)) for name in DIGESTS)):
        found = getattr(blob, name)
        if told not in (None, found):
            raise BlobDamaged(f"The image's bytes in the export were changed: their {name} is {found}, not {told}.")


def _add(writes: Writes, entry: Entry, blob: Blob | None) -> None:
    """Write the rows of an image as it was, with its members; a deleted one can be given some only before."""
    image = entry.image
    alive = image
    if image.deleted and entry.members:
        earlier = image.updated_at - timedelta(microseconds=1)
        alive = dataclasses.replace(image, status=Status.QUEUED, deleted=False, deleted_at=None, updated_at=earlier)
    writes.add(alive, blob)
    if entry.members:
        writes.replace_members(image.id, entry.members, ADMINISTRATOR)
    if alive is not image:
        writes.change(alive, image, None, purge=False)


@contextmanager
def _transaction() -> Iterator[TransactionManager]:
    """Commit what the block does, or keep nothing of it."""
    manager = TransactionManager(explicit=True)
    manager.begin()
    try:
        yield manager
        manager.commit()
    except BaseException:
        manager.abort()
        raise
