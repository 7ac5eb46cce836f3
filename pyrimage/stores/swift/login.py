"""Who we are for Swift, and where it is: Swift's own authentication, version 1."""

import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from swiftclient import client

from ...errors import StoreUnavailable
from .settings import SwiftSettings

# Of what is logged at DEBUG, swiftclient would show the beginning of every token.
client.logger_settings["reveal_sensitive_prefix"] = 0

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0


@dataclass(frozen=True, slots=True)
class Access:
    """Where an account is, and what lets us in for a while."""

    url: str
    token: str = field(repr=False)


class LoginRefused(StoreUnavailable):
    """Nobody is let in with the user and the key of the settings. advice: for whoever runs the server."""

    def __init__(self, advice: str) -> None:
        super().__init__("The Swift store does not let this server in.")
        self.advice = advice


class Login(Protocol):
    """A way to log in, shared by all threads; nothing is asked before the first ``access``."""

    def access(self) -> Access:
        """Log in, or return what is still good. Raises LoginRefused, OSError."""

    def forget(self, access: Access) -> None:
        """Log in anew the next time: Swift has refused this."""

    def public_url(self) -> str:
        """Return where clients reach the account. Raises as ``access``."""

    def close(self) -> None:
        """Close connections, if any are kept."""


def connect(url: str, cacert: Path | None) -> client.HTTPConnection:
    """Make what sends requests to the host of ``url``, one at a time; it connects with the first.

    Redirects are not followed: with them our token would go wherever they lead.
    """
    connection = client.HTTPConnection(
        url, cacert=cacert and str(cacert), timeout=(CONNECT_SECONDS, READ_SECONDS), default_user_agent="pyrimage"
    )
    connection.request_session.max_redirects = 0
    return connection


class KeyLogin:
    """Swift's own authentication: a user and a key for a token and the account's URL."""

    def __init__(self, settings: SwiftSettings) -> None:
        self._settings = settings
        self._access: Access | None = None
        self._lock = threading.Lock()

    def access(self) -> Access:
        """Log in, or return what is still good."""
        with self._lock:  # all wait for the one that logs in
            if self._access is None:
                self._access = self._log_in()
            return self._access

    def forget(self, access: Access) -> None:
        """Log in anew, unless another thread just did."""
        with self._lock:
            if self._access is access:
                self._access = None

    def public_url(self) -> str:
        """Return the account's URL: there is only one."""
        return self.access().url

    def close(self) -> None:
        """Do nothing: each login has a connection of its own."""

    def _log_in(self) -> Access:
        address = self._settings.swift_store_auth_address
        with closing(connect(address, self._settings.swift_store_cacert)) as connection:
            headers = {"X-Auth-User": self._settings.swift_store_user, "X-Auth-Key": self._settings.swift_store_key}
            connection.request("GET", urlsplit(address).path, headers=headers)
            response = connection.getresponse()
            response.read()
        if response.status in (401, 403):
            raise LoginRefused(f"{address} refuses the user: look at swift_store_user and swift_store_key.")
        url, token = (response.getheader(name) for name in ("X-Storage-Url", "X-Auth-Token"))
        if response.status >= 500:
            raise ConnectionError(f"{address} answers {response.status}")
        if not url or not token:
            raise LoginRefused(
                f"{address} answers {response.status} and tells no X-Storage-Url: is swift_store_auth_address "
                "that of version 1? For Keystone, set swift_store_auth_version = 3."
            )
        return Access(url.rstrip("/"), token)
