"""The store in a bucket: each blob is an object whose name is its key."""

import re
from collections.abc import Iterator
from datetime import UTC
from typing import IO, Any, cast
from urllib.parse import quote

from ...errors import BlobDamaged, Invalid, StoreUnavailable
from ..interfaces import StoredBlob
from ..keys import is_key, new_key
from ..resuming import ResumingReader, Stream
from . import S3StoreFactory
from .bucket import BROKEN, Bucket, Refused
from .locations import registered_key
from .writer import S3Writer, abort, uploads_of

_CONTENT_RANGE = re.compile("bytes ([0-9]+)-[0-9]+/([0-9]+)")


class S3Store:
    """Blobs as objects of one bucket, and objects of other buckets at the same service that clients registered.

    part_size: bytes of a part of an upload, 5 MiB or more at most services.
    """

    new_key, is_key = staticmethod(new_key), staticmethod(is_key)

    def __init__(self, name: str, settings: S3StoreFactory, *, part_size: int) -> None:
        self.name = name
        self._bucket, self._part_size = Bucket(name, settings), part_size
        self._public_endpoint = settings.s3_store_public_host

    def check(self) -> None:
        """Look for the bucket; one that the first upload will create may be missing."""
        self._bucket.check()

    def open_writer(self, key: str, size: int | None) -> S3Writer:
        """Begin a new object. Raises LimitExceeded for one that is too long for 10,000 parts."""
        return S3Writer(self._bucket, self._own(key), size, self._part_size, self.delete)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        """Ask for an object, or a part of it, and compare its size with ``size``."""
        stop = size if length is None else offset + length
        blob = _Object(self._bucket, *self._place(key), size, stop)
        return cast(IO[bytes], ResumingReader(blob.open_at, offset, stop, broken=BROKEN, name=f"{self.name} {key}"))

    def delete(self, key: str) -> None:
        """Delete an object, and end every upload of it that is under way."""
        self._own(key)
        for upload_id in uploads_of(self._bucket, key):
            abort(self._bucket, key, upload_id)
        try:
            self._bucket.call("delete_object", Key=key)
        except BlobDamaged:  # not there: most services say nothing then
            pass

    def url(self, key: str) -> str:
        """Return ``s3+https://<host>/<bucket>/<object>``, or ``s3+http``."""
        path = key if key.startswith("/") else f"/{self._bucket.name}/{key}"
        return f"s3+{self._bucket.endpoint}{quote(path)}"

    def blobs(self) -> Iterator[StoredBlob]:
        """List the bucket's objects and the uploads that are under way."""
        lists = ("list_objects_v2", "Contents", "LastModified"), ("list_multipart_uploads", "Uploads", "Initiated")
        for operation, field, modified in lists:
            for page in self._bucket.pages(operation):
                for each in page.get(field, ()):
                    if is_key(each["Key"]):
                        yield StoredBlob(each["Key"], each[modified].astimezone(UTC).replace(tzinfo=None))

    def register(self, url: str) -> str | None:
        """Return ``/<bucket>/<object>`` for a URL at this store's host (S20, S24)."""
        return registered_key(url, self._bucket.endpoint, self._bucket.name)

    def stat(self, key: str) -> int:
        """Ask for the size of a registered object."""
        bucket, name = self._place(key)
        try:
            size: int = self._bucket.ask("head_object", Bucket=bucket, Key=name)["ContentLength"]
        except (BlobDamaged, Refused) as error:
            problem = "is not there, or this service has no right to read it"
            raise Invalid(f"The object {name!a} of the bucket {bucket} {problem}.") from error
        return size

    def temporary_url(self, key: str, seconds: int, disposition: str) -> str | None:
        """Return a presigned URL at the public host."""
        if self._public_endpoint is None:
            return None
        bucket, name = self._place(key)
        shown = {"ResponseContentDisposition": disposition, "ResponseContentType": "application/octet-stream"}
        return self._bucket.presigned(self._public_endpoint, seconds, Bucket=bucket, Key=name, **shown)

    def _own(self, key: str) -> str:
        if not is_key(key):  # no row, however it came about, lets us write or remove anything else
            raise BlobDamaged(f"{key!a} is not a key of an S3 store.")
        return key

    def _place(self, key: str) -> tuple[str, str]:
        """Return the bucket and the name of an object. Raises BlobDamaged."""
        if not key.startswith("/"):
            return self._bucket.name, self._own(key)
        bucket, _, name = key[1:].partition("/")
        if bucket == self._bucket.name or not name:
            raise BlobDamaged(f"{key!a} is not a key of a registered object.")
        return bucket, name


class _Object:
    """An object that is read up to ``stop``; whoever asks again gets the same one, or an error."""

    def __init__(self, place: Bucket, bucket: str, name: str, size: int, stop: int) -> None:
        self._place, self._size, self._stop = place, size, stop
        self._named = {"Bucket": bucket, "Key": name}

    def open_at(self, offset: int) -> Stream:
        """Ask for the bytes from ``offset`` on. Raises BlobDamaged, StoreUnavailable."""
        is_part = (offset, self._stop) != (0, self._size)
        which = {"Range": f"bytes={offset}-{self._stop - 1}"} if is_part else {}
        answer = self._place.call("get_object", **self._named, **which)
        stream: Stream = answer["Body"]
        try:
            self._check(answer, offset if is_part else None)
        except BaseException:
            stream.close()
            raise
        if "ETag" in answer:
            self._named["IfMatch"] = answer["ETag"]
        return stream

    def _check(self, answer: dict[str, Any], offset: int | None) -> None:
        match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if offset is not None and (match is None or int(match[1]) != offset):
            raise StoreUnavailable("The store gives other bytes than those that it was asked for.")
        stored = int(match[2]) if match else answer["ContentLength"]
        if stored != self._size:
            raise BlobDamaged(f"The store holds {stored} bytes of the image's {self._size}.")
