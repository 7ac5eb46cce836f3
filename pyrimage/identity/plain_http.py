"""Credentials that come from another machine without encryption."""

import logging
import threading
from typing import Any

from .loopback import is_loopback

log = logging.getLogger(__name__)


class PlainHttpWarning:
    """Tells once per process, in the log, that credentials came over a network in plain text."""

    def __init__(self) -> None:
        self._is_told = threading.Lock()  # taken when it is told, and never given back

    def look_at(self, environ: dict[str, Any]) -> None:
        """Look at a request that carries credentials."""
        address = environ.get("REMOTE_ADDR", "")
        if environ["wsgi.url_scheme"] != "http" or not address or is_loopback(address):
            return
        if self._is_told.acquire(blocking=False):
            log.warning(
                "Credentials came from %s over plain HTTP, so that everybody on the way can read and use them. Put a "
                "proxy with TLS in front; where there is one, name it as trusted_proxy, and let it send "
                "X-Forwarded-Proto. docs/proxies.md shows both. This is told once.",
                address,
            )
