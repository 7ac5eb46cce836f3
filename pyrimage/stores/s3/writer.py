"""An upload to S3: in one request what is no longer than a part, else in parts, a few of them at the same time.

What the service says that it holds is compared with what was sent: the ETag of an object, or of a part, is its md5, and
that of several parts the md5 of theirs, unless the service encrypts with keys of its own (KMS). In that case the
``Content-MD5`` that goes with each body must do: a service refuses bytes that do not match it.
"""

import base64
import hashlib
import logging
import math
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ...errors import BlobDamaged, LimitExceeded, PyrimageError, StoreUnavailable, UploadEnded
from ..interfaces import Buffer
from ..parts import PartSender
from .bucket import Bucket

log = logging.getLogger(__name__)

MOST_PARTS = 10_000
LARGEST_PART = 128 * 2**20
LARGEST = MOST_PARTS * LARGEST_PART  # bytes of an image
IN_FLIGHT = 3  # parts of an upload
GROWTH = 500  # parts after which they double, where nobody said how many bytes come: 10,000 have 1 TiB

_MEBIBYTE = 2**20
_MD5 = re.compile('"?([0-9a-f]{32}(?:-[0-9]+)?)"?')


class S3Writer:
    """A blob on its way to its object, which is there when it is whole, and not before.

    size: bytes to come, None if unknown. part_size: bytes of a part, unless there would be too many. remove: deletes
    the object, and whatever uploads of it are under way.
    """

    def __init__(
        self, bucket: Bucket, key: str, size: int | None, part_size: int, remove: Callable[[str], None]
    ) -> None:
        """Ask nobody yet. Raises LimitExceeded."""
        self._bucket, self._key, self._remove = bucket, key, remove
        self._written = 0
        self._parts = PartSender(self._send, partial(size_of_part, size=size, usual=part_size), IN_FLIGHT)
        self._upload: dict[str, Any] | None = None  # the answer that began it
        self._lock = threading.Lock()  # of _upload
        self._is_begun = False  # something may be there
        self._is_parted = size is not None and size > size_of_part(1, size, part_size)

    def write(self, data: Buffer) -> None:
        """Append bytes. Raises LimitExceeded beyond what 10,000 parts can have."""
        if self._is_parted and self._upload is None:
            self._upload_id()  # before most of the bytes have come, if that is known to be needed
        self._parts.write(data)
        self._written += len(data)

    def finish(self) -> None:
        """Send what is left, and let the service make the object of the parts."""
        if self._parts.has_sent:
            self._complete(self._parts.finish())
        else:
            self._put(self._parts.take())

    def discard(self) -> None:
        """Remove the parts, or the object."""
        self._parts.wait()
        if self._is_begun:
            if self._upload is not None:
                self._abort(self._upload["UploadId"])  # a list may not have it yet
            self._remove(self._key)
            self._is_begun = False

    def __repr__(self) -> str:
        return f"<blob {self._key}>"

    def _upload_id(self) -> str:
        with self._lock:
            if self._upload is None:
                self._is_begun = True
                self._upload = self._bucket.begin("create_multipart_upload", Key=self._key)
            upload_id: str = self._upload["UploadId"]
            return upload_id

    def _send(self, number: int, part: bytearray) -> tuple[str, bytes]:
        """Send a part; return its ETag and its md5."""
        digest, of_upload = _md5(part), {"UploadId": self._upload_id(), "PartNumber": number}
        answer = self._bucket.call("upload_part", Key=self._key, Body=part, ContentMD5=_base64(digest), **of_upload)
        _compare(answer, digest.hex())
        return answer["ETag"], digest

    def _put(self, data: bytearray) -> None:
        digest, self._is_begun = _md5(data), True
        answer = self._bucket.begin("put_object", Key=self._key, Body=data, ContentMD5=_base64(digest))
        _compare(answer, digest.hex())

    def _complete(self, sent: list[tuple[str, bytes]]) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, (etag, _) in enumerate(sent, 1)]
        expected = f"{_md5(b''.join(digest for _, digest in sent)).hex()}-{len(sent)}"
        try:
            of_upload = {"UploadId": self._upload_id(), "MultipartUpload": {"Parts": parts}}
            answer = self._bucket.call("complete_multipart_upload", Key=self._key, **of_upload)
        except (StoreUnavailable, UploadEnded) as error:
            answer = self._ask_for_object(error)
        _compare(answer, expected)
        self._end_twins()

    def _ask_for_object(self, error: PyrimageError) -> dict[str, Any]:
        """Return what the service says of the object, for only the answer may have been lost; else raise ``error``."""
        try:
            answer = self._bucket.ask("head_object", Key=self._key)
        except (StoreUnavailable, BlobDamaged):
            raise error from error.__cause__
        if answer["ContentLength"] != self._written:
            raise error
        log.info("%s: the answer to the end of an upload was lost, but the object is there", self._key)
        return answer

    def _end_twins(self) -> None:
        """Remove uploads that boto3 began by asking again, when an answer was lost."""
        if self._upload is not None and self._upload["ResponseMetadata"].get("RetryAttempts"):
            for upload_id in uploads_of(self._bucket, self._key):
                self._abort(upload_id)

    def _abort(self, upload_id: str) -> None:
        abort(self._bucket, self._key, upload_id)


def size_of_part(number: int, size: int | None, usual: int) -> int:
    """Return the bytes of a part of an image that has ``size``, None if nobody knows. Raises LimitExceeded.

    usual: what parts have, unless there would be too many of them.
    """
    if number > MOST_PARTS or (size is not None and size > LARGEST):
        raise LimitExceeded(f"The store takes images of up to {LARGEST} bytes, or 1 TiB if their size is not told.")
    if size is None:
        return min(LARGEST_PART, usual << (number - 1) // GROWTH)
    least = math.ceil(size / MOST_PARTS)
    return usual if least <= usual else math.ceil(least / _MEBIBYTE) * _MEBIBYTE


def uploads_of(bucket: Bucket, key: str) -> list[str]:
    """Return the ids of the multipart uploads to a key that are under way. Raises StoreUnavailable."""
    pages = bucket.pages("list_multipart_uploads", Prefix=key)
    uploads = [upload for page in pages for upload in page.get("Uploads", ())]
    return [upload["UploadId"] for upload in uploads if upload["Key"] == key]


def abort(bucket: Bucket, key: str, upload_id: str) -> None:
    """End a multipart upload and remove its parts; one that is not there has ended. Raises StoreUnavailable."""
    try:
        bucket.call("abort_multipart_upload", Key=key, UploadId=upload_id)
    except (UploadEnded, BlobDamaged):
        pass


def _md5(data: Buffer) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _compare(answer: dict[str, Any], expected: str) -> None:
    """Compare the ETag of an answer with what it must be, if it is one of those that tell. Raises StoreUnavailable."""
    etag = _MD5.fullmatch(answer.get("ETag", ""))
    is_encrypted = answer.get("ServerSideEncryption", "").startswith("aws:kms") or "SSECustomerAlgorithm" in answer
    if etag and etag[1] != expected and not is_encrypted:
        raise StoreUnavailable("The store says that it holds other bytes than those that were sent.")
