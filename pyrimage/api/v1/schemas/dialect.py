"""The two spellings of one API: how a record goes out as headers and as JSON, and what a request must bring.

The guide's, under ``/images``, and the wire's, under ``/v1``, which Glance's clients parse. What is shown where, the
description of the fields says. Source: docs/v1.md, "Two spellings"; RFC 9110, section 12.5.1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from pyramid.request import Request

from ....catalogue.records import IMAGE_FIELDS, SUMMARY_FIELDS, Image, ImageSummary, Shown, Time
from ....stores import FOREIGN
from ....web.fields import CONTROL, shown_fields

_PROPERTY_KEY = re.compile("[a-z0-9_-]+")
_VENDOR = "application/vnd.openstack."
_V1 = re.compile(r"application/vnd\.openstack\.images-v1(\.[01])?")


_BRIEF = tuple(name for name in SUMMARY_FIELDS if name != "id")
_DETAIL = shown_fields(Shown.DETAIL)
_EXTRA = shown_fields(Shown.EXTRA, Shown.JSON)
_HEADERS = shown_fields(Shown.DETAIL, Shown.EXTRA)
_VALUES = {names: attrgetter(*names) for names in (_BRIEF, _DETAIL, _EXTRA, _HEADERS)}
_TIMES = frozenset(name for name, field in IMAGE_FIELDS.items() if isinstance(field.kind, Time))
_TIMES_OF_DETAIL = tuple(name for name in _DETAIL if name in _TIMES)


def _header_names(hyphens: bool) -> tuple[tuple[str, bool], ...]:
    """Spell the headers of ``_HEADERS``, and say which are times."""
    hyphened = {name for name, field in IMAGE_FIELDS.items() if field.hyphens} if hyphens else set()
    names = ("id", "uri", *_HEADERS, "location")
    return tuple(
        (f"x-image-meta-{name.replace('_', '-') if name in hyphened else name}", name in _TIMES) for name in names
    )


_HEADER_NAMES = {hyphens: _header_names(hyphens) for hyphens in (True, False)}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One spelling.

    hyphens: in names of headers, for the fields the guide prints so. time_separator: between date and time.
    as_glance: JSON has the fields of Glance's v1 and no other, for who copies images sends each back as a header.
    no_time: a ``deleted_at`` that is not there, in JSON. name_required: of new images. content_type_required: of data.
    """

    hyphens: bool
    as_glance: bool
    time_separator: str
    no_time: str | None
    name_required: bool
    content_type_required: bool

    def brief(self, image: ImageSummary, uri: str) -> dict[str, Any]:
        """Return the JSON of the brief list: ``{"id": "...", "uri": "http://...", "name": "f17", "size": 5, ...}``."""
        brief: dict[str, Any] = {"id": image.id, "uri": uri}
        brief.update(zip(_BRIEF, _VALUES[_BRIEF](image), strict=True))
        return brief

    def detail(self, image: Image, uri: str, location: str | None) -> dict[str, Any]:
        """Return the full JSON of an image; ``location`` is None for callers who may not see it.

        Glance does not know the rest (sha256, last_error), or would fetch the bytes from there (location).
        """
        detail: dict[str, Any] = {"id": image.id, "uri": uri}
        detail.update(zip(_DETAIL, _VALUES[_DETAIL](image), strict=True))
        for name in _TIMES_OF_DETAIL:
            detail[name] = self.time(detail[name])
        detail["properties"] = dict(image.properties)
        if self.as_glance:
            detail["virtual_size"] = None
            return detail
        for name, value in zip(_EXTRA, _VALUES[_EXTRA](image), strict=True):
            detail[name] = self.time(value) if name in _TIMES else value
        if location is not None:
            detail["location"] = location
        return detail

    def time(self, time: datetime | None) -> str | None:
        """Return a time as text."""
        return self.no_time if time is None else time.isoformat(self.time_separator, "seconds")

    def headers(self, image: Image, uri: str, location: str | None) -> Iterator[tuple[str, str]]:
        """Give the image as response headers, values as WSGI wants them: UTF-8 bytes read as latin-1.

        A name or value that could break the header block is left out: it can only come from a row that something
        else wrote.
        """
        values = (image.id, uri, *_VALUES[_HEADERS](image), location)
        for (name, is_time), value in zip(_HEADER_NAMES[self.hyphens], values, strict=True):
            shown = self.time(value) if is_time else value
            if shown is not None and not CONTROL.search(text := str(shown)):
                yield name, text if text.isascii() else text.encode().decode("latin-1")
        for key, text in image.properties.items():
            if _PROPERTY_KEY.fullmatch(key) and not CONTROL.search(text):
                yield f"x-image-meta-property-{key}", text if text.isascii() else text.encode().decode("latin-1")


def shown_location(request: Request, image: Image) -> str | None:
    """Return the URL where the data lies; None for callers who may not see it, and where there is none."""
    location = image.location
    if location is None or not request.identity.is_admin:
        return None
    if location.store == FOREIGN:
        return location.key
    store = request.stores.get(location.store)  # what is known shows also where the store is not configured
    return None if store is None else str(store.url(location.key))


GUIDE = Dialect(
    hyphens=True,
    as_glance=False,
    time_separator=" ",
    no_time="",
    name_required=True,
    content_type_required=False,
)
WIRE = Dialect(
    hyphens=False,
    as_glance=True,
    time_separator="T",
    no_time=None,
    name_required=False,
    content_type_required=True,
)


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
