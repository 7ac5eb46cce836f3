"""The store in OpenStack Swift."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import IO, cast
from urllib.parse import quote, unquote, urlsplit

from swiftclient.utils import generate_temp_url

from ...errors import BlobDamaged, Invalid
from ..interfaces import StoredBlob
from ..keys import is_key, new_key
from ..resuming import ResumingReader
from .account import BROKEN, Account, Refused, Stream
from .container import Container
from .login import KeyLogin, Login
from .places import Places
from .settings import MB, SwiftSettings
from .writer import SwiftWriter, make_cut, segment_names

# The name of a file in Content-Disposition, of which Swift makes a header of its own.
_ENCODED_NAME, _PLAIN_NAME = re.compile("filename\\*=UTF-8''([^;]+)"), re.compile('filename="([^"]*)"')


class SwiftStore:
    """Blobs in one container, with their segments; and registered ones in other containers of the same account."""

    def __init__(self, name: str, container: Container, settings: SwiftSettings) -> None:
        self.name = name
        self.container = container
        self._places = Places(settings.swift_store_auth_address, container.name)
        self._whole = settings.swift_store_large_object_size * MB
        self._segment = settings.swift_store_large_object_chunk_size * MB
        self._temp_url_key = settings.swift_store_temp_url_key

    def check(self) -> None:
        """Log in, and look whether the container is there."""
        self.container.check()

    def new_key(self, image_id: str) -> str:
        """Make ``<image id>.<16 hex digits>``."""
        return new_key(image_id)

    def is_key(self, key: str) -> bool:
        """Say whether ``key`` is an image id, a dot and 16 hex digits."""
        return is_key(key)

    def open_writer(self, key: str, size: int | None) -> SwiftWriter:
        """Begin a new blob; nothing is sent before a segment is full. Raises LimitExceeded, StoreUnavailable."""
        self._check_key(key)
        cut = make_cut(size, self.container.limits, whole=self._whole, segment=self._segment)
        return SwiftWriter(self.container, key, cut)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        """Open a blob, or what was registered, and compare its size with ``size``."""
        stop = size if length is None else offset + length
        if not key.startswith("/"):
            self._check_key(key)
        blob = _Blob(self.container, key, size, stop)
        return cast(IO[bytes], ResumingReader(blob.open_at, offset, stop, broken=BROKEN, name=f"{self.name} {key}"))

    def delete(self, key: str) -> None:
        """Remove a blob, first what makes it one, then its segments."""
        self._check_key(key)
        self.container.delete([key])
        self.container.delete(segment_names(self.container, key))

    def url(self, key: str) -> str:
        """Return ``swift+https://<auth address>/<container>/<key>``."""
        return self._places.url(key)

    def blobs(self) -> Iterator[StoredBlob]:
        """List blobs, and their segments under the same key."""
        for each in self.container.list():
            key = each["name"].partition("/")[0]
            if is_key(key):
                yield StoredBlob(key, datetime.fromisoformat(each["last_modified"]))

    def register(self, url: str) -> str | None:
        """Return ``/<container>/<object>`` for a URL at this store's address."""
        return self._places.register(url)

    def stat(self, key: str) -> int:
        """Ask how many bytes lie under a registered key."""
        try:
            found = self.container.head(key)
        except Refused as error:
            if error.status != 403:
                raise
            found = None
        if found is None or "content-length" not in found:
            raise Invalid("There is no such object in Swift, or it is not for this service to read.")
        if leads_to(self.container.name, found):
            raise Invalid("That object in Swift leads into the store's own container.")
        return int(found["content-length"])

    def temporary_url(self, key: str, seconds: int, disposition: str) -> str | None:
        """Return a signed URL for GET at the account's public address; None without swift_store_temp_url_key."""
        if self._temp_url_key is None:
            return None
        account = urlsplit(self.container.account.public_url())
        path = account.path + (key if key.startswith("/") else f"/{self.container.name}/{key}")
        signed = generate_temp_url(path, seconds, self._temp_url_key, "GET", digest="sha256")
        encoded, plain = (pattern.search(disposition) for pattern in (_ENCODED_NAME, _PLAIN_NAME))
        name = unquote(encoded[1]) if encoded else plain[1] if plain else "image"
        query = f"{signed.removeprefix(path)}&filename={quote(name, safe='')}"
        return f"{account.scheme}://{account.netloc}{quote(path)}{query}"

    def _check_key(self, key: str) -> None:
        if not is_key(key):  # no row, however it came about, leads out of the container
            raise BlobDamaged(f"{key!a} is not a key of the Swift store.")


class _Blob:
    """A blob that is read up to ``stop``, and must have ``size`` bytes."""

    def __init__(self, container: Container, path: str, size: int, stop: int) -> None:
        self._container, self._path, self._size, self._stop = container, path, size, stop
        self._etag: str | None = None  # of what was opened first

    def open_at(self, offset: int) -> Stream:
        """Open what is left. Raises BlobDamaged, StoreError."""
        is_whole = offset == 0 and self._stop == self._size
        headers = {} if is_whole else {"Range": f"bytes={offset}-{self._stop - 1}"}
        if self._etag is not None:
            headers["If-Match"] = self._etag
        try:
            found, stream = self._container.open(self._path, headers)
        except Refused as error:
            raise self._damage(error) from error
        try:
            self._check(found, is_whole=is_whole)
        except BlobDamaged:
            stream.close()
            raise
        self._etag = found.get("etag")
        return stream

    def _check(self, found: Mapping[str, str], *, is_whole: bool) -> None:
        # bytes 5-9/10, or the length alone of what is whole
        stored = found.get("content-length") if is_whole else found.get("content-range", "").rpartition("/")[2]
        if stored != str(self._size):
            raise BlobDamaged(f"The store holds {stored or 'another number of'} bytes of the image's {self._size}.")
        if self._path.startswith("/") and leads_to(self._container.name, found):
            raise BlobDamaged("What was registered leads into the store's own container.")

    def _damage(self, error: Refused) -> Exception:
        if error.status == 404:
            return BlobDamaged("The image's bytes are missing from the store.")
        if error.status in (409, 412, 416):  # a segment, the same bytes, bytes so far behind
            return BlobDamaged("The store does not hold the image's bytes any more.")
        return error


def leads_to(container: str, found: Mapping[str, str]) -> bool:
    """Say whether an object is a link into ``container``, or takes its bytes from there.

    Swift follows symlinks and dynamic manifests with the rights of whoever reads, which are ours: anybody who may
    write to another container of the account could make one that shows images of others.
    """
    link = unquote(urlsplit(found.get("content-location", "")).path).split("/")[3:4]  # /v1/<account>/<container>/...
    manifest = unquote(found.get("x-object-manifest", "")).lstrip("/").partition("/")[0]
    return container in (*link, manifest)


def make_store(name: str, settings: SwiftSettings) -> SwiftStore:
    """Make the store of these settings. Raises ImportError without what Keystone needs."""
    log_in: Callable[[SwiftSettings], Login] = KeyLogin
    if settings.is_keystone:
        from .keystone import KeystoneLogin  # noqa: PLC0415 - what it needs comes with an extra

        log_in = KeystoneLogin

    def connect() -> Account:
        return Account(name, log_in(settings), settings.swift_store_cacert, is_snet=settings.swift_enable_snet)

    is_made = settings.swift_store_create_container_on_put
    return SwiftStore(name, Container(name, settings.swift_store_container, connect, is_made=is_made), settings)
