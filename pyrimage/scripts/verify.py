"""Comparing the bytes of every active image with what its row says of them: ``pyrimage-manage verify``."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator

from ..catalogue.records import Image
from ..catalogue.sql.catalogue import ActiveImages
from ..errors import BlobDamaged, StoreError, StoreMissing, StoreUnavailable
from ..stores import Stores
from ..stores.transfer import CHUNK

SHOWN_SECONDS = 0.2
GB = 10**9  # bytes
CLEAR_LINE = "\r\x1b[K"


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
        progress.show(whole + damaged)
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


class _Progress:
    """How far a long run has come, in a line of its own; for a terminal only."""

    def __init__(self, images: ActiveImages, *, has_bytes: bool) -> None:
        self._is_shown, self._has_bytes = sys.stderr.isatty(), has_bytes
        self._images, self._size = images.total() if self._is_shown else (0, 0)
        self._done = self._came = 0
        self._next = 0.0  # when the line is written again

    def read(self, size: int) -> None:
        """Count bytes."""
        self._came += size
        self.show(self._done)

    def show(self, done: int) -> None:
        """Count images; write the line, a few times in a second."""
        self._done = done
        if not self._is_shown or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SHOWN_SECONDS
        size = f", {self._came / GB:.1f} of {self._size / GB:.1f} GB" if self._has_bytes else ""
        print(f"{CLEAR_LINE}{done} of {self._images} images{size}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a line of output."""
        if self._is_shown:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
            self._next = 0.0
