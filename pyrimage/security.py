"""Who is asking, what they may do, and the door of ``pyrimage.auth = none``."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pyramid.authorization import ACLHelper, Authenticated, Everyone
from pyramid.request import Request

from .errors import Forbidden
from .settings import Settings

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

IDENTITY = "pyrimage.identity"
REFUSAL = "pyrimage.refusal"
FORWARDED = "pyrimage.forwarded"
ADMIN = "admin"
HEALTHCHECK = "/healthcheck"


class Permission(StrEnum):
    """What an ACL can allow; named after the API's operations."""

    LIST_IMAGES = "list_images"
    ADD_IMAGE = "add_image"
    VIEW_IMAGE = "view_image"
    CHANGE_IMAGE = "change_image"
    DELETE_IMAGE = "delete_image"
    PUBLICIZE_IMAGE = "publicize_image"
    SHARE_IMAGE = "share_image"
    REMOVE_MEMBER = "remove_member"
    LIST_SHARED_IMAGES = "list_shared_images"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: nobody, a user of a project, or one who holds the role ``admin``."""

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """True for the holder of the role ``admin``."""
        return ADMIN in self.roles

    @property
    def principals(self) -> list[str]:
        """What ACLs match: ``project:<id>``, ``role:<name>`` and Pyramid's own two."""
        principals = [Everyone, *(f"role:{role}" for role in self.roles)]
        if self.user is not None or self.roles:
            principals.append(Authenticated)
        if self.project is not None:
            principals.append(f"project:{self.project}")
        return principals

    def __str__(self) -> str:
        """Return who it is, for log lines."""
        return self.user or (ADMIN if self.is_admin else "-")


ADMINISTRATOR = Identity(roles=frozenset({ADMIN}))


class SecurityPolicy:
    """Pyramid's security policy: the identity is what the wrapper left in the environ, the rules are ACLs."""

    def __init__(self) -> None:
        self._acl = ACLHelper()

    def identity(self, request: Request) -> Identity:
        """Return the caller."""
        identity: Identity = request.environ[IDENTITY]
        return identity

    def authenticated_userid(self, request: Request) -> str | None:
        """Return the caller's user id, if it has one."""
        return self.identity(request).user

    def permits(self, request: Request, context: Any, permission: str) -> Any:
        """Ask the ACLs from ``context`` up to the root."""
        return self._acl.permits(context, request.identity.principals, permission)

    def remember(self, request: Request, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """Return no headers: the API has no sessions."""
        return []

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return no headers: the API has no sessions."""
        return []


class LocalOnly:
    """The door of ``auth = none``: everybody who comes from this machine is an administrator, others are refused.

    The identity, or the reason of the refusal, goes into the environ; the application answers with it in the
    shape of every other error. Source: ours.
    """

    def __init__(self, app: WSGIApp, settings: Settings) -> None:
        self._app, self._open = app, settings.allow_anonymous

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the caller in as an administrator, or note why not."""
        if IDENTITY not in environ:
            reason = None if self._open else _not_from_here(environ)
            if reason is None:
                environ[IDENTITY] = ADMINISTRATOR
            elif environ.get("PATH_INFO") != HEALTHCHECK:
                environ[REFUSAL] = Forbidden(
                    f"pyrimage.auth = none serves this machine only, and {reason}. To serve others, make every "
                    "caller an administrator with pyrimage.allow_anonymous = true."
                )
        return self._app(environ, start_response)


_FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")


def _not_from_here(environ: dict[str, Any]) -> str | None:
    if not _is_loopback(environ.get("REMOTE_ADDR", "")):
        return "the request comes from another one"
    if not _is_loopback(_host_name(environ.get("HTTP_HOST", ""))):
        return "the Host header does not name it"  # a page elsewhere whose name was rebound to 127.0.0.1
    origin = environ.get("HTTP_ORIGIN")  # browsers send a page's simple POST anywhere, and say whose it is
    if origin is not None and not _is_loopback(_host_name(origin.partition("://")[2])):
        return "a web page of another one makes the request"
    if environ.get(FORWARDED) or any(key in _FORWARDING or key.startswith("HTTP_X_FORWARDED_") for key in environ):
        return "the request was forwarded by a proxy"
    return None


def _host_name(host: str) -> str:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host)
    return match[1].strip("[]") if match else ""


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback
