"""Where the service is and who asks, as the environment says or ``clouds.yaml``."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .auth import ApiToken, Auth, Basic
from .errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is, and who asks. ca_file: the certificates that are trusted, None for the machine's."""

    url: str
    auth: Auth | None = None
    ca_file: str | None = None


def from_environment(environ: Mapping[str, str]) -> Place:
    """Read ``PYRIMAGE_*`` or, without a ``PYRIMAGE_URL``, ``OS_*``. Raises ConfigurationError.

    The two are not mixed: what was meant for a cloud is not sent to another service.
    """
    if url := environ.get("PYRIMAGE_URL"):
        return Place(url, _own_auth(environ), environ.get("PYRIMAGE_CA_FILE") or None)
    if name := environ.get("OS_CLOUD"):
        return from_cloud(name)
    if environ.get("OS_AUTH_URL"):
        place: Place = _keystone().from_environment(environ)
        return place
    raise ConfigurationError("Where is the service? Set PYRIMAGE_URL, OS_CLOUD or OS_AUTH_URL.")


def _own_auth(environ: Mapping[str, str]) -> Auth | None:
    if token := environ.get("PYRIMAGE_TOKEN"):
        return ApiToken(token)
    user, password = environ.get("PYRIMAGE_USER"), environ.get("PYRIMAGE_PASSWORD")
    if not user and not password:
        return None
    if not user or not password:
        raise ConfigurationError("PYRIMAGE_USER and PYRIMAGE_PASSWORD go together.")
    return Basic(user, password)


def from_cloud(name: str) -> Place:
    """Read a cloud of ``clouds.yaml``. Raises ConfigurationError."""
    place: Place = _keystone().from_cloud(name)
    return place


def _keystone() -> Any:
    """Import what only those need who log in at a Keystone."""
    try:
        return importlib.import_module(".keystone", __package__)
    except ImportError as error:
        raise ConfigurationError(f"Install pyrimage[keystone] to log in at a Keystone; {error}.") from error
