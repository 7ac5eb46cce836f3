"""The query string of a list. Source: v1, "Listing"."""

from dataclasses import dataclass
from typing import Any, ClassVar

import colander
from pyramid.request import Request

from ..errors import Invalid
from .fields import CONTROL, Digits, HeaderType, Text

DEFAULT_LIMIT = 25
MAX_LIMIT = 1000


class Visibility(HeaderType):
    """``is_public``: true, false, or ``none`` for both."""

    WORDS: ClassVar = {"true": True, "1": True, "false": False, "0": False, "none": None}

    def read(self, text: str) -> Any:
        """Return the truth, None for images of either kind."""
        if text.lower() not in self.WORDS:
            raise ValueError("must be true, false or none")
        return self.WORDS[text.lower()]


class Limit(Digits):
    """How many images; more than the maximum is cut, as clients expect."""

    def read(self, text: str) -> int:
        """Return the number."""
        return min(super().read(text), MAX_LIMIT)


class ListSchema(colander.MappingSchema):
    """In: {"limit": "20", "is_public": "None"}. Out: {"limit": 20, "is_public": None}; absent ones stay absent."""

    limit = colander.SchemaNode(Limit(), missing=colander.drop)
    marker = colander.SchemaNode(Text(), missing=colander.drop)
    name = colander.SchemaNode(Text(), missing=colander.drop)
    is_public = colander.SchemaNode(Visibility(), missing=colander.drop)


_SCHEMA = ListSchema()


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which images a list asks for, newest first.

    marker: id of the last image of the page before. name: exactly this one.
    is_public: None for both kinds; the default is what the caller's own list shows: see ``default_scope``.
    """

    limit: int = DEFAULT_LIMIT
    marker: str | None = None
    name: str | None = None
    is_public: bool | None = None
    default_scope: bool = True


def read_list_query(request: Request) -> ListQuery:
    """Read the query string; parameters nobody knows are ignored. Raises Invalid naming each bad parameter."""
    names = [node.name for node in _SCHEMA.children]
    try:
        sent = {name: request.GET[name] for name in names if name in request.GET}
    except UnicodeDecodeError as error:
        raise Invalid("The query string is not UTF-8.") from error
    problems = [f"{name} holds a control character." for name, value in sent.items() if CONTROL.search(value)]
    try:
        fields = _SCHEMA.deserialize(sent)
    except colander.Invalid as invalid:
        problems += [f"{name} {why}." for name, why in invalid.asdict().items()]
    if problems:
        raise Invalid(*problems)
    if not request.identity.is_admin:
        fields.pop("is_public", None)  # only an administrator's value counts
    given = {name: value for name, value in fields.items() if value is not None}
    return ListQuery(**given, default_scope="is_public" not in fields)
