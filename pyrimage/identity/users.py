"""Authentication of ``auth = users``: by name and password, or by a token."""

import base64
from collections.abc import Callable, Iterable
from typing import Any

from ..environ import IDENTITY, UNAUTHENTICATED
from ..errors import Forbidden, Unauthenticated
from ..settings import Settings
from .passwords import CHALLENGE, Passwords
from .plain_http import PlainHttpWarning
from .policy import WSGIApp, let_in_without_credentials
from .tokens import TokenLogins


class Users:
    """Authentication middleware: whoever has a name and its password, or a token, is that user.

    The token comes as ``X-Auth-Token``, or as ``Authorization: Bearer``; where there is an ``X-Auth-Token``,
    ``Authorization`` is not looked at, for clients of OpenStack may send both, the latter for a proxy. Nothing else
    that a client or a server in front says of who it is has any effect. A failed login is told to whoever asks for
    something that is not for everybody. Source: docs/users.md, "Requests".
    """

    def __init__(self, app: WSGIApp, settings: Settings, passwords: Passwords, tokens: TokenLogins) -> None:
        self._app, self._settings = app, settings
        self._passwords, self._tokens = passwords, tokens
        self._plain_http = PlainHttpWarning()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Find out who asks, or why that is not known."""
        if IDENTITY not in environ:
            try:
                self._log_in(environ)
            except Exception as error:  # noqa: BLE001 - whatever it is, the application answers it as it does others
                environ[UNAUTHENTICATED] = error
        return self._app(environ, start_response)

    def _log_in(self, environ: dict[str, Any]) -> None:
        token, authorization = environ.get("HTTP_X_AUTH_TOKEN", ""), environ.get("HTTP_AUTHORIZATION", "")
        if not token and not authorization:
            let_in_without_credentials(
                environ, self._settings, CHALLENGE, "Log in with a name and password, or a token."
            )
            return
        self._plain_http.look_at(environ)
        if token:
            environ[IDENTITY] = self._tokens.identify(token)
            return
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            environ[IDENTITY] = self._tokens.identify(credentials.strip())
        elif scheme.lower() == "basic":
            if "HTTP_ORIGIN" in environ and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
                raise Forbidden("A web page makes the request, with what the browser remembers of a login.")
            name, password = _name_and_password(credentials.strip())
            user = self._passwords.check(name, password, environ.get("REMOTE_ADDR", ""))
            environ[IDENTITY] = user.identity()
        else:
            raise Unauthenticated("Authorization has to begin with Basic or Bearer.", CHALLENGE)


def _name_and_password(credentials: str) -> tuple[str, str]:
    """Read what follows ``Basic``. Raises Unauthenticated. Source: RFC 7617, 2."""
    try:
        name, password = base64.b64decode(credentials, validate=True).decode().split(":", maxsplit=1)
    except ValueError as error:
        text = "Authorization: Basic is followed by name:password, as UTF-8 in Base64."
        raise Unauthenticated(text, CHALLENGE) from error
    return name, password
