"""What a request asks for beside its path: only what changed, only a part, in which version's words.

Source: RFC 9110, sections 12.5.1, 13 and 14; ours for tags without quotation marks. WebOb's own readers of these
headers fail on ``bytes=-``, take several ranges for the first, and ``-0`` for everything.
"""

import re
from dataclasses import dataclass

from pyramid.request import Request

from ..errors import RangeNotSatisfiable
from ..records import Image
from .dialect import GUIDE, WIRE, Dialect

# One range; empty elements of the list count as nothing. Longer numbers are not understood, so that none takes long.
_RANGE = re.compile(r"bytes=[ \t,]*([0-9]{0,40})-([0-9]{0,40})[ \t,]*", re.IGNORECASE)
_TAG = re.compile(r'[ \t]*((?:W/)?"[^"]*"|[^,]+)')  # there may be commas between quotation marks
_VENDOR = "application/vnd.openstack."
_V1 = re.compile(r"application/vnd\.openstack\.images-v1(\.[01])?")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of an image that a Range header asks for: ``length``, at least one, from ``offset`` on."""

    offset: int
    length: int


def is_known(request: Request, image: Image) -> bool:
    """Say whether the client has these bytes already: ``If-None-Match`` names their tag, or any (``*``)."""
    asked = request.environ.get("HTTP_IF_NONE_MATCH")
    if asked is None:
        return False
    if asked.strip() == "*":
        return True
    tags = {f'W/"{image.checksum}"', *_strong_tags(image)} if image.checksum else set()
    return any(tag[1].strip() in tags for tag in _TAG.finditer(asked))


def read_part(request: Request, image: Image) -> Part | None:
    """Return the part of an active image that a GET asks for.

    None for the whole: also for several ranges, for what is no range, for one of other bytes than these (``If-Range``),
    and for an image without bytes. Raises RangeNotSatisfiable.
    """
    asked = request.environ.get("HTTP_RANGE")
    if asked is None or not image.size:
        return None
    found = _RANGE.fullmatch(asked)
    expected = request.environ.get("HTTP_IF_RANGE")  # a time is not ours: no answer has a Last-Modified
    if found is None or not any(found.groups()) or (expected is not None and expected not in _strong_tags(image)):
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
    return Part(start, stop - start)


def _strong_tags(image: Image) -> tuple[str, ...]:
    return (image.checksum, f'"{image.checksum}"') if image.checksum else ()


def read_accept(request: Request) -> Dialect | None:
    """Return the dialect that ``Accept`` asks for: the wire's if it names v1, the guide's if it takes any plain type.

    None if it takes nothing but OpenStack's own types, and none that is here. A type of v1 wins over a plain one that
    is as welcome.
    """
    if _VENDOR not in request.environ.get("HTTP_ACCEPT", "").lower():
        return GUIDE
    wire = plain = other = 0.0
    for media_range, quality, *_ in request.accept.parsed or ():
        name = media_range.partition(";")[0].lower()
        if _V1.fullmatch(name):
            wire = max(wire, quality)
        elif name.startswith(_VENDOR):
            other = max(other, quality)
        else:
            plain = max(plain, quality)
    if wire and wire >= plain:
        return WIRE
    return None if other and not plain else GUIDE
