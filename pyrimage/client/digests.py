"""md5 and sha256 of bytes on their way, computed while the next ones come or go."""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from .errors import HashMismatch
from .records import Image

BEHIND = 16  # pieces that may wait to be hashed


class Digests:
    """Computes them in a thread of its own: hashing is slower than a good network. md5: or sha256 alone."""

    def __init__(self, *, md5: bool = True) -> None:
        self.size = 0
        self._hashes = [hashlib.sha256(), *([hashlib.md5(usedforsecurity=False)] if md5 else [])]
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

    def finish(self) -> dict[str, str]:
        """Return the digests of all bytes so far, in hexadecimal, by their names."""
        while self._waiting:
            self._waiting.popleft().result()
        return {each.name: each.hexdigest() for each in self._hashes}

    def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def check(self, image: Image, what: str) -> None:
        """Compare with what the service tells of an image. Raises HashMismatch; ``what`` is for its message."""
        told = {"md5": image.checksum, "sha256": image.sha256}
        for name, found in self.finish().items():
            expected = told[name]
            if expected is not None and expected.lower() != found:
                raise HashMismatch(f"{what}: the {name} of image {image.id} is {expected}, not {found}.", image.id)
