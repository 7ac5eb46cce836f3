"""The movement of bytes: from a body into a writer, counted and hashed on the way."""

import hashlib
from typing import IO

from ..errors import DataMismatch
from ..records import Blob
from .interfaces import BlobWriter

CHUNK = 256 * 1024  # bytes; the memory one upload needs


def copy(source: IO[bytes], writer: BlobWriter, size: int | None) -> Blob:
    """Write all of ``source``; ``size`` is how many bytes must come, None if nobody said.

    Raises DataMismatch as soon as more come than that, or at an end that comes too early.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    total = 0
    while data := source.read(CHUNK):
        total += len(data)
        if size is not None and total > size:
            raise DataMismatch(f"More than the {size} bytes that were announced came.")
        md5.update(data)
        sha256.update(data)
        writer.write(data)
    if size is not None and total != size:
        raise DataMismatch(f"{size} bytes were announced, but {total} came.")
    return Blob(total, md5.hexdigest(), sha256.hexdigest())
