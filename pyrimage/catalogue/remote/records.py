"""Records as the registry's JSON, and back."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from ..queries import ListQuery
from ..records import (
    IMAGE_FIELDS,
    SUMMARY_FIELDS,
    Blob,
    Image,
    ImageSummary,
    Location,
    SetBy,
    Time,
    Token,
    json_value,
)

Json = dict[str, Any]

_TIMES = frozenset(name for name, field in IMAGE_FIELDS.items() if isinstance(field.kind, Time))
# What a server alone says of an image, and is believed: the rest of the server's fields is the registry's own to set.
_TOLD = frozenset({"status", "activated_at"})
_SENT = tuple(name for name, field in IMAGE_FIELDS.items() if field.set_by is not SetBy.SERVER or name in _TOLD)
_TOKEN_TIMES = ("created_at", "expires_at", "last_used_at")


def image_of(shown: Json) -> Image:
    """Make the record of an image's JSON."""
    values = {name: shown[name] for name in IMAGE_FIELDS}
    for name in _TIMES:
        values[name] = _time(values[name])
    places = [Location(each["store"], each["key"], each["owned"]) for each in shown["location_data"]]
    return Image(**values, properties=shown["properties"], location=places[0] if places else None)


def summary_of(shown: Json) -> ImageSummary:
    """Make the summary of what a brief list shows."""
    return ImageSummary(**{name: shown[name] for name in SUMMARY_FIELDS})


def fields_of(image: Image) -> Json:
    """Return the JSON of a new image."""
    return {**{name: json_value(getattr(image, name)) for name in _SENT}, "properties": dict(image.properties)}


def changes_of(old: Image, new: Image, *, purge: bool) -> Json:
    """Return the JSON of what differs between two records of an image; and what ``new`` is told to be in any case."""
    fields = {name: json_value(getattr(new, name)) for name in _SENT if getattr(new, name) != getattr(old, name)}
    before = {} if purge else old.properties
    changed = {key: value for key, value in new.properties.items() if purge or before.get(key) != value}
    return {**fields, "status": new.status, "updated_at": json_value(new.updated_at), "properties": changed}


def blob_json(blob: Blob) -> Json:
    """Return the JSON of a blob."""
    place = blob.location
    location = None if place is None else {"store": place.store, "key": place.key, "owned": place.owned}
    return {
        "size": blob.size,
        "checksum": blob.checksum,
        "sha256": blob.sha256,
        "location": location,
        "claim": blob.claim,
    }


def token_of(shown: Json) -> Token:
    """Make the record of a token's JSON."""
    return Token(**{**shown, **{name: _time(shown[name]) for name in _TOKEN_TIMES}})


def query_of(query: ListQuery) -> str:
    """Return the query string that asks for a page."""
    words = {
        "limit": query.limit,
        "marker": query.marker,
        "sort_key": query.sort_key,
        "sort_dir": "desc" if query.descending else "asc",
        "changes-since": query.changes_since and query.changes_since.isoformat(),
        **{name: getattr(query, name) for name in _PLAIN_FILTERS},
        **{name: _word(getattr(query, name)) for name in ("protected", "deleted")},
        "is_public": None if query.default_scope else _word(query.is_public) or "none",
        **{f"property-{key}": value for key, value in query.properties},
    }
    return urlencode({name: value for name, value in words.items() if value is not None})


_PLAIN_FILTERS = (
    *("name", "status", "container_format", "disk_format"),
    *("min_ram", "min_disk", "size_min", "size_max"),
)


def _word(flag: bool | None) -> str | None:
    return None if flag is None else str(flag).lower()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
