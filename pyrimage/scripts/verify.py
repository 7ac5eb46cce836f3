"""Comparing the bytes of every active image with what its row says of them: ``pyrimage-manage verify``."""

import hashlib
from collections.abc import Callable, Iterator

from ..catalogue.records import Image
from ..catalogue.sql.catalogue import ActiveImages
from ..errors import BlobDamaged, StoreError, StoreMissing, StoreUnavailable
from ..stores import Stores
from ..stores.transfer import CHUNK
from .progress import Progress

GB = 10**9  # bytes


def report(stores: Stores, images: ActiveImages, *, sizes_only: bool) -> bool:
    """Print a line for each image that is not whole, and how many are; return whether all are."""
    whole = damaged = 0
    progress = _Progress(images, has_bytes=not sizes_only)
    for image, error in verify(stores, images, progress.read, sizes_only=sizes_only):
        if error is None:
            whole += 1
        else:
            damaged += 1
            progress.clear()
            print(f"{image.id} {image.name or ''!a}: {_reason(stores, image, error)}", flush=True)
        progress.count(whole + damaged)
    progress.clear()
    print(f"{whole} images are whole, {damaged} are not.")
    return damaged == 0


def verify(
    stores: Stores, images: ActiveImages, came: Callable[[int], object], *, sizes_only: bool
) -> Iterator[tuple[Image, StoreError | None]]:
    """Compare the bytes of every active image with its row. Changes nothing; safe beside running servers.

    Gives each image, and what is wrong with it. ``came`` is told of bytes that were read, chunk by chunk. Raises
    StoreMissing if the store goes away.
    """
    for image in images:
        try:
            _compare(stores, image, came, sizes_only=sizes_only)
        except StoreMissing:
            raise
        except StoreError as error:
            if images.find(image.id) is not None:  # else it was deleted, and its bytes went with it
                yield image, error
        else:
            yield image, None


def _compare(stores: Stores, image: Image, came: Callable[[int], object], *, sizes_only: bool) -> None:
    """Read the bytes of an image. Raises BlobDamaged, StoreUnavailable."""
    location = image.location
    if location is None:
        if image.size:
            raise BlobDamaged(f"Its row does not say where its {image.size} bytes lie.")
        return
    name, wanted = ("sha256", image.sha256) if image.sha256 else ("md5", image.checksum)
    digest = hashlib.new(name, usedforsecurity=False)
    with stores[location.store].open_reader(location.key, image.size) as reader:  # which compares the size
        try:
            while not sizes_only and (chunk := reader.read(CHUNK)):
                digest.update(chunk)
                came(len(chunk))
        except OSError as error:
            raise StoreUnavailable("The image's bytes cannot be read.") from error
    if not sizes_only and wanted is not None and digest.hexdigest() != wanted:
        raise BlobDamaged(f"The image's bytes were changed: their {name} is {digest.hexdigest()} instead of {wanted}.")


def _reason(stores: Stores, image: Image, error: StoreError) -> str:
    """Say what is wrong with an image, and where its bytes should be."""
    words = [str(error)]
    if isinstance(error.__cause__, OSError) and not isinstance(error, BlobDamaged):
        words.append(f"{error.__cause__.strerror}.")
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
