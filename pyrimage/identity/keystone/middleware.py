"""The authentication middleware of ``auth = keystone``."""

from collections.abc import Callable, Iterable
from typing import Any, Self

from ...environ import IDENTITY, UNAUTHENTICATED
from ...errors import PyrimageError, Unauthenticated
from ...settings import Settings
from ..plain_http import PlainHttpWarning
from ..policy import HEALTHCHECK, WSGIApp, let_in_without_credentials
from .options import SECTION, read_options
from .tokens import TOKEN, Tokens


class Keystone:
    """Authentication by tokens of Keystone, in ``X-Auth-Token``: the token's project is the owner of images.

    It calls the application itself, so that bodies and answers are those of the server. challenge: what to log in
    with, for ``WWW-Authenticate``. Source: docs/keystone.md, "Who is asking".
    """

    def __init__(self, app: WSGIApp, settings: Settings, tokens: Tokens, challenge: str) -> None:
        self._app, self._settings, self._tokens, self._challenge = app, settings, tokens, challenge
        self._plain_http = PlainHttpWarning()

    @classmethod
    def of_ini(cls, app: WSGIApp, settings: Settings, ini: str | None) -> Self:
        """Make it of the ini's section. Raises ConfigurationError."""
        options = read_options(ini)
        challenge = f'Keystone uri="{options[SECTION].www_authenticate_uri}"'
        return cls(app, settings, Tokens(options, settings.admin_role), challenge)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let a caller in as the owner of its token, or note why not."""
        if IDENTITY not in environ and environ.get("PATH_INFO") != HEALTHCHECK:
            self._identify(environ)
        return self._app(environ, start_response)

    def _identify(self, environ: dict[str, Any]) -> None:
        if not environ.get(TOKEN):
            reason = "This needs a token of Keystone, in X-Auth-Token."
            let_in_without_credentials(environ, self._settings, self._challenge, reason)
            return
        self._plain_http.look_at(environ)
        try:
            identity = self._tokens.identify(environ)
        except PyrimageError as error:
            environ[UNAUTHENTICATED] = error
            return
        if identity is None:
            reason = "X-Auth-Token, or X-Service-Token, is not valid: it may have expired, or been revoked."
            environ[UNAUTHENTICATED] = Unauthenticated(reason, self._challenge)
        else:
            environ[IDENTITY] = identity
