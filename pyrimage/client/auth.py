"""Who is asking: what each request carries for that. Nothing here shows a secret."""

import base64
from collections.abc import Mapping
from typing import Protocol


class Auth(Protocol):
    """A way to say who is asking. Several threads may use one."""

    def headers(self) -> Mapping[str, str]:
        """Return what a request carries."""

    def renew(self) -> bool:
        """Get other credentials, because the last ones were refused; return whether it is worth asking again."""


class Anonymous:
    """Nobody, or everybody on the server's own machine."""

    def headers(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def renew(self) -> bool:
        """Return False: there is nothing to renew."""
        return False

    def __repr__(self) -> str:
        return "Anonymous()"


class _Fixed:
    """What stays the same; ``shown`` may be told to everybody."""

    def __init__(self, name: str, value: str, shown: str) -> None:
        self._headers, self._shown = {name: value}, shown

    def headers(self) -> Mapping[str, str]:
        """Return the one header."""
        return self._headers

    def renew(self) -> bool:
        """Return False: there are no others."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown})"


class Basic(_Fixed):
    """A user with a password."""

    def __init__(self, user: str, password: str) -> None:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        super().__init__("Authorization", f"Basic {pair}", f"{user!r}, ...")


class ApiToken(_Fixed):
    """A token of the service's own, which ``pyrimage-manage token create`` has printed."""

    def __init__(self, token: str) -> None:
        super().__init__("Authorization", f"Bearer {token}", "...")


class KeystoneToken(_Fixed):
    """A token that Keystone has given to somebody already. ``pyrimage.client.keystone`` gets tokens by itself."""

    def __init__(self, token: str) -> None:
        super().__init__("X-Auth-Token", token, "...")
