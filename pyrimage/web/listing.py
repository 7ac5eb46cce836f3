"""The query string of a list. Source: docs/v1.md, "Listing"."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import colander
from pyramid.request import Request

from ..catalogue.queries import MAX_PROPERTIES, SORT_KEYS, ListQuery
from ..catalogue.records import MAX_INT
from ..errors import Invalid
from .fields import CONTROL, Digits, HeaderType, Text, Timestamp, Word, property_key

PROPERTY = "property-"

# What the record calls them: a name of Python's, and one that says what true means.
_ATTRIBUTES = {"sort_dir": "descending", "changes-since": "changes_since"}


class Parameter(colander.SchemaType):
    """A parameter that is read as a header's value is, but for the empty text: nothing is cleared here."""

    def __init__(self, kind: HeaderType) -> None:
        self.kind = kind

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the kind makes of any text, the empty one too."""
        try:
            return self.kind.read(cstruct)
        except ValueError as error:
            raise colander.Invalid(node, str(error)) from error


class Limit(HeaderType):
    """How many images; of any number of digits, since more than the maximum is cut, as clients expect."""

    def read(self, text: str) -> int:
        """Return the number; one of 20 digits or more as another that is too high anyway."""
        if not re.fullmatch("[0-9]+", text):
            raise ValueError("must be a whole number, 0 or more")
        return int(text.lstrip("0")[:19] or "0")


class Choice(HeaderType):
    """One of the ``words``, in any case."""

    def __init__(self, words: Mapping[str, bool | None], accepted: str) -> None:
        self.words, self.accepted = words, accepted

    def read(self, text: str) -> Any:
        """Return what the word stands for."""
        if text.lower() not in self.words:
            raise ValueError(f"must be {self.accepted}")
        return self.words[text.lower()]


class Since(Timestamp):
    """A time; the ``+`` of its offset may have come as it is, and been read as a blank."""

    first_year = 1000  # that which MariaDB knows: so that a list can have what was changed since before all images

    def read(self, text: str) -> datetime:
        """Return the time in UTC, without zone."""
        return super().read(re.sub("(:[0-9.]+) (?=[0-9])", r"\1+", text))


_BOTH = {"true": True, "1": True, "false": False, "0": False}


def _parameter(kind: HeaderType, name: str = "") -> colander.SchemaNode:
    return colander.SchemaNode(Parameter(kind), name=name, missing=colander.drop)


class ListSchema(colander.MappingSchema):
    """In: {"limit": "20", "is_public": "None"}. Out: {"limit": 20, "is_public": None}; absent ones stay absent."""

    limit = _parameter(Limit())
    marker = _parameter(Text())
    sort_key = _parameter(Word(SORT_KEYS, "cannot be"))
    sort_dir = _parameter(Choice({"asc": False, "desc": True}, "asc or desc"))
    name = _parameter(Text())
    status = _parameter(Text())
    container_format = _parameter(Text())
    disk_format = _parameter(Text())
    min_ram = _parameter(Digits(MAX_INT))
    min_disk = _parameter(Digits(MAX_INT))
    size_min = _parameter(Digits())
    size_max = _parameter(Digits())
    protected = _parameter(Choice(_BOTH, "true or false"))
    is_public = _parameter(Choice({**_BOTH, "none": None}, "true, false or none"))
    changes_since = _parameter(Since(), "changes-since")


class RegistryListSchema(ListSchema):
    """Those, and a filter of the registry alone."""

    deleted = _parameter(Choice(_BOTH, "true or false"))


API_LIST, REGISTRY_LIST = ListSchema(), RegistryListSchema()
_ADMIN_ONLY = ("is_public", "deleted")  # only an administrator's value counts


def read_list_query(request: Request, schema: ListSchema) -> ListQuery:
    """Read the query string; parameters nobody knows are ignored. Raises Invalid naming each bad parameter."""
    known = {node.name for node in schema.children}
    try:
        sent = {name: text for name, text in request.GET.items() if name in known or name.startswith(PROPERTY)}
    except UnicodeDecodeError as error:
        raise Invalid("The query string is not UTF-8.") from error
    problems = [f"{name!a} holds a control character." for name, text in sent.items() if CONTROL.search(name + text)]
    properties = _properties({name: text for name, text in sent.items() if name not in known}, problems)
    if len(properties) > MAX_PROPERTIES:
        problems.append(f"{PROPERTY}<key>: at most {MAX_PROPERTIES} different keys are accepted.")
    fields = _validated(schema, sent, problems) if sent else {}
    if problems:
        raise Invalid(*problems)
    if not request.identity.is_admin:
        fields = {name: value for name, value in fields.items() if name not in _ADMIN_ONLY}
    settings = request.settings
    limit = min(fields.pop("limit", settings.limit_param_default), settings.api_limit_max)
    marker = fields.pop("marker", None) or None
    given = {_ATTRIBUTES.get(name, name): value for name, value in fields.items()}
    default_scope = "is_public" not in fields
    return ListQuery(limit, marker, **given, default_scope=default_scope, properties=tuple(properties.items()))


def _properties(sent: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Return the values by the keys that headers of the same spelling would set."""
    properties: dict[str, str] = {}
    for name, text in sent.items():
        key = property_key(name.removeprefix(PROPERTY))
        if properties.setdefault(key, text) != text:
            problems.append(f"{PROPERTY}<key>: two fall on the one key {key!r}, with different values; send one.")
    return properties


def _validated(schema: ListSchema, sent: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = schema.deserialize(sent)
    except colander.Invalid as invalid:
        problems += [f"{name} {why}." for name, why in invalid.asdict().items()]
        return {}
    return fields
