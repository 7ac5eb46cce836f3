"""Authentication by address: for callers on this machine."""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from ..catalogue.records import ADMINISTRATOR
from ..environ import FORWARDED, IDENTITY, REFUSAL
from ..errors import Forbidden, Unauthenticated
from ..settings import Settings
from ..signatures import SCHEME, SIGNATURE_VARIABLE
from .policy import HEALTHCHECK, WSGIApp


class LoopbackOnly:
    """Authentication middleware of ``auth = none``: whoever asks from this machine is an administrator, others nobody.

    The identity, or the reason of the refusal, goes into the environ; the application answers with it in the
    shape of every other error. Source: ours.
    """

    refusal = (
        "pyrimage.auth = none serves this machine only, and {}. To serve others, make every "
        "caller an administrator with pyrimage.allow_anonymous = true."
    )

    def __init__(self, app: WSGIApp, settings: Settings) -> None:
        self._app, self._allow_anonymous = app, settings.allow_anonymous

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the caller in as an administrator, or note why not."""
        if IDENTITY not in environ:
            reason = None
            if not self._allow_anonymous:
                if "HTTP_HOST" not in environ:
                    _name_this_host(environ)
                reason = _not_from_here(environ)
            if reason is None:
                environ[IDENTITY] = ADMINISTRATOR
            elif environ.get("PATH_INFO") != HEALTHCHECK:
                environ[REFUSAL] = Forbidden(self.refusal.format(reason))
        return self._app(environ, start_response)


class LoopbackRegistry(LoopbackOnly):
    """That of a registry without a secret: it shows where bytes lie, so no setting lets other machines in.

    An API server signs for its callers. Here nobody could tell who they are, and each would be an administrator: so a
    request that is signed is refused.
    """

    refusal = (
        "Without pyrimage.registry_secret the registry serves this machine only, and {}. To serve others, set the "
        "secret here and for the servers that ask."
    )

    def __init__(self, app: WSGIApp, settings: Settings) -> None:
        super().__init__(app, dataclasses.replace(settings, allow_anonymous=False))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the caller in as an administrator, or note why not."""
        if SIGNATURE_VARIABLE in environ and environ.get("PATH_INFO") != HEALTHCHECK:
            reason = "The registry has no pyrimage.registry_secret, and cannot tell whether a signature is right."
            environ[REFUSAL] = Unauthenticated(reason, SCHEME)
            return self._app(environ, start_response)
        return super().__call__(environ, start_response)


_FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")


def _name_this_host(environ: dict[str, Any]) -> None:
    """Fill in the Host that HTTP/1.0 need not send; a caller on this machine can mean no other.

    Browsers speak HTTP/1.1 or later and always send one, so no page gets in this way. Source: RFC 9112, 3.2.
    """
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        port = environ["SERVER_PORT"]  # a path, where the server listens on a Unix socket
        environ["HTTP_HOST"] = f"localhost:{port}" if port.isdecimal() else "localhost"


def _not_from_here(environ: dict[str, Any]) -> str | None:
    if not is_loopback(environ.get("REMOTE_ADDR", "")):
        return "the request comes from another one"
    if not _is_loopback_host(environ.get("HTTP_HOST", "")):
        return "the Host header does not name it"  # a page elsewhere whose name was rebound to 127.0.0.1
    origin = environ.get("HTTP_ORIGIN")  # browsers send a page's simple POST anywhere, and say whose it is
    if origin is not None and not _is_loopback_host(origin.partition("://")[2]):
        return "a web page of another one makes the request"
    if environ.get(FORWARDED) or any(key in _FORWARDING or key.startswith("HTTP_X_FORWARDED_") for key in environ):
        return "the request was forwarded by a proxy"
    return None


@lru_cache(maxsize=64)
def _is_loopback_host(host: str) -> bool:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host)
    return match is not None and is_loopback(match[1].strip("[]"))


@lru_cache(maxsize=64)
def is_loopback(name: str) -> bool:
    """Say whether an address, or the name ``localhost``, is this machine's own."""
    if name.lower() in ("localhost", "localhost."):  # the root's dot is part of a complete name
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback
