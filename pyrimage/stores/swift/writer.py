"""A blob on its way into a Swift store: one object, or segments and a manifest that makes one blob of them.

::

    <container>/<key>               the blob; of a large one, its manifest
    <container>/<key>/00000001      a segment

Static large objects name size and ETag of every segment, which the cluster compares. Where it does not have them, they
are dynamic: the manifest names the segments' prefix, and what it makes of them is compared here.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from urllib.parse import quote

from ...errors import LimitExceeded, StoreUnavailable, UploadEnded
from ..interfaces import Buffer
from ..parts import PartSender
from .account import PAUSES, Refused
from .container import Container, Limits, unquoted

IN_FLIGHT = 2  # segments of an upload that are sent at the same time

# Bytes that segments may grow to where an image would have too many of them; they are held in memory.
MAX_SEGMENT = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Cut:
    """How a blob is cut. first: bytes that may be one object. segment: of those that follow, before they grow."""

    first: int
    segment: int
    largest: int
    max_segments: int

    def size(self, number: int) -> int:
        """Return the bytes of a segment: more, the more there are before it. Raises LimitExceeded."""
        if number > self.max_segments:
            raise _too_long(sum(map(self.size, range(1, number))))
        if number == 1:
            return self.first
        return min(self.segment << (4 * (number - 1) // self.max_segments), self.largest)


def make_cut(size: int | None, limits: Limits, *, whole: int, segment: int) -> Cut:
    """Return how a blob of ``size`` bytes is cut, None if nobody said. whole: bytes that are kept in one object.

    Raises LimitExceeded where it would have too many segments.
    """
    segment = min(max(segment, limits.min_segment_size), limits.max_file_size)
    largest = min(max(segment, MAX_SEGMENT), limits.max_file_size)
    if size is not None:
        if size > largest * limits.max_segments:
            raise _too_long(largest * limits.max_segments)
        segment = largest = max(segment, -(-size // limits.max_segments))
    first = min(max(whole, segment), limits.max_file_size)
    return Cut(first, segment, largest, limits.max_segments)


def _too_long(most: int) -> LimitExceeded:
    return LimitExceeded(
        f"The Swift store takes at most {most} bytes of an image (pyrimage.swift_store_large_object_chunk_size)."
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    name: str
    etag: str
    size: int


class SwiftWriter:
    """A blob on its way; it is there when its manifest, or its one object, is."""

    def __init__(self, container: Container, key: str, cut: Cut) -> None:
        self._container, self._key = container, key
        self._sender = PartSender(self._send, cut.size, IN_FLIGHT)
        self._names: list[str] = []  # of all that may be there

    def write(self, data: Buffer) -> None:
        """Append bytes, and wait for the segments that are under way."""
        self._sender.write(data)

    def finish(self) -> None:
        """Send what is left, and make one blob of the segments."""
        if self._sender.has_sent:
            segments = self._sender.finish()
            self._names.append(self._key)
            if self._container.limits.is_static:
                self._finish_static(segments)
            else:
                self._finish_dynamic(segments)
        else:
            self._names.append(self._key)
            data = self._sender.take()
            self._container.put(self._key, data, _md5(data))

    def discard(self) -> None:
        """Remove all that was sent. A list may not show yet what was sent just now."""
        self._sender.wait()
        if self._names:
            self._container.delete({*self._names, *segment_names(self._container, self._key)})
            self._names.clear()

    def __repr__(self) -> str:
        return f"<blob {self._key}>"

    def _send(self, number: int, data: bytearray) -> _Segment:
        segment = _Segment(f"{self._key}/{number:08d}", _md5(data), len(data))
        self._names.append(segment.name)
        self._container.put(segment.name, data, segment.etag)
        return segment

    def _finish_static(self, segments: list[_Segment]) -> None:
        listed = [
            {"path": f"/{self._container.name}/{each.name}", "etag": each.etag, "size_bytes": each.size}
            for each in segments
        ]
        # The cluster asks for every segment; meanwhile it answers with blanks, so that it is not given up.
        query = "?multipart-manifest=put&heartbeat=on"
        manifest = json.dumps(listed).encode()
        try:
            body = self._container.put(
                self._key, manifest, _etag(segments), {"Accept": "application/json"}, query=query
            )
        except Refused as error:
            raise self._incomplete(segments, str(error)) from error
        status = json.loads(body)["Response Status"] if body.strip() else "201"
        if not status.startswith("201"):
            raise self._incomplete(segments, status)

    def _finish_dynamic(self, segments: list[_Segment]) -> None:
        prefix = quote(f"{self._container.name}/{self._key}/")
        self._container.put(self._key, b"", _md5(b""), {"X-Object-Manifest": prefix})
        expected = str(sum(each.size for each in segments)), _etag(segments)
        for pause in (*PAUSES, None):  # lists may be late
            found = self._container.head(self._key) or {}
            if (found.get("content-length"), unquoted(found.get("etag", ""))) == expected:
                return
            if pause is not None:
                time.sleep(pause)
        raise self._incomplete(segments, "other bytes")

    def _incomplete(self, segments: list[_Segment], answer: str) -> Exception:
        """Say why the segments make no blob: somebody has deleted them, or the cluster has lost them."""
        if any(self._container.head(each.name) is None for each in segments):
            return UploadEnded("The upload's bytes were removed before it was complete.")
        return StoreUnavailable(f"The Swift store makes no blob of the segments: {answer}.")


def segment_names(container: Container, key: str) -> list[str]:
    """Return the names of a blob's segments."""
    return [each["name"] for each in container.list(f"{key}/")]


def _md5(data: Buffer) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _etag(segments: list[_Segment]) -> str:
    """Return the ETag of a large object: the MD5 of those of its segments, one after the other."""
    return _md5("".join(each.etag for each in segments).encode())
