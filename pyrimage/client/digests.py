"""md5 and sha256 of bytes on their way, computed while the next ones come or go."""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from .errors import HashMismatch
from .records import Image

BEHIND = 16  # pieces that may wait to be hashed


class Digests:
    """Computes both in a thread of its own: hashing is slower than a good network."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._worker = ThreadPoolExecutor(1, "pyrimage-digests")
        self._waiting: deque[Future[None]] = deque()

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        self._waiting.append(self._worker.submit(self._hash, piece))
        if len(self._waiting) > BEHIND:
            self._waiting.popleft().result()

    def _hash(self, piece: bytes) -> None:
        for each in self._hashes:
            each.update(piece)

    def finish(self) -> tuple[str, str]:
        """Return md5 and sha256 of all bytes so far, in hexadecimal."""
        while self._waiting:
            self._waiting.popleft().result()
        md5, sha256 = (each.hexdigest() for each in self._hashes)
        return md5, sha256

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def check(self, image: Image, what: str) -> None:
        """Compare with what the service tells of an image. Raises HashMismatch; ``what`` is for its message."""
        md5, sha256 = self.finish()
        for name, expected, found in (("md5", image.checksum, md5), ("sha256", image.sha256, sha256)):
            if expected is not None and expected.lower() != found:
                raise HashMismatch(f"{what}: the {name} of image {image.id} is {expected}, not {found}.", image.id)
