"""What a request asks for beside its path: only what changed, only a part.

Source: RFC 9110, sections 13 and 14; ours for tags without quotation marks. WebOb's own readers of these
headers fail on ``bytes=-``, take several ranges for the first, and ``-0`` for everything.
"""

import contextlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from pyramid.request import Request

from ....catalogue.records import Image, Status
from ....errors import PreconditionFailed, RangeNotSatisfiable

# One range; empty elements of the list count as nothing. Longer numbers are not understood, so that none takes long.
_RANGE = re.compile(r"bytes=[ \t,]*([0-9]{0,40})-([0-9]{0,40})[ \t,]*", re.IGNORECASE)
_TAG = re.compile(r'[ \t]*((?:W/)?"[^"]*"|[^,]+)')  # there may be commas between quotation marks
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_DATE_LENGTH = 40  # more than any of them has

# Headers of a request that make a condition, as the WSGI environ names them.
CONDITIONS = frozenset(
    f"HTTP_IF_{name}" for name in ("MATCH", "NONE_MATCH", "MODIFIED_SINCE", "UNMODIFIED_SINCE", "RANGE")
)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes of an image that a Range header asks for: ``length``, at least one, from ``offset`` on."""

    offset: int
    length: int


def last_modified(image: Image) -> datetime:
    """Return the time of the bytes as HTTP has it, in whole seconds of UTC."""
    return image.modified_at.replace(microsecond=0, tzinfo=UTC)


def check_preconditions(request: Request, image: Image) -> None:
    """Refuse what the client asks to be done to other bytes than these. Raises PreconditionFailed.

    For each method: ``If-Match`` or else ``If-Unmodified-Since``, and for those that write ``If-None-Match`` too;
    of those that read that is ``is_known``. An image without data has no bytes that could match.
    """
    environ = request.environ
    expected, since = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_UNMODIFIED_SINCE")
    if expected is not None:
        if not _is_named(expected, image, _strong_tags(image)):
            raise PreconditionFailed(f"If-Match: image {image.id} does not have these bytes.")
    elif since is not None and (found := _read_date(since)) and last_modified(image) > found:
        raise PreconditionFailed(f"If-Unmodified-Since: image {image.id} is of a later time.")
    unwanted = None if environ["REQUEST_METHOD"] in ("GET", "HEAD") else environ.get("HTTP_IF_NONE_MATCH")
    if unwanted is not None and _is_named(unwanted, image, _weak_tags(image)):
        raise PreconditionFailed(f"If-None-Match: image {image.id} has these bytes.")


def is_known(request: Request, image: Image) -> bool:
    """Say whether the client has these bytes already.

    ``If-None-Match`` names their tag, or any (``*``); or else ``If-Modified-Since`` a time since they are there.
    """
    asked, since = (request.environ.get(f"HTTP_IF_{name}") for name in ("NONE_MATCH", "MODIFIED_SINCE"))
    if asked is not None:
        return _is_named(asked, image, _weak_tags(image))
    if since is None or image.status != Status.ACTIVE:
        return False
    found = _read_date(since)
    return found is not None and last_modified(image) <= found


def read_range(request: Request, image: Image) -> ByteRange | None:
    """Return the part of an active image that a GET asks for.

    None for the whole: also for several ranges, for what is no range, for one of other bytes than these (``If-Range``),
    and for an image without bytes. Raises RangeNotSatisfiable.
    """
    asked = request.environ.get("HTTP_RANGE")
    if asked is None or not image.size:
        return None
    found = _RANGE.fullmatch(asked)
    expected = request.environ.get("HTTP_IF_RANGE")
    if found is None or not any(found.groups()) or (expected is not None and not _is_same(expected, image)):
        return None
    first, last = found.groups()
    if not first:
        start, stop = image.size - min(int(last), image.size), image.size
    elif last and int(last) < int(first):
        return None
    else:
        start, stop = int(first), min(int(last) + 1, image.size) if last else image.size
    if start >= stop:
        raise RangeNotSatisfiable(f"Range: the image ends after {image.size} bytes; ask for some of these.", image.size)
    return ByteRange(start, stop - start)


def _is_same(expected: str, image: Image) -> bool:
    """Compare strongly, as parts of one whole must be. Our times are strong too: the bytes came once, at that time."""
    return expected in _strong_tags(image) or _read_date(expected) == last_modified(image)


def _is_named(asked: str, image: Image, tags: Collection[str]) -> bool:
    if image.status != Status.ACTIVE:
        return False
    return asked.strip() == "*" or any(tag[1].strip() in tags for tag in _TAG.finditer(asked))


def _strong_tags(image: Image) -> tuple[str, ...]:
    return (image.checksum, f'"{image.checksum}"') if image.checksum else ()


def _weak_tags(image: Image) -> tuple[str, ...]:
    return (f'W/"{image.checksum}"', *_strong_tags(image)) if image.checksum else ()


def _read_date(text: str) -> datetime | None:
    """Read a time of HTTP in any of its three forms; None for anything else, which counts as not sent."""
    for form in _DATES if len(text) <= _DATE_LENGTH else ():
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    return None
