"""Forwarding headers of trusted proxies, parsed by waitress; malformed ones are answered in the server's own shape."""

import logging
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.proxy_headers import PROXY_HEADERS, MalformedProxyHeader, clear_untrusted_headers, parse_proxy_headers

log = logging.getLogger("waitress")

# For waitress' warnings of unknown parameters of Forwarded: one header can hold a hundred thousand of them.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - getLogger() gives one that an ini can turn on


class MalformedForwarding(Exception):
    """A trusted proxy sent a header that cannot be understood; the text is for the client."""


class ForwardingReader:
    """Waitress' middleware for forwarding headers; where that answers 400 itself, this raises MalformedForwarding."""

    def __init__(self, app: WSGIApplication, adj: Any) -> None:
        self.app, self.adj = app, adj

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Change ``environ`` to what a trusted proxy says of the client; remove the headers that are not trusted."""
        adj, untrusted, peer = self.adj, PROXY_HEADERS, environ["REMOTE_ADDR"]
        if adj.trusted_proxy in ("*", peer):
            try:
                untrusted = parse_proxy_headers(environ, adj.trusted_proxy_count, adj.trusted_proxy_headers, _SILENT)
            except MalformedProxyHeader as error:
                raise _malformed(peer, error.header, error.reason, error.value) from error
            except IndexError as error:  # waitress looks at the first character of an address that is empty
                raise _malformed(peer, "Forwarded or X-Forwarded-For", "there is no address", "") from error
        if adj.clear_untrusted_proxy_headers:
            clear_untrusted_headers(environ, untrusted, adj.log_untrusted_proxy_headers)
        return self.app(environ, start_response)


def _malformed(peer: str, header: str, reason: str, value: str) -> MalformedForwarding:
    log.warning("Malformed proxy header %s from %s: %s: %s", header, peer, reason, value)
    return MalformedForwarding(f"{header} of a trusted proxy is malformed: {reason}")
