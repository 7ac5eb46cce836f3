"""The JSON of an image, as the registry takes it: the fields and the rules are those of the headers.

JSON is read as JSON: a number is 5 and not "5", a flag true and not "true", and null clears a field. Source:
docs/v1.md, "Registry API".
"""

import re
from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import IMAGE_FIELDS, LOCATION_LENGTH
from ...settings import STORE_NAME_LENGTH
from ...stores import Store
from ...web.bodies import JsonType, Object
from ...web.fields import (
    CONTROL,
    KEY_LENGTH,
    NOT_KEY,
    Digits,
    Flag,
    HeaderType,
    Ignored,
    ImageId,
    Text,
    Timestamp,
    type_of,
)

MANY = 10  # unknown fields that are told; there could be a hundred thousand

_JSON_OF: dict[type[HeaderType], tuple[type, str]] = {Digits: (int, "a whole number"), Flag: (bool, "true, false")}
_NOT_TEXT = re.compile(f"{CONTROL.pattern}|[\ud800-\udfff]")  # JSON can spell halves of characters, UTF-8 cannot


class Value(colander.SchemaType):
    """A JSON value that is judged as a header's text is, once it is of the JSON type that ``kind`` stands for.

    null and the empty text are None, as an empty header is.
    """

    def __init__(self, kind: HeaderType) -> None:
        self.kind = kind
        self.json, self.name = _JSON_OF.get(type(kind), (str, "a text"))

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the kind makes of the value."""
        if cstruct is colander.null:
            return cstruct
        if cstruct is None or (cstruct == "" and self.json is str):
            return None
        if type(cstruct) is not self.json:  # True is an int too
            raise colander.Invalid(node, f"must be {self.name} or null")
        if isinstance(cstruct, bool):
            return cstruct
        if _NOT_TEXT.search(str(cstruct)):
            raise colander.Invalid(node, "holds a control character, or half a one")
        return self.kind.deserialize(node, str(cstruct))


class Required(Value):
    """A value that has to be there."""

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the kind makes of the value."""
        value = super().deserialize(node, cstruct)
        if value is None:
            raise colander.Invalid(node, f"must be {self.name}")
        return value


class Properties(JsonType, colander.Positional):
    """An object of texts by their keys. Ends at the first fault: there could be a hundred thousand."""

    kind, name = dict, 'an object of texts, such as {"os_type": "linux"}'

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> dict[str, str]:
        """Return the properties. null is the empty text: so Glance's API servers send an empty header."""
        properties = {key: "" if text is None else text for key, text in value.items()}
        for key, text in properties.items():
            if not 1 <= len(key) <= KEY_LENGTH or NOT_KEY.search(key):
                raise colander.Invalid(node, f"{key[:KEY_LENGTH]!a}: a key is 1 to {KEY_LENGTH} of a-z, 0-9 and _")
            if not isinstance(text, str):
                raise colander.Invalid(node, f"{key}: must be a text")
            if _NOT_TEXT.search(text):
                raise colander.Invalid(node, f"{key}: holds a control character, or half a one")
        return properties


class StrictObject(Object):
    """A JSON object all of whose keys must be known. Colander's own way would hide every other error."""

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> Any:
        """Return what the node's children make of it; what is unknown is told with the rest."""
        error = colander.Invalid(node)
        for name in sorted(value.keys() - {child.name for child in node.children})[:MANY]:
            error.add(colander.Invalid(_node(Ignored(), ascii(name[:KEY_LENGTH])), "is not a known field"))
        try:
            found = super().read(node, value)
        except colander.Invalid as invalid:
            for child in invalid.children:
                error.add(child)
        if error.children:
            raise error
        return found


def _node(kind: colander.SchemaType, name: str, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(kind, name=name, **more)


def optional(kind: colander.SchemaType, name: str) -> colander.SchemaNode:
    """Make a node that is left out of what is read if it is absent."""
    return _node(kind, name, missing=colander.drop)


class Nullable(Object):
    """A JSON object, or null."""

    name = "a JSON object or null"

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the node's children make of it, None for null."""
        return None if cstruct is None else super().deserialize(node, cstruct)


def location_node(kind: colander.SchemaType, name: str) -> colander.SchemaNode:
    """Make the node of ``{"store": "file", "key": "<image id>.<random>"}``."""
    node = colander.SchemaNode(
        kind,
        _node(Required(Text(STORE_NAME_LENGTH)), "store"),
        _node(Required(Text(LOCATION_LENGTH)), "key"),
        name=name,
    )
    node.missing_msg = "is missing"
    return node


def location_problems(request: Request, store: str, key: str, where: str) -> list[str]:
    """Say why bytes cannot lie there, if they cannot; the store judges its keys. where: what the client calls it."""
    place = request.stores.get(store)
    if not isinstance(place, Store):
        return [f"{where}.store: {store!a} is not a store here that takes uploads."]
    if not place.is_key(key):
        return [f"{where}.key: {key!a} is not a key of the store {store}."]
    return []


def image_node(**more: colander.SchemaType) -> colander.SchemaNode:
    """Make the node of an image: each field of the record, and what clients send back. more: what else is read."""
    read = {"id": ImageId(), "status": Text(), "activated_at": Timestamp()}
    types = {name: read.get(name) or type_of(name) for name in IMAGE_FIELDS}
    values = {name: type_ if isinstance(type_, Ignored) else Value(type_) for name, type_ in types.items()}
    sent_back = ("copy_from", "uri", "virtual_size", "store", "location", "location_data")
    kinds = {**values, **dict.fromkeys(sent_back, Ignored()), "properties": Properties(), **more}
    nodes = [optional(kind, name) for name, kind in kinds.items()]
    missing_msg = "is missing; it must be a JSON object"
    return colander.SchemaNode(StrictObject(), *nodes, name="image", missing_msg=missing_msg)


IMAGE = image_node()


def spell(field: str) -> str:
    """Spell a field as its path in the JSON: ``body.image.disk_format``."""
    return f"body.image.{field}"
