"""Locations in Swift: ``swift+https://<auth address>/<container>/<object>``, never with credentials.

Clients may register what lies in other containers of the service's account, under such a URL, or with ``swift://``.
"""

from urllib.parse import quote, unquote, urlsplit

from ...addresses import PORTS
from ...errors import Invalid

SCHEMES = ("swift", "swift+http", "swift+https")


class Places:
    """The URLs of what users of one address see. own: the container in which nothing may be registered."""

    def __init__(self, address: str, own: str) -> None:
        self._address, self._own = address, own
        parts = urlsplit(address)
        self._where = parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]
        self._path = parts.path.rstrip("/") + "/"

    def url(self, key: str) -> str:
        """Return the location of a blob, or of what was registered."""
        path = key if key.startswith("/") else f"/{self._own}/{key}"
        return f"swift+{self._address}{quote(path)}"

    def register(self, url: str) -> str | None:
        """Return ``/<container>/<object>`` for a URL at this address, None for any other. Raises Invalid."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Invalid("The location is not a URL.") from error
        if parts.scheme not in SCHEMES:
            return None
        scheme = parts.scheme.partition("+")[2] or self._where[0]
        if (scheme, parts.hostname, port or PORTS[scheme]) != self._where or not parts.path.startswith(self._path):
            return None
        if "@" in parts.netloc:
            raise Invalid("A location must not hold a user or a password; the store's settings have them.")
        if parts.query or parts.fragment:
            raise Invalid("A location in Swift has no query and no fragment; in an object's name write %3F and %23.")
        try:
            path = unquote(parts.path.removeprefix(self._path), errors="strict")
        except UnicodeDecodeError as error:
            raise Invalid("The names in a location in Swift are UTF-8.") from error
        names = path.split("/")
        if len(names) < 2 or not path.isprintable() or any(name in ("", ".", "..") for name in names):
            raise Invalid("A location in Swift is swift+https://<auth address>/<container>/<object>.")
        if names[0] == self._own:
            raise Invalid("The store's own container holds images of others: nothing there can be registered.")
        return f"/{path}"
