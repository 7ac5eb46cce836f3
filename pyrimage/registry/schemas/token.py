"""The JSON bodies of tokens, as the registry takes them. Source: ours."""

from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import Token
from ...web.bodies import Object, read_json
from ...web.fields import Digits, Flag, Hex, Text, Timestamp
from .record import Required, Value


def _node(kind: colander.SchemaType, name: str, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(kind, name=name, missing_msg="is missing", **more)


def _body(*nodes: colander.SchemaNode) -> colander.SchemaNode:
    return colander.SchemaNode(Object(), *nodes, name="body")


_ID, _USER, _NOW = Required(Text(32)), Required(Text()), Required(Timestamp())
_TOKEN = colander.SchemaNode(
    Object(),
    _node(_ID, "id"),
    _node(_USER, "user"),
    _node(Required(Text()), "project"),
    _node(Required(Hex(64)), "digest"),
    *(_node(Required(Flag()), name) for name in ("is_login", "read_only")),
    _node(_NOW, "created_at"),
    *(_node(Value(Timestamp()), name) for name in ("expires_at", "last_used_at")),
    _node(Value(Text(32)), "parent"),
    _node(Required(Digits()), "generation"),
    name="token",
    missing_msg="is missing; it must be a JSON object",
)

_BODIES = {
    "add": _body(_TOKEN),
    "find": _body(_node(Required(Hex(64)), "digest")),
    "of_user": _body(_node(Value(Text()), "user")),
    "note_use": _body(_node(_ID, "id"), _node(_NOW, "now"), _node(_NOW, "since")),
    "revoke": _body(_node(_ID, "id")),
    "revoke_all": _body(_node(_USER, "user")),
    "limit_logins": _body(_node(_USER, "user"), _node(_NOW, "now"), _node(Required(Digits()), "most")),
    "remove_expired": _body(_node(_NOW, "now"), _node(Required(Flag()), "dry_run")),
}


def read_token(request: Request) -> Token:
    """Read ``{"token": {...}}``, with all fields of the record."""
    return Token(**read_words(request, "add")["token"])


def read_words(request: Request, operation: str) -> dict[str, Any]:
    """Read what an operation takes, such as ``{"user": "alice", "now": "2026-01-31T09:00:00.123456", "most": 100}``."""
    body: dict[str, Any] = read_json(request, _BODIES[operation], absent={})
    return body
