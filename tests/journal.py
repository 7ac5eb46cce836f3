"""What clients tried, and what they were told."""

import math
import random
import threading
from collections import Counter
from collections.abc import Container
from typing import NamedTuple

from factories import md5

MIB = 1 << 20
POOL = 16 * MIB  # bytes, of which every image is a part


class Data(NamedTuple):
    """What an image's bytes are: a part of the journal's pool."""

    offset: int
    size: int
    md5: str


class Journal:
    """What clients tried, and what they were told.

    kept: no image is deleted while there are no more than these. sent: before the first byte was sent. reserved,
    uploaded, deleted: what was acknowledged. noted: the last number that was acknowledged to a client for an image, and
    invited the members. replaced: images whose members may have been replaced. away: statuses of a proxy whose servers
    are away, which leave open what became of a request. cut: by kind of call, the requests whose answer did not come
    whole. wrong: answers that should not have been given, in words.
    """

    def __init__(
        self, seed: str, *, smallest: int = 1, largest: int = 4 * MIB, kept: int = 20, away: Container[int] = ()
    ) -> None:
        self.seed, self.kept, self.away = seed, kept, away
        self.pool = memoryview(random.Random(seed).randbytes(POOL))
        self.smallest, self.largest = smallest, largest
        self.sent: dict[str, Data] = {}
        self.reserved: set[str] = set()
        self.uploaded: set[str] = set()
        self.delete_tried: set[str] = set()
        self.deleted: set[str] = set()
        self.noted: dict[tuple[str, int], int] = {}
        self.invited: list[tuple[str, str]] = []
        self.replaced: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._notes: Counter[tuple[str, int]] = Counter()
        self._living: list[str] = []  # uploaded, and nobody tried to delete them
        self._lock = threading.Lock()

    def send(self, image_id: str, chance: random.Random) -> memoryview:
        """Choose an image's bytes; small ones are as likely as large ones."""
        size = int(math.exp(chance.uniform(math.log(self.smallest), math.log(self.largest))))
        offset = chance.randrange(POOL - size)
        self.sent[image_id] = Data(offset, size, md5(bytes(self.pool[offset : offset + size])))
        return self.bytes_of(image_id)

    def bytes_of(self, image_id: str) -> memoryview:
        """Return what was sent."""
        offset, size, _ = self.sent[image_id]
        return self.pool[offset : offset + size]

    def acknowledge(self, image_id: str) -> None:
        """Note that an upload was answered with success."""
        with self._lock:
            self.uploaded.add(image_id)
            self._living.append(image_id)

    def choose(self, chance: random.Random, *, least: int = 1, to_delete: bool = False) -> str | None:
        """Choose an image that should be there; None if there are fewer than ``least``."""
        with self._lock:
            if len(self._living) < least:
                return None
            index = chance.randrange(len(self._living))
            self._living[index], self._living[-1] = self._living[-1], self._living[index]
            if not to_delete:
                return self._living[-1]
            self.delete_tried.add(self._living[-1])
            return self._living.pop()

    def next_note(self, image_id: str, client: int) -> int:
        """Return the number that a client writes into an image next; higher ones than the acknowledged may be there."""
        with self._lock:
            self._notes[image_id, client] += 1
            return self._notes[image_id, client]

    def count(self, kind: str) -> None:
        """Count an answer that came whole."""
        with self._lock:
            self.calls[kind] += 1

    def count_cut(self, kind: str) -> None:
        """Count a request without a whole answer."""
        with self._lock:
            self.cut[kind] += 1

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.calls.most_common())
        return (
            f"{len(self.uploaded)} uploads and {len(self.deleted)} deletes acknowledged, cut: {dict(self.cut)}; "
            f"{self.calls.total()} calls: {kinds}"
        )
