"""The two spellings of one API: how a record goes out as headers and as JSON, and what a request must bring.

The guide's, under ``/images``, and the wire's, under ``/v1``, which Glance's clients parse.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyramid.request import Request

from ..records import Image
from .fields import CONTROL

_NAME = re.compile("[a-z0-9_-]+")
_HYPHENS = {
    name: name.replace("_", "-") for name in ("disk_format", "container_format", "is_public", "min_disk", "min_ram")
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One spelling.

    hyphens: in names of headers, for the fields the guide prints so. time_separator: between date and time.
    as_glance: JSON has the fields of Glance's v1 and no other, for who copies images sends each back as a header.
    no_time: a ``deleted_at`` that is not there, in JSON. name_required: of new images. content_type_required: of data.
    precision: how exactly times are told, as ``isoformat`` calls it.
    """

    hyphens: bool
    as_glance: bool
    time_separator: str
    no_time: str | None
    name_required: bool
    content_type_required: bool
    precision: str = "seconds"

    def brief(self, image: Image, uri: str) -> dict[str, Any]:
        """Return the JSON of the brief list: ``{"id": "...", "uri": "http://...", "name": "f17", "size": 5, ...}``."""
        return {
            "id": image.id,
            "uri": uri,
            "name": image.name,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "size": image.size,
            "checksum": image.checksum,
        }

    def detail(self, image: Image, uri: str, location: str | None) -> dict[str, Any]:
        """Return the full JSON of an image; ``location`` is None for callers who may not see it.

        Glance does not know the rest (sha256, last_error), or would fetch the bytes from there (location).
        """
        detail = {
            **self.brief(image, uri),
            "status": image.status,
            "is_public": image.is_public,
            "protected": image.protected,
            "deleted": image.deleted,
            "owner": image.owner,
            "min_disk": image.min_disk,
            "min_ram": image.min_ram,
            "created_at": self.time(image.created_at),
            "updated_at": self.time(image.updated_at),
            "deleted_at": self.time(image.deleted_at),
            "properties": dict(image.properties),
        }
        if self.as_glance:
            return {**detail, "virtual_size": None}
        detail |= {"sha256": image.sha256, "last_error": image.last_error}
        if location is not None:
            detail["location"] = location
        return detail

    def time(self, moment: datetime | None) -> str | None:
        """Return a moment as text."""
        return self.no_time if moment is None else moment.isoformat(self.time_separator, self.precision)

    def headers(self, image: Image, uri: str, location: str | None) -> Iterator[tuple[str, str]]:
        """Give the image as response headers, values as WSGI wants them: UTF-8 bytes read as latin-1.

        A name or value that could break the header block is left out: it can only come from a row that something
        else wrote.
        """
        fields = {**self.detail(image, uri, location), "sha256": image.sha256, "location": location}
        for name, value in fields.items():
            if value is not None and name not in ("properties", "last_error"):
                spelling = _HYPHENS.get(name, name) if self.hyphens else name
                yield from _header(f"x-image-meta-{spelling}", value)
        for key, value in image.properties.items():
            yield from _header(f"x-image-meta-property-{key}", value)


def shown_location(request: Request, image: Image) -> str | None:
    """Return the URL where the data lies; None for callers who may not see it, and where there is none."""
    if image.location is None or not request.identity.is_admin:
        return None
    store = request.stores.get(image.location.store)  # what is known shows also where the store is not configured
    return None if store is None else str(store.url(image.location.key))


def _header(name: str, value: Any) -> Iterator[tuple[str, str]]:
    text = str(value)
    if _NAME.fullmatch(name) and not CONTROL.search(text):
        yield name, text if text.isascii() else text.encode().decode("latin-1")


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

# The registry's, of which a client makes the record again.
RECORD = Dialect(
    hyphens=False,
    as_glance=False,
    time_separator="T",
    no_time=None,
    name_required=False,
    content_type_required=False,
    precision="microseconds",
)
