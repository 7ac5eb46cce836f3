"""The API's answers, made of plain values: the session is closed before a body is sent."""

import re
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC
from email.utils import format_datetime
from typing import IO
from urllib.parse import quote

from pyramid.response import FileIter, Response

from ...catalogue.records import DISK_FORMATS, Image, ImageSummary, Status
from ...web.request import Request
from ...web.responses import json_response
from .schemas.conditions import ByteRange
from .schemas.dialect import Dialect, shown_location
from .schemas.image import OCTETS

Metadata = Iterable[tuple[str, str]]  # headers

MAX_FILE_NAME = 255  # bytes of UTF-8: longer ones cannot be saved on most file systems

_ARCHIVES = {"ova": ".ova", "docker": ".tar"}  # containers that are files themselves; in others lies the disk as it is

# In a file's name: what could lead elsewhere or hide it, and what nobody sees, control characters and those that turn
# the direction of writing. Rows that something else wrote may hold halves of characters.
_UNFIT = re.compile(r"^\.+|[/\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Some clients take a backslash for a part of the path, decode what looks percent-encoded, or stop at any quote.
_NOT_PLAIN = re.compile(r'[^ -~]|["\\%]')
_ATTRIBUTE_CHARACTERS = "!#$&+^`|"  # beside those that quote() never encodes


def image_list(url: str, dialect: Dialect, images: Iterable[ImageSummary]) -> Response:
    """Answer a brief list: ``{"images": [...]}``; ``url`` is the collection's."""
    return json_response({"images": [dialect.brief(image, f"{url}/{image.id}") for image in images]})


def detailed_list(request: Request, url: str, dialect: Dialect, images: Iterable[Image]) -> Response:
    """Answer a list with everything that is known, likewise."""
    items = [dialect.detail(image, f"{url}/{image.id}", shown_location(request, image)) for image in images]
    return json_response({"images": items})


def image_json(request: Request, url: str, dialect: Dialect, image: Image, status: int = 200) -> Response:
    """Answer a POST or PUT: the image as headers and as ``{"image": {...}}``."""
    location = shown_location(request, image)
    response = json_response({"image": dialect.detail(image, url, location)}, status)
    response.headers.extend([*dialect.headers(image, url, location), *_etag(image)])
    return response


def image_created(request: Request, url: str, dialect: Dialect, image: Image) -> Response:
    """Answer a POST that made an image: 201, with its address."""
    response = image_json(request, url, dialect, image, status=201)
    response.headers.add("Location", url)
    return response


def image_headers(
    image: Image, metadata: Metadata, byte_range: ByteRange | None = None, body: Iterable[bytes] = ()
) -> Response:
    """Answer a HEAD: what a GET would, without the bytes; their length is told.

    All headers at once: WebOb looks through those that are there for each that is set.
    """
    length = image.size if byte_range is None else byte_range.length
    headers = [("Content-Type", OCTETS), ("Content-Length", str(length)), *metadata, *_validators(image)]
    if image.status == Status.ACTIVE:
        headers += [("Accept-Ranges", "bytes"), ("Content-Disposition", content_disposition(image))]
    return Response(headerlist=headers, app_iter=body)


def image_unchanged(image: Image, metadata: Metadata) -> Response:
    """Answer 304: the client has the bytes. It gets the headers, for these may have changed all the same."""
    return Response(status=304, headerlist=[*metadata, *_validators(image)])


def image_data(
    request: Request, image: Image, metadata: Metadata, data: IO[bytes] | None, byte_range: ByteRange | None
) -> Response:
    """Answer a GET: the image as headers, and its bytes by the server's fastest way.

    data: a file of exactly the bytes to send, None for no bytes. byte_range: where they lie in the image, None for all.
    """
    body = () if data is None else request.environ.get("wsgi.file_wrapper", FileIter)(data)
    response = image_headers(image, metadata, byte_range, body)
    if byte_range is not None:
        response.status = "206 Partial Content"
        last = byte_range.offset + byte_range.length - 1
        response.headers.add("Content-Range", f"bytes {byte_range.offset}-{last}/{image.size}")
    return response


def image_elsewhere(url: str, metadata: Metadata) -> Response:
    """Answer 307: the same request at a URL of the store, which is a secret and good for a while."""
    response = Response(status=307, content_type="text/plain")
    response.headers.extend(metadata)
    response.headers.add("Location", url)
    response.headers.add("Cache-Control", "no-store")
    return response


def moved(request: Request, url: str) -> Response:
    """Answer 302: the same query at another URL of ours. What a URL cannot hold is percent-encoded (S51)."""
    query = quote(request.environ.get("QUERY_STRING", ""), safe="!$%&'()*+,-./:;=?@_~", encoding="latin-1")
    response = Response(status=302, content_type="text/plain")
    response.headers.add("Location", f"{url}?{query}" if query else url)
    return response


def _etag(image: Image) -> Metadata:
    # Bare digits: clients compare them with the checksum's.
    return () if image.checksum is None else (("ETag", image.checksum),)


def _validators(image: Image) -> Metadata:
    """Say since when the bytes are there, and what their digest is. Not of the JSON that answers a POST or PUT."""
    yield from _etag(image)
    yield "Last-Modified", format_datetime(image.modified_at.replace(tzinfo=UTC), usegmt=True)
    if image.sha256 is not None and image.status == Status.ACTIVE:  # else it is announced at most
        yield "Repr-Digest", f"sha-256=:{b64encode(bytes.fromhex(image.sha256)).decode()}:"


def content_disposition(image: Image) -> str:
    """Return the header's value: ``attachment; filename="Ubuntu 24.04.qcow2"``.

    A name that not every client would read as it is comes twice: plainly, with underscores instead, and encoded.
    Source: RFC 6266 and its appendix D; RFC 8187.
    """
    name = file_name(image)
    plain = _NOT_PLAIN.sub("_", name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"
    return f'attachment; filename="{plain}"{encoded}'


def file_name(image: Image) -> str:
    """Return the image's name, or its id, with the ending that tells its format, in at most ``MAX_FILE_NAME`` bytes."""
    name, endings = _UNFIT.sub("_", image.name or image.id), _endings(image)
    length = next((len(ending) for ending in endings if name.lower().endswith(ending)), 0)
    stem, ending = name[: len(name) - length], name[len(name) - length :] or endings[0]
    return stem.encode()[: MAX_FILE_NAME - len(ending.encode())].decode(errors="ignore") + ending


def _endings(image: Image) -> tuple[str, ...]:
    """Return the endings that tell the image's format, the usual one first."""
    if image.container_format in _ARCHIVES:
        return (_ARCHIVES[image.container_format],)
    if image.disk_format == "raw":
        return (".raw", ".img")
    return (f".{image.disk_format}" if image.disk_format in DISK_FORMATS else "",)
