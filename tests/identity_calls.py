"""The identity calls, as tests make them."""

import itertools
from typing import Any

from webtest import TestApp

from accounts import USERS, password_of
from conftest import Installation
from pyrimage.identity.tokens import make_token

URL = "http://localhost:80"
TOKENS = "/identity/v3/auth/tokens"
DOMAIN = {"id": "default"}

# Each test has one of its own, from which nobody has failed to log in yet.
addresses = (f"10.0.{number // 250}.{number % 250 + 1}" for number in itertools.count())


def password(name: Any = "alice", **more: Any) -> dict[str, Any]:
    """Make the identity of a login by password."""
    user = {"name": name, "domain": DOMAIN, "password": password_of(name), **more}
    return {"methods": ["password"], "password": {"user": {key: value for key, value in user.items() if value}}}


def by_token(secret: str) -> dict[str, Any]:
    return {"methods": ["token"], "token": {"id": secret}}


def by_credential(token_id: str, secret: str) -> dict[str, Any]:
    return {"methods": ["application_credential"], "application_credential": {"id": token_id, "secret": secret}}


def project(name: str) -> dict[str, Any]:
    return {"project": {"name": name, "domain": DOMAIN}}


def log_in(app: TestApp, identity: Any = None, scope: Any = None, status: int | str = 201) -> Any:
    """Log in; by alice's password unless told otherwise. status: what is expected, ``*`` for anything."""
    auth = {"identity": password() if identity is None else identity}
    return app.post_json(TOKENS, {"auth": auth if scope is None else {**auth, "scope": scope}}, status=status)


def secret_of(answer: Any) -> str:
    return str(answer.headers["X-Subject-Token"])


def api_token(
    installation: Installation, user: str = "alice", project: str | None = None, **more: Any
) -> tuple[str, str]:
    """Make an API token; return its id and its secret."""
    project = project or next(iter(USERS[user]))
    secret, token = make_token(user, project, **{"expires_at": None, **more})
    installation.catalogue.tokens.add(token)
    return token.id, secret
