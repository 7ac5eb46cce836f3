"""The JSON of a login, as Keystone's API v3 has it. Source: docs/tokens.md, "The calls"."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import colander

from ....environ import CHUNKED
from ....errors import Forbidden, Invalid, Unauthenticated
from ....identity.passwords import CHALLENGE
from ....web.bodies import JsonType, Object, read_json
from ....web.request import Request

MAX_BODY = 2**14  # bytes; they are in memory before a thread is needed
DOMAIN_ID, DOMAIN_NAME = "default", "Default"  # of all users and projects


@dataclass(frozen=True, slots=True)
class Password:
    """A user's name and password."""

    name: str
    password: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """A token's secret. id: which token it is said to be, None where that is not said."""

    secret: str = dataclasses.field(repr=False)
    id: str | None


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants to log in, and for which project; None for the one that is meant by default."""

    method: str
    proof: Password | Secret
    project: str | None


class String(JsonType):
    """A text."""

    kind, name = str, "a text"

    def read(self, node: colander.SchemaNode, value: str) -> str:
        """Return it as it is."""
        return value


class Methods(JsonType):
    """The list of methods, of which there is one."""

    kind, name = list, "a list with one method"

    def read(self, node: colander.SchemaNode, value: list[Any]) -> str:
        """Return the method."""
        if len(value) != 1 or not isinstance(value[0], str) or value[0] not in _PROOFS:
            raise colander.Invalid(node, f"must be a list with one of {', '.join(_PROOFS)}")
        return value[0]


class Scope(JsonType):
    """What the token is to be for: a project, or the word ``unscoped``."""

    kind, name = (str, dict), "a JSON object with project, or unscoped"

    def read(self, node: colander.SchemaNode, value: str | dict[str, Any]) -> str | None:
        """Return the project. Raises Unauthenticated for a domain, and for all else that has no roles here."""
        if value == "unscoped":
            return None
        if not isinstance(value, dict):
            raise colander.Invalid(node, f"must be {self.name}")
        if "project" not in value:
            raise Unauthenticated("Nobody has roles here but in projects.", CHALLENGE)
        return _name_of(node, _SCOPE.deserialize(value)["project"])


class Proof(JsonType):
    """The identity: a method, and under its name what that asks for. What is there of other methods is ignored."""

    kind, name = dict, "a JSON object"

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> tuple[str, Password | Secret]:
        """Return method and proof. Raises Unauthenticated for a user of another domain."""
        method = _METHODS.deserialize(value)["methods"]
        given = _PROOFS[method].deserialize(value)[method]
        if method == "password":
            return method, Password(_name_of(node, given["user"]), given["user"]["password"])
        return method, Secret(given.get("secret", given["id"]), given["id"] if "secret" in given else None)


def _name_of(node: colander.SchemaNode, named: dict[str, Any]) -> str:
    """Return the id or the name, which are the same here. Raises Unauthenticated for those of another domain."""
    names = {named["id"], named["name"]} - {None}
    if len(names) != 1:
        raise colander.Invalid(node, "must hold an id or a name, which are the same here")
    for text in (named["domain"] or {}).values():
        if text is not None and text.lower() != DOMAIN_ID:  # people write the name in small letters too
            raise Unauthenticated(f"There is no domain here but {DOMAIN_ID}.", CHALLENGE)
    name: str = names.pop()
    return name


def _object(name: str, *children: colander.SchemaNode, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(Object(), *children, name=name, missing_msg="is missing", **more)


def _text(name: str, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(String(), name=name, missing_msg="is missing", **more)


def _named(name: str, *children: colander.SchemaNode) -> colander.SchemaNode:
    """Describe what has an id, or a name in a domain."""
    id_or_name = (_text("id", missing=None), _text("name", missing=None))
    domain = _object("domain", _text("id", missing=None), _text("name", missing=None), missing=None)
    return _object(name, *id_or_name, domain, *children)


_SCOPE = _object("scope", _named("project"))
_METHODS = _object("identity", colander.SchemaNode(Methods(), name="methods", missing_msg="is missing"))
_PROOFS = {
    "password": _object("identity", _object("password", _named("user", _text("password")))),
    "token": _object("identity", _object("token", _text("id"))),
    "application_credential": _object("identity", _object("application_credential", _text("id"), _text("secret"))),
}
_BODY = _object(
    "body",
    _object(
        "auth",
        colander.SchemaNode(Proof(), name="identity", missing_msg="is missing"),
        colander.SchemaNode(Scope(), name="scope", missing=None),
    ),
)


def read_login(request: Request) -> Login:
    """Read ``{"auth": {"identity": {...}, "scope": {...}}}``. Raises Invalid, LimitExceeded, Unauthenticated."""
    if "HTTP_ORIGIN" in request.environ:  # failed logins would lock out whoever looks at the page
        raise Forbidden("A web page makes the request; only programs log in here.")
    if CHUNKED in request.environ:  # it would hold a thread of uploads, and nobody has logged in yet
        raise Invalid("A login comes with Content-Length, not in chunks.")
    body = read_json(request, _BODY, absent={}, most=MAX_BODY)["auth"]
    method, proof = body["identity"]
    return Login(method, proof, body["scope"])
