"""Blobs on web servers, where clients have registered them: they are read there, and never written.

A key is the URL itself. That its bytes stay the same is the word of who registered it: what can be seen of a change,
another size or, within one download, another ETag or time, ends the download with an error.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, cast

from pyramid.config import Configurator

from ..addresses import check_source
from ..errors import Invalid, OriginFailed
from ..opener import Answer, Opener
from ..settings import Settings
from .directory import Identify
from .interfaces import ReadableStore
from .resuming import ResumingReader
from .transfer import CHUNK

SKIPPED = 64 * 2**20  # bytes that are read and thrown away, at most, where an origin gives no parts

_WEB = re.compile("https?:", re.IGNORECASE)
_PART = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
_LENGTH = re.compile("[0-9]{1,19}")
_GIVEN = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class HttpStore:
    """What clients have registered on web servers; ``opener`` knows which of them may be asked."""

    def __init__(self, name: str, opener: Opener) -> None:
        self.name, self._opener = name, opener

    def check(self) -> None:
        """Do nothing: there is no one place to look at."""

    def url(self, key: str) -> str:
        """Return the key, which is a URL."""
        return key

    def register(self, url: str) -> str | None:
        """Take what is on a web server that may be asked."""
        if not _WEB.match(url):
            return None
        check_source(url, self._opener.allowed)
        return url

    def stat(self, key: str) -> int:
        """Ask with HEAD; where that tells nothing, ask for the first byte."""
        answer = self._opener.open("HEAD", key)
        answer.close()
        size = _extent(answer)[1] if answer.status == HTTPStatus.OK else None
        if size is None:
            answer = self._opener.open("GET", key, {"Range": "bytes=0-0"})
            answer.close()
            if answer.status in _GONE:
                raise Invalid(f"{answer.host} has nothing at the URL: it answers {answer.status}.")
            if answer.status not in _GIVEN:
                raise _refused(answer)
            size = _extent(answer)[1]
        if size is None:
            raise Invalid(f"{answer.host} does not tell how many bytes there are; x-image-meta-size may tell it.")
        return size

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        """Open what lies at a URL, or a part of it. Raises OriginFailed, OriginTooSlow."""
        stop = size if length is None else offset + length
        blob = _Blob(self._opener, key, size, stop)
        reader = ResumingReader(blob.open_at, offset, stop, broken=(), name=f"an image of the store {self.name}")
        return cast(IO[bytes], reader)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStoreFactory:
    """A store on web servers has no settings but the service's ``allowed_hosts``."""

    def make(self, name: str, settings: Settings, identify: Identify) -> ReadableStore:
        """Make the store."""
        return HttpStore(name, Opener(settings.allowed_hosts))


def includeme(config: Configurator) -> None:
    """Make the kind known."""
    config.add_image_store("http", HttpStoreFactory)


class _Blob:
    """The bytes at a URL, ``size`` in all, up to ``stop``. Whenever it is opened it must be what it was at first."""

    def __init__(self, opener: Opener, url: str, size: int, stop: int) -> None:
        self._opener, self._url, self._size, self._stop = opener, url, size, stop
        self._version: str | None = None

    def open_at(self, offset: int) -> "_Stream":
        """Ask for what lies from an offset on. Raises OriginFailed, OriginTooSlow."""
        is_whole = offset == 0 and self._stop == self._size
        headers = {} if is_whole else {"Range": f"bytes={offset}-{self._stop - 1}"}
        try:
            answer = self._opener.open("GET", self._url, headers)
        except Invalid as error:  # it led elsewhere when it was registered
            raise OriginFailed(str(error)) from error
        try:
            return self._stream(answer, offset)
        except OriginFailed:
            answer.close()
            raise

    def _stream(self, answer: Answer, offset: int) -> "_Stream":
        if answer.status not in _GIVEN:
            raise _refused(answer)
        if _is_encoded(answer):
            raise OriginFailed(f"{answer.host} does not send the bytes as they are, but encoded.")
        begin, size = _extent(answer)
        if size not in (self._size, None):
            raise OriginFailed(f"{answer.host} has {size} bytes now; the image has {self._size}.")
        if begin not in (0, offset) or offset - begin > SKIPPED:
            raise OriginFailed(f"{answer.host} does not send the part that was asked for.")
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if self._version not in (None, version):
            raise OriginFailed(f"{answer.host} has other bytes than when the download began.")
        self._version = version
        return _Stream(answer, offset - begin, self._size - begin if size is None else None)


class _Stream:
    """The body of an answer, but for ``skip`` bytes. left: that is how many there must be, and nothing told so."""

    def __init__(self, answer: Answer, skip: int, left: int | None) -> None:
        self._answer, self._skip, self._left = answer, skip, left

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes."""
        while self._skip and (skipped := self._read(min(self._skip, CHUNK))):
            self._skip -= len(skipped)
        return self._read(size)

    def close(self) -> None:
        """Give the connection up."""
        self._answer.close()

    def _read(self, size: int) -> bytes:
        data = self._answer.read(size)
        if self._left is not None:
            self._left -= len(data)
            if not self._left and self._answer.read(1):  # else the image would end before its bytes do
                raise OriginFailed(f"{self._answer.host} has more bytes than the image.")
        return data


def _is_encoded(answer: Answer) -> bool:
    return answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity"


def _extent(answer: Answer) -> tuple[int, int | None]:
    """Return where the body begins, and how many bytes there are in all; -1 or None where nothing tells it."""
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
        return (int(part[1]), int(part[2])) if part else (-1, None)
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if _LENGTH.fullmatch(length) and not _is_encoded(answer) else None


def _refused(answer: Answer) -> OriginFailed:
    return OriginFailed(f"{answer.host} answers {answer.status}.")
