"""The tree below ``/identity``: versions, the one version, and what is asked about logins. All of it is for everybody.

Who asks about tokens has to show one, which the views see to.
"""

from typing import Any

from ...errors import NotFound
from ...web.request import Request
from ...web.resources import Parent
from .responses import identity_url


class Identity:
    """``/identity``: which versions there are."""

    is_collection = True

    def __init__(self, parent: Parent, name: str, request: Request) -> None:
        self.__parent__, self.__name__ = parent, name

    def __getitem__(self, segment: str) -> "V3":
        if segment != "v3":
            raise KeyError(segment)
        return V3(self, segment)


class V3:
    """``/identity/v3``: what the version is."""

    is_collection = True

    def __init__(self, parent: Identity, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    def __getitem__(self, segment: str) -> "Auth":
        if segment != "auth":
            raise KeyError(segment)
        return Auth(self, segment)


class Auth:
    """``/identity/v3/auth``: nothing by itself; tokens, the catalogue and the projects are its named views."""

    is_collection = True

    def __init__(self, parent: V3, name: str) -> None:
        self.__parent__, self.__name__ = parent, name


def not_keystone(parent: Any, name: str, request: Request) -> Any:
    """Tell those who took the service's own URL for Keystone's where to log in. Raises NotFound."""
    raise NotFound(f"Here is no Keystone; to log in, set auth_url to {identity_url(request)}.")
