"""Writing an export: ``pyrimage-manage export``."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..catalogue.interfaces import Catalogue
from ..catalogue.queries import ListQuery
from ..catalogue.records import ADMINISTRATOR, DIGESTS, Image, Location, Status
from ..errors import BlobDamaged, Invalid, PyrimageError, StoreError, StoreUnavailable
from ..stores import FOREIGN, Stores
from ..stores.transfer import copy
from .counted import Came, Counted
from .directory import NewExport
from .lines import Entry, render_entry

PAGE = 1000  # ids that are held in memory
_EVER = datetime.fromisoformat("1000-01-01")  # before the oldest image; the first day that MariaDB knows
_UNREADABLE = "The image's bytes cannot be read."


@dataclass(frozen=True, slots=True)
class Saved:
    """One image, whose line is written unless ``error`` is Invalid.

    written: bytes that came into the export with it, None where there are none, or they were there already. error: why
    its bytes, or its line, are missing.
    """

    image: Image
    written: int | None = None
    error: PyrimageError | None = None


def save(catalogue: Catalogue, stores: Stores, export: NewExport, came: Came, *, with_data: bool) -> Iterator[Saved]:
    """Write every image into an export, deleted ones too, and with their own bytes if wanted; give each.

    Changes nothing; safe beside running servers, which may change an image as soon as it was read. No connection to the
    database is held meanwhile. came: is told of bytes that were copied, chunk by chunk.

    Raises StoreUnavailable where a whole store is away, ExportUnusable, DatabaseError; then nothing is published.
    """
    saver = _Saver(catalogue, stores, export, came, with_data=with_data)
    for image in all_images(catalogue):
        yield saver.save(image)
    export.publish()


def all_images(catalogue: Catalogue) -> Iterator[Image]:
    """Give all images there are, of whatever status, in the order of their ids; each as it is when its turn comes."""
    query = ListQuery(limit=PAGE, sort_key="id", descending=False, default_scope=False, changes_since=_EVER)
    # In brief: to join each page of ids with its locations, PostgreSQL would sort all of them, until it has statistics.
    while page := catalogue.brief_page(query, ADMINISTRATOR):
        for summary in page:
            if (image := catalogue.find(summary.id, ADMINISTRATOR)) is not None:
                yield image
        query = dataclasses.replace(query, marker=page[-1].id)


class _Saver:
    def __init__(self, catalogue: Catalogue, stores: Stores, export: NewExport, came: Came, *, with_data: bool) -> None:
        self._catalogue, self._stores, self._export = catalogue, stores, export
        self._came, self._with_data = came, with_data

    def save(self, image: Image) -> Saved:
        """Write an image: its bytes, then its line."""
        saved, entry = Saved(image), Entry(image=_without_registered(image))
        try:
            saved, entry = self._save_bytes(image, entry)
        except StoreError as error:
            now = self._catalogue.find(image.id, ADMINISTRATOR)
            if now is not None and now.deleted:  # just now; its bytes went with it
                saved, entry = Saved(now), Entry(image=now)
            else:
                self._check_store(image)
                saved = Saved(image, error=error)
        members = {each.member: each.can_share for each in self._catalogue.members_of(image.id, ADMINISTRATOR)}
        try:
            self._export.add(render_entry(dataclasses.replace(entry, members=members)))
        except Invalid as error:
            return Saved(image, error=error)
        return saved

    def _save_bytes(self, image: Image, entry: Entry) -> tuple[Saved, Entry]:
        """Copy bytes that are ours, if wanted; note the URL of others."""
        location = image.location
        if location is None:
            if image.status == Status.ACTIVE and image.size:
                raise BlobDamaged(f"Its row does not say where its {image.size} bytes lie.")
        elif location.store == FOREIGN:
            pass  # nobody here has ever read them
        elif not location.owned:
            entry = dataclasses.replace(entry, url=self._stores[location.store].url(location.key))
        elif self._with_data:
            sha256, written = self._copy(image, location)
            return Saved(image, written), dataclasses.replace(entry, blob=sha256)
        return Saved(image), entry

    def _check_store(self, image: Image) -> None:
        """Ask a store that failed whether it is there at all. Raises StoreUnavailable if not."""
        if image.location is not None and image.location.store in self._stores:
            self._stores[image.location.store].check()

    def _copy(self, image: Image, location: Location) -> tuple[str, int | None]:
        """Copy an image's bytes, unless they are there; return their sha256, and how many were copied.

        Raises BlobDamaged if they are not what the row says, StoreError, ExportUnusable.
        """
        if image.sha256 is not None and self._export.has_blob(image.sha256, image.size):
            return image.sha256, None
        file = self._export.open_blob()
        try:
            with self._stores[location.store].open_reader(location.key, image.size) as reader:
                blob = copy(Counted(reader, self._came, StoreUnavailable(_UNREADABLE)), file, image.size)
            for name in DIGESTS:
                told, found = getattr(image, name), getattr(blob, name)
                if told not in (None, found):
                    raise BlobDamaged(f"The image's bytes were changed: their {name} is {found} instead of {told}.")
            file.finish()
            sha256 = str(blob.sha256)
            self._export.keep(file, sha256)
        finally:
            file.discard()
        return sha256, blob.size


def _without_registered(image: Image) -> Image:
    is_kept = image.location is None or image.location.owned or image.location.store == FOREIGN
    return image if is_kept else dataclasses.replace(image, location=None)
