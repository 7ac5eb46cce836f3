"""The registry's answers: records as JSON, made of plain values."""

from collections.abc import Iterable
from typing import Any

from pyramid.response import Response

from ..catalogue.records import SUMMARY_FIELDS, Claim, Image, ImageSummary, Location, Shown, json_value
from ..stores import FOREIGN
from ..web.fields import shown_fields
from ..web.request import Request
from ..web.responses import json_response

_DETAIL = shown_fields(Shown.DETAIL)
_OTHERS = shown_fields(Shown.EXTRA, Shown.JSON, Shown.REGISTRY)


def image_list(images: Iterable[ImageSummary]) -> Response:
    """Answer a brief list: ``{"images": [{"id": "...", "name": "f17", ...}]}``."""
    return json_response({"images": [_fields(image, SUMMARY_FIELDS) for image in images]})


def detailed_list(request: Request, images: Iterable[Image]) -> Response:
    """Answer a list with all that is known: ``{"images": [{...}]}``."""
    return json_response({"images": [_record(request, image) for image in images]})


def image_json(request: Request, image: Image, garbage: Iterable[Location] | None = None) -> Response:
    """Answer with one image: ``{"image": {...}}``; after its deletion with the bytes that are left, too."""
    left = {} if garbage is None else {"garbage": locations(garbage)}
    return json_response({"image": _record(request, image), **left})


def locations(found: Iterable[Location]) -> list[dict[str, Any]]:
    """Return locations as JSON: ``[{"store": "file", "key": "..."}]``."""
    return [{"store": location.store, "key": location.key} for location in found]


def claims(found: Iterable[Claim]) -> Response:
    """Answer with claims: ``{"claims": [{"image_id": "...", "store": "file", "key": "...", ...}]}``."""
    names = ("image_id", "store", "key", "owner", "size")
    return json_response({"claims": [{name: getattr(claim, name) for name in names} for claim in found]})


def _record(request: Request, image: Image) -> dict[str, Any]:
    shown = _fields(image, ("id", *_DETAIL))
    shown |= {"properties": dict(image.properties), **_fields(image, _OTHERS)}
    if image.location is None:
        return {**shown, "location": None, "location_data": []}
    store, key = request.stores.get(image.location.store), image.location.key
    url = key if image.location.store == FOREIGN else None if store is None else store.url(key)
    ours = {"store": image.location.store, "key": key, "owned": image.location.owned}
    # The first three are Glance's. It has an id as well, which its API servers would look for in a database of theirs.
    data = {"url": url, "metadata": {}, "status": "active", **ours}
    return {**shown, "location": url, "location_data": [data]}


def _fields(image: ImageSummary, names: Iterable[str]) -> dict[str, Any]:
    """Return fields as JSON; times to the microsecond, for a client makes the record of them again."""
    return {name: json_value(getattr(image, name)) for name in names}
