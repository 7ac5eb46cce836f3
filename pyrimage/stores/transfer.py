"""The movement of bytes: from a body into a writer, counted and hashed on the way."""

import hashlib
from collections.abc import Callable
from typing import IO

from ..errors import DataMismatch
from ..records import Blob
from .interfaces import BlobWriter

CHUNK = 256 * 1024  # bytes; the memory one upload needs


def copy(source: IO[bytes], writer: BlobWriter, size: int | None, admit: Callable[[int], None]) -> Blob:
    """Write all of ``source``; ``size`` is how many bytes must come, None if nobody said.

    ``admit`` is told before each chunk is written how many bytes there are with it; what it raises ends the copy.
    Raises DataMismatch at the first byte that is more than ``size``, or at an end that comes too early.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    total = 0
    while data := source.read(CHUNK if size is None else min(CHUNK, size - total + 1)):
        total += len(data)
        if size is not None and total > size:
            raise DataMismatch(f"More than the {size} bytes that were announced came.")
        admit(total)
        md5.update(data)
        sha256.update(data)
        writer.write(data)
    if size is not None and total != size:
        raise DataMismatch(f"{size} bytes were announced, but {total} came.")
    return Blob(total, md5.hexdigest(), sha256.hexdigest())
