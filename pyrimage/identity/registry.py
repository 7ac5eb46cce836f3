"""Who may ask a registry: servers that sign, who has a token of Keystone, or everybody on its own machine."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..readers import SigningKey
from ..settings import Settings
from ..signatures import SIGNATURE_VARIABLE
from .keystone import make_keystone
from .loopback import LoopbackRegistry
from .policy import WSGIApp
from .signed import SignedOnly


class SignedOrToken(SignedOnly):
    """Authentication for a registry with keys that asks Keystone too: a signature that is there has to be right."""

    def __init__(self, app: WSGIApp, keys: Sequence[SigningKey], by_token: WSGIApp) -> None:
        super().__init__(app, keys)
        self._by_token = by_token

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Look at the signature, or where there is none at the token."""
        look = super().__call__ if SIGNATURE_VARIABLE in environ else self._by_token
        return look(environ, start_response)


def make_authentication(app: WSGIApp, settings: Settings, ini: str | None) -> WSGIApp:
    """Make the authentication middleware of a registry; opens no connection. ini: the path of its file.

    Raises ConfigurationError for a bad section for Keystone.
    """
    keys = settings.registry_secret
    if settings.registry_auth == "none":
        return LoopbackRegistry(app, settings) if keys is None else SignedOnly(app, keys)
    # It shows where bytes lie: nobody sees that without a token, whatever the API shows.
    by_token = make_keystone(app, dataclasses.replace(settings, anonymous="none"), ini)
    return by_token if keys is None else SignedOrToken(app, keys, by_token)
