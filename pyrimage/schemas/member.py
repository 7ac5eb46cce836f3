"""The JSON bodies of sharing, and what can be a member's name. Source: v1, "Members"."""

import json
import re
from collections.abc import Mapping
from typing import Any

import colander
from pyramid.request import Request

from ..errors import Invalid, LimitExceeded, body_errors
from .digests import check_digests
from .fields import Flag
from .headers import content_length, has_body

MAX_BODY = 2**20  # bytes; room for ten thousand members and more
_CHUNK = 2**16  # bytes

# A name that no path could hold is no member's: it could not remove itself.
_MEMBER_ID = re.compile(r"(?!\.{1,2}\Z|@@)[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")


def is_member_id(text: str) -> bool:
    """Say whether ``text`` has the form of a member's name, which is that of a project's id."""
    return _MEMBER_ID.fullmatch(text) is not None


class JsonType(colander.SchemaType):
    """A JSON value of one kind, ``name``, as Python's decoder gives it. Colander's own types would convert others."""

    kind: type | tuple[type, ...]
    name: str

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what ``read`` makes of the value; colander's null if it is absent."""
        if cstruct is colander.null:
            return cstruct
        if not isinstance(cstruct, self.kind):
            raise colander.Invalid(node, f"must be {self.name}")
        return self.read(node, cstruct)

    def read(self, node: colander.SchemaNode, value: Any) -> Any:
        """Return the value."""
        return value


class Truth(JsonType):
    """A JSON boolean."""

    kind, name = bool, "true or false"


class CanShare(JsonType):
    """Whether a member may share: a JSON boolean, or a word or number that is one in Glance, and in our headers.

    Glance itself takes every text but the empty one for yes, ``"false"`` too. Source: oslo.utils, bool_from_string.
    """

    kind, name = (bool, int, str), "true or false"

    def read(self, node: colander.SchemaNode, value: bool | int | str) -> bool:
        """Return what the word stands for."""
        word = str(value).strip().lower()
        if word not in Flag.WORDS:
            raise colander.Invalid(node, f"must be {self.name}")
        return Flag.WORDS[word]


class MemberId(JsonType):
    """The name of a member."""

    kind, name = str, "a text"

    def read(self, node: colander.SchemaNode, value: str) -> str:
        """Return the name."""
        if not is_member_id(value):
            raise colander.Invalid(
                node,
                "must be 1 to 255 characters without slash, backslash and control characters; "
                "nor may it be . or .., or begin with @@",
            )
        return value


class Object(JsonType, colander.Mapping):
    """A JSON object; keys that the schema does not know are ignored, as in Glance."""

    kind, name = dict, "a JSON object"

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> Any:
        """Return what the node's children make of it."""
        return colander.Mapping.deserialize(self, node, value)


class Memberships(JsonType, colander.Positional):
    """A list of ``Membership``: a mapping of each member's name to ``can_share``.

    Ends at the first fault, where colander's own sequence would go on and report a hundred thousand.
    """

    kind, name = list, 'a list such as [{"member_id": "<project>", "can_share": false}]'

    def read(self, node: colander.SchemaNode, value: list[Any]) -> dict[str, bool | None]:
        """Return the mapping."""
        found: dict[str, bool | None] = {}
        for number, item in enumerate(value):
            try:
                membership = _MEMBERSHIP.deserialize(item)
            except colander.Invalid as invalid:
                error = colander.Invalid(node)
                error.add(invalid, number)
                raise error from invalid
            if membership["member_id"] in found:
                raise colander.Invalid(node, f"{membership['member_id']!a} is there twice")
            found[membership["member_id"]] = membership["can_share"]
        return found


def _node(type_: colander.SchemaType, **options: Any) -> colander.SchemaNode:
    return colander.SchemaNode(type_, missing_msg=f"is missing; it must be {type_.name}", **options)


class Membership(colander.Schema):
    """In: {"member_id": "tenant-b"}. Out: {"member_id": "tenant-b", "can_share": None}: not said."""

    schema_type = Object

    member_id = _node(MemberId())
    can_share = _node(CanShare(), missing=None)


class Replacement(colander.Schema):
    """In: {"memberships": [{"member_id": "tenant-b", "can_share": true}]}. Out: {"memberships": {"tenant-b": True}}."""

    schema_type = Object

    memberships = _node(Memberships())


class Terms(colander.Schema):
    """In: {"can_share": true}. Out: the same; None where it is not said."""

    schema_type = Object

    can_share = _node(CanShare(), missing=None)


class Change(colander.Schema):
    """In: {"member": {"can_share": true}}. Out: the same."""

    schema_type = Object

    member = Terms(missing_msg='is missing; it must be an object such as {"can_share": false}')


_MEMBERSHIP = Membership()
_REPLACEMENT = Replacement(name="body")
_CHANGE = Change(name="body")


def read_memberships(request: Request) -> Mapping[str, bool | None]:
    """Read ``PUT .../members``: every member that shall be, and whether it may share; None where that is not said.

    Raises Invalid, LimitExceeded.
    """
    memberships: dict[str, bool | None] = read_json(request, _REPLACEMENT, absent={})["memberships"]
    return memberships


def read_can_share(request: Request) -> bool | None:
    """Read ``PUT .../members/<member>``: whether it may share; None where that is not said, or there is no body.

    Raises Invalid, LimitExceeded.
    """
    can_share: bool | None = read_json(request, _CHANGE, absent={"member": {}})["member"]["can_share"]
    return can_share


def read_json(request: Request, schema: colander.SchemaNode, absent: dict[str, Any]) -> Any:
    """Read the body as JSON that ``schema`` judges; ``absent`` is what no body means. Raises Invalid, LimitExceeded."""
    data = _read_body(request)
    check_digests(request, data)
    try:
        return schema.deserialize(json.loads(data) if data else absent)
    except colander.Invalid as invalid:
        raise Invalid(*(f"{name}: {why}." for name, why in invalid.asdict().items())) from invalid
    except (ValueError, RecursionError) as error:  # the second from a hundred thousand brackets
        raise Invalid("body: must be JSON.") from error


def _read_body(request: Request) -> bytes:
    """Return the body, which is kept in memory and therefore bounded."""
    if not has_body(request):
        return b""
    data, length = bytearray(), content_length(request) or 0
    with body_errors(lambda: f"{len(data)} bytes"):
        while max(len(data), length) <= MAX_BODY:
            chunk = request.body_file_raw.read(_CHUNK)
            if not chunk:
                return bytes(data)
            data += chunk
    raise LimitExceeded(f"body: JSON of more than {MAX_BODY} bytes is not accepted.")
