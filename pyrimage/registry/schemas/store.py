"""The JSON bodies of what is asked about stores. Source: ours."""

from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import LOCATION_LENGTH
from ...settings import STORE_NAME_LENGTH
from ...web.bodies import Object, read_json
from ...web.fields import Text
from .record import Required, Value


def _body(**kinds: colander.SchemaType) -> colander.SchemaNode:
    nodes = (colander.SchemaNode(kind, name=name, missing_msg="is missing") for name, kind in kinds.items())
    return colander.SchemaNode(Object(), *nodes, name="body")


_NAME, _IDENTITY = Required(Text(STORE_NAME_LENGTH)), Text(64)
_BODIES = {
    "find": _body(name=_NAME),
    "name": _body(identity=Required(_IDENTITY)),
    "introduce": _body(name=_NAME, identity=Required(_IDENTITY), replaces=Value(_IDENTITY)),
    "keys": _body(name=_NAME, after=Value(Text(LOCATION_LENGTH))),
}


def read_words(request: Request, operation: str) -> dict[str, Any]:
    """Read what an operation takes, such as ``{"name": "file", "after": null}``."""
    body: dict[str, Any] = read_json(request, _BODIES[operation], absent={})
    return body
