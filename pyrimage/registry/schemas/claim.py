"""The JSON bodies of claims, as the registry takes them. Source: ours."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import LOCATION_LENGTH, Claim, Location
from ...errors import Invalid
from ...settings import STORE_NAME_LENGTH
from ...web.bodies import MAX_BODY, JsonType, Object, read_json
from ...web.fields import Digits, ImageId, Text
from .record import Required, Value, location_node, location_problems

MAX_GRACE = 10**9  # seconds
MAX_KEYS = 10_000  # claims of one server

# Fresh keys, as stores make them, begin with the image's id: so nobody can claim the bytes of another image.
_FRESH_KEY = "{}[./][0-9a-f]{{16,64}}"


class Seconds(JsonType):
    """A number of seconds, 0 or more."""

    kind, name = (int, float), "a number of seconds"

    def read(self, node: colander.SchemaNode, value: float) -> timedelta:
        """Return the time."""
        if isinstance(value, bool) or not math.isfinite(value) or not 0 <= value <= MAX_GRACE:
            raise colander.Invalid(node, f"must be a number of seconds from 0 to {MAX_GRACE}")
        return timedelta(seconds=value)


class Keys(JsonType):
    """The keys of claims."""

    kind, name = list, "a list of texts"

    def read(self, node: colander.SchemaNode, value: list[Any]) -> list[str]:
        """Return the keys."""
        good = (isinstance(key, str) and re.fullmatch("[!-~]{1,512}", key) for key in value)
        if len(value) > MAX_KEYS or not all(good):
            raise colander.Invalid(node, f"must be a list of up to {MAX_KEYS} keys")
        return value


def _node(kind: colander.SchemaType, name: str, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(kind, name=name, missing_msg="is missing", **more)


def _body(*nodes: colander.SchemaNode) -> colander.SchemaNode:
    return colander.SchemaNode(Object(), *nodes, name="body")


def _claim_node() -> colander.SchemaNode:
    return colander.SchemaNode(
        Object(),
        _node(Required(ImageId()), "image_id"),
        _node(Required(Text(STORE_NAME_LENGTH)), "store"),
        _node(Required(Text(LOCATION_LENGTH)), "key"),
        _node(Value(Text()), "owner"),
        _node(Value(Digits()), "size"),
        name="claim",
        missing_msg="is missing; it must be a JSON object",
    )


_RESERVE = _body(_claim_node(), _node(Required(Digits()), "came"))
_RENEW = _body(_node(Keys(), "keys"))
_END = _body(
    _node(Required(Text(LOCATION_LENGTH)), "key"),
    _node(Required(ImageId()), "image_id"),
    _node(Value(Text(MAX_BODY)), "reason"),
)
_EXPIRED = _body(_node(Seconds(), "grace"), _node(Value(ImageId()), "image_id", missing=None))
_SEIZE = _body(_claim_node(), _node(Seconds(), "grace"))
_CLAIM = _body(_claim_node())
_LOCATION = _body(location_node(Object(), "location"))


def read_new_claim(request: Request) -> Claim:
    """Read ``{"claim": {...}}`` of an upload that begins: its key is a fresh one of the image."""
    claim = read_claim(request)
    problems = location_problems(request, claim.store, claim.key, "body.claim")
    if not re.fullmatch(_FRESH_KEY.format(re.escape(claim.image_id)), claim.key):
        problems.append("body.claim.key: must be the image's id, a dot or slash, and 16 to 64 hexadecimal digits.")
    if problems:
        raise Invalid(*problems)
    return claim


def read_reserve(request: Request) -> tuple[Claim, int]:
    """Read ``{"claim": {...}, "came": 1048576}``."""
    body = _read(request, _RESERVE)
    return Claim(**body["claim"]), body["came"]


def read_keys(request: Request) -> Sequence[str]:
    """Read ``{"keys": ["..."]}``."""
    keys: Sequence[str] = _read(request, _RENEW)["keys"]
    return keys


def read_end(request: Request) -> tuple[str, str, str | None]:
    """Read ``{"key": "...", "image_id": "...", "reason": null}``."""
    body = _read(request, _END)
    return body["key"], body["image_id"], body["reason"]


def read_expired(request: Request) -> tuple[timedelta, str | None]:
    """Read ``{"grace": 60, "image_id": null}``."""
    body = _read(request, _EXPIRED)
    return body["grace"], body["image_id"]


def read_seize(request: Request) -> tuple[Claim, timedelta]:
    """Read ``{"claim": {...}, "grace": 60}``."""
    body = _read(request, _SEIZE)
    return Claim(**body["claim"]), body["grace"]


def read_claim(request: Request) -> Claim:
    """Read ``{"claim": {...}}``."""
    return Claim(**_read(request, _CLAIM)["claim"])


def read_location(request: Request) -> Location:
    """Read ``{"location": {"store": "file", "key": "..."}}``."""
    return Location(**_read(request, _LOCATION)["location"])


def _read(request: Request, schema: colander.SchemaNode) -> dict[str, Any]:
    body: dict[str, Any] = read_json(request, schema, absent={})
    return body
