"""Requests to a registry are signed: the middleware that looks at the signature."""

import hmac
import io
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from ..catalogue.records import Identity
from ..environ import CHUNKED, IDENTITY, IS_SIGNED, REFUSAL
from ..errors import Invalid, LimitExceeded, PyrimageError, Unauthenticated
from ..readers import SigningKey
from ..signatures import (
    DIGEST,
    KEY_ID,
    MAX_CLOCK_SECONDS,
    MAX_SIGNED_BODY,
    READER_ALONE,
    SCHEME,
    SIGNATURE,
    SIGNED,
    TIMESTAMP,
    WHO,
    digest_of,
    sign,
)
from ..stores.transfer import body_errors
from .policy import HEALTHCHECK, WSGIApp


class SignedOnly:
    """Authentication for a registry with keys: whoever signs says who is asking, and nobody else is answered.

    A request that names no key is held against the first. No byte of a body is read before its request's signature is
    known. Within a minute of its time a signed request can be sent again by whoever saw it: the signature keeps others
    from making one, and TLS from seeing one. Source: ours.
    """

    def __init__(self, app: WSGIApp, keys: Sequence[SigningKey]) -> None:
        self._app, self._secrets = app, {"": keys[0].secret, **{key.id: key.secret for key in keys}}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let a signed request in as whom it names, or note why not."""
        is_health = environ["REQUEST_METHOD"] in ("GET", "HEAD") and environ.get("PATH_INFO") == HEALTHCHECK
        if IDENTITY not in environ and not is_health:
            try:
                environ[IDENTITY] = self._identify(environ)
                environ[IS_SIGNED] = True
            except PyrimageError as refusal:
                environ[REFUSAL] = refusal
        return self._app(environ, start_response)

    def _identify(self, environ: dict[str, Any]) -> Identity:
        headers = {name: _header(environ, name) for name in (SIGNATURE, *SIGNED)}
        timestamp = headers[TIMESTAMP]
        if not timestamp or not headers[SIGNATURE]:
            raise _unauthenticated(f"The registry answers signed requests only: {TIMESTAMP} or {SIGNATURE} is missing.")
        if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > MAX_CLOCK_SECONDS:
            raise _unauthenticated(f"{TIMESTAMP} is not within {MAX_CLOCK_SECONDS} seconds of this server's clock.")
        if headers[KEY_ID] not in self._secrets:
            raise _unauthenticated(f"{KEY_ID} names no key of pyrimage.registry_secret here.")
        asked = (environ["REQUEST_METHOD"], _path(environ), environ.get("QUERY_STRING", ""))
        expected = sign(self._secrets[headers[KEY_ID]], *asked, headers)
        if not hmac.compare_digest(expected.encode(), headers[SIGNATURE].encode()):
            raise _unauthenticated(f"{SIGNATURE} is not that of this request.")
        _take_body(environ, headers[DIGEST])
        user, project, words = (headers[name] for name in WHO)
        roles = frozenset(filter(None, map(str.strip, words.split(","))))
        return Identity(user or None, project or None, roles, can_write=roles != READER_ALONE)


def _unauthenticated(reason: str) -> Unauthenticated:
    return Unauthenticated(reason, SCHEME)


def _header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    text = environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", "")
    try:
        return str(text.encode("latin-1").decode())
    except UnicodeDecodeError as error:
        raise _unauthenticated(f"{name} is not UTF-8.") from error


def _path(environ: dict[str, Any]) -> str:
    """Return the path as it was sent; where the server does not tell, as clients of ours quote it."""
    raw = environ.get("REQUEST_URI")
    if raw is not None:
        return re.sub("^[a-zA-Z]+://[^/]*", "", raw.partition("?")[0])
    return quote((environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]).encode("latin-1"))


def _take_body(environ: dict[str, Any], digest: str) -> None:
    """Read the body, compare it with its digest, and put it back for the application; no body needs no digest."""
    length = environ.get("CONTENT_LENGTH") or ("" if CHUNKED in environ else "0")
    if not re.fullmatch("[0-9]*", length):
        raise Invalid("Content-Length is not a number.")
    # Of chunks, one byte too many shows that there are more.
    size = int(length.lstrip("0")[:30] or "0") if length else MAX_SIGNED_BODY + 1
    body = b""
    if not length or size <= MAX_SIGNED_BODY:
        with body_errors(lambda: "a part of the body"):
            body = environ["wsgi.input"].read(size)
    if (size if length else len(body)) > MAX_SIGNED_BODY:
        raise LimitExceeded(f"body: more than {MAX_SIGNED_BODY} bytes are not accepted.")
    if (body or digest) and not hmac.compare_digest(digest_of(body).encode(), digest.encode()):
        raise _unauthenticated(f"{DIGEST} is not that of the body, or missing.")
    environ["wsgi.input"] = io.BytesIO(body)
