"""Comparing the bytes of every active image with what its row says of them: ``pyrimage-manage verify``."""

import hashlib
import sys
from collections.abc import Callable, Iterator

from ..catalogue.interfaces import ActiveImages
from ..catalogue.records import Image
from ..errors import BlobDamaged, PyrimageError, StoreError, StoreMissing, StoreUnavailable
from ..stores import FOREIGN, Stores
from ..stores.transfer import CHUNK
from .progress import Progress

GB = 10**9  # bytes


class StoreAway(StoreUnavailable):
    """An image was not looked at, for its store does not answer; one instance for all images of the store."""


_ELSEWHERE = StoreAway("Images whose bytes lie where no store of this server reads them are left out.")


def report(stores: Stores, images: ActiveImages, *, sizes_only: bool) -> bool:
    """Print a line for each image that is not whole, and how many are; return whether all are."""
    whole = damaged = unread = elsewhere = 0
    told: set[StoreError] = set()  # of stores that are away
    progress = _Progress(images, has_bytes=not sizes_only)
    for image, error in verify(stores, images, progress.read, sizes_only=sizes_only):
        if error is None:
            whole += 1
        elif isinstance(error, StoreAway):
            unread += 1
            elsewhere += error is _ELSEWHERE  # nobody expects to read them
            if error not in told:
                told.add(error)
                progress.clear()
                print(error, file=sys.stderr, flush=True)
        else:
            damaged += 1
            progress.clear()
            print(f"{image.id} {image.name or ''!a}: {explain(stores, image, error)}", flush=True)
        progress.count(whole + damaged + unread)
    progress.clear()
    print(f"{whole} images are whole, {damaged} are not.")
    if unread:
        print(f"{unread} images were not looked at.")
    return damaged == unread - elsewhere == 0


def verify(
    stores: Stores, images: ActiveImages, came: Callable[[int], object], *, sizes_only: bool
) -> Iterator[tuple[Image, StoreError | None]]:
    """Compare the bytes of every active image with its row. Changes nothing; safe beside running servers.

    Gives each image, and what is wrong with it. A store that is away is not asked again: its images are given with one
    StoreAway. ``came`` is told of bytes that were read, chunk by chunk. Raises StoreMissing if a directory goes away.
    """
    away = {FOREIGN: _ELSEWHERE}
    for image in images:
        name = image.location.store if image.location else ""
        if name in away:
            yield image, away[name]
            continue
        try:
            _compare(stores, image, came, sizes_only=sizes_only)
        except StoreMissing:
            raise
        except StoreError as error:
            if images.find(image.id) is None:  # it was deleted, and its bytes went with it
                continue
            if isinstance(error, StoreUnavailable) and (reason := _why_away(stores, name)):
                away[name] = reason
            yield image, away.get(name, error)
        else:
            yield image, None


def _why_away(stores: Stores, name: str) -> StoreAway | None:
    """Ask a store whether it is there at all. One that the settings do not name is told image by image."""
    try:
        if name in stores:
            stores[name].check()
    except StoreMissing:
        raise
    except StoreUnavailable as error:
        return StoreAway(f"The store {name} is away, its images are left out. {error}")
    return None


def _compare(stores: Stores, image: Image, came: Callable[[int], object], *, sizes_only: bool) -> None:
    """Compare an image's bytes with its size, and if it has one with its digest: what was registered may have none.

    Raises BlobDamaged, StoreUnavailable, OriginFailed.
    """
    location = image.location
    if location is None:
        if image.size:
            raise BlobDamaged(f"Its row does not say where its {image.size} bytes lie.")
        return
    name, wanted = ("sha256", image.sha256) if image.sha256 else ("md5", image.checksum)
    with stores[location.store].open_reader(location.key, image.size) as reader:  # which compares the size
        if sizes_only or wanted is None:
            return
        digest = hashlib.new(name, usedforsecurity=False)
        try:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                came(len(chunk))
        except OSError as error:
            raise StoreUnavailable("The image's bytes cannot be read.") from error
    if digest.hexdigest() != wanted:
        raise BlobDamaged(f"The image's bytes were changed: their {name} is {digest.hexdigest()} instead of {wanted}.")


def explain(stores: Stores, image: Image, error: PyrimageError) -> str:
    """Say what is wrong with an image, and where its bytes should be."""
    words = [str(error)]
    if isinstance(error.__cause__, OSError) and not isinstance(error, BlobDamaged):
        words.append(f"{error.__cause__.strerror or type(error.__cause__).__name__}.")  # those of networks may say none
    if image.location is not None and image.location.store in stores:
        words.append(stores[image.location.store].url(image.location.key))
    return " ".join(words)


class _Progress(Progress):
    """How many of the images were looked at, and how many of their bytes."""

    def __init__(self, images: ActiveImages, *, has_bytes: bool) -> None:
        super().__init__()
        self._has_bytes = has_bytes
        self._images, self._size = images.total() if self.is_shown else (0, 0)
        self._done = self._came = 0

    def read(self, size: int) -> None:
        """Count bytes."""
        self._came += size
        self.show(self._text)

    def count(self, done: int) -> None:
        """Count images."""
        self._done = done
        self.show(self._text)

    def _text(self) -> str:
        size = f", {self._came / GB:.1f} of {self._size / GB:.1f} GB" if self._has_bytes else ""
        return f"{self._done} of {self._images} images{size}"
