"""The registry's answers: records as JSON, made of plain values."""

from collections.abc import Iterable
from typing import Any

from pyramid.response import Response

from ..api.responses import json_response
from ..records import Claim, Image, Location
from ..schemas.dialect import RECORD
from ..web import Request


def image_list(images: Iterable[Image]) -> Response:
    """Answer a brief list: ``{"images": [{"id": "...", "name": "f17", ...}]}``."""
    return json_response({"images": [_without_uri(RECORD.brief(image, "")) for image in images]})


def detailed_list(request: Request, images: Iterable[Image]) -> Response:
    """Answer a list with all that is known: ``{"images": [{...}]}``."""
    return json_response({"images": [_record(request, image) for image in images]})


def image_json(request: Request, image: Image, garbage: Iterable[Location] | None = None) -> Response:
    """Answer with one image: ``{"image": {...}}``; after its deletion with the bytes that are left, too."""
    left = {} if garbage is None else {"garbage": locations(garbage)}
    return json_response({"image": _record(request, image), **left})


def locations(found: Iterable[Location]) -> list[dict[str, Any]]:
    """Return places as JSON: ``[{"store": "file", "key": "..."}]``."""
    return [{"store": location.store, "key": location.key} for location in found]


def claims(found: Iterable[Claim]) -> Response:
    """Answer with claims: ``{"claims": [{"image_id": "...", "store": "file", "key": "...", ...}]}``."""
    names = ("image_id", "store", "key", "owner", "size")
    return json_response({"claims": [{name: getattr(claim, name) for name in names} for claim in found]})


def _record(request: Request, image: Image) -> dict[str, Any]:
    shown = _without_uri({**RECORD.detail(image, "", None), "activated_at": RECORD.time(image.activated_at)})
    if image.location is None:
        return {**shown, "location": None, "location_data": []}
    store = request.stores.get(image.location.store)
    url = None if store is None else store.url(image.location.key)
    place = {"url": url, "store": image.location.store, "key": image.location.key, "owned": image.location.owned}
    return {**shown, "location": url, "location_data": [place]}


def _without_uri(shown: dict[str, Any]) -> dict[str, Any]:
    del shown["uri"]  # that is the API's to say
    return shown
