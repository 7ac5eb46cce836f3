"""Who is asking, what they may do, and the doors for callers on this machine."""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pyramid.authorization import ALL_PERMISSIONS, ACLHelper, Allow, Authenticated, Deny, Everyone
from pyramid.request import Request

from .errors import Forbidden
from .records import Image
from .settings import Settings

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

IDENTITY = "pyrimage.identity"
REFUSAL = "pyrimage.refusal"
FORWARDED = "pyrimage.forwarded"
CHUNKED = "pyrimage.chunked"
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
    CLAIM_UPLOAD = "claim_upload"
    CLEAN_UP = "clean_up"


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


Ace = tuple[Any, ...]
Acl = list[Ace]

ACL_OF_ALL: Acl = [(Allow, f"role:{ADMIN}", ALL_PERMISSIONS)]


def acl_of_images(settings: Settings) -> Acl:
    """Make the ACL of the place where images are listed and added."""
    acl: Acl = [(Allow, Authenticated, Permission.ADD_IMAGE), (Allow, Everyone, Permission.LIST_IMAGES)]
    if settings.publicize_image == "owner":
        acl.append((Allow, Authenticated, Permission.PUBLICIZE_IMAGE))
    return acl


def acl_of_image(image: Image) -> Acl:
    """Make the ACL of an image that the caller may see."""
    acl: Acl = [(Deny, Everyone, Permission.DELETE_IMAGE)] if image.protected else []
    if image.owner is not None:
        owner = f"project:{image.owner}"
        acl += [(Allow, owner, Permission.CHANGE_IMAGE), (Allow, owner, Permission.DELETE_IMAGE)]
    return [*acl, (Allow, Everyone, Permission.VIEW_IMAGE)]


def acl_of_members(request: Request, image: Image) -> Iterator[Ace]:
    """Give the ACL of an image's members entry by entry: whoever finds an earlier one costs no SELECT."""
    sharing = (Permission.SHARE_IMAGE, Permission.REMOVE_MEMBER)
    yield Allow, Everyone, Permission.VIEW_IMAGE
    if image.owner is not None:
        yield Allow, f"project:{image.owner}", sharing
    project = request.identity.project
    if project:
        request.members.hold(image.id)  # else one whose right is taken away could still give it back
        member = request.members.find(image.id, project)
        if member is not None and member.can_share:
            yield Allow, f"project:{project}", sharing


def acl_of_member(member: str) -> Acl:
    """Make the ACL of one member of an image: it can remove itself."""
    return [(Allow, f"project:{member}", Permission.REMOVE_MEMBER)]


def acl_of_shared_images(member: str) -> Acl:
    """Make the ACL of what is shared with a project."""
    return [(Allow, f"project:{member}", Permission.LIST_SHARED_IMAGES)]


def check_publicity(request: Request, context: Any, image: Image, field: str) -> None:
    """Refuse to make an image public for whom the settings do not allow it; ``field`` is what the client sent."""
    if image.is_public and not request.has_permission(Permission.PUBLICIZE_IMAGE, context):
        raise Forbidden(f"{field}: only administrators may publish here (pyrimage.publicize_image).")


class LocalOnly:
    """The door of ``auth = none``: everybody who comes from this machine is an administrator, others are refused.

    The identity, or the reason of the refusal, goes into the environ; the application answers with it in the
    shape of every other error. Source: ours.
    """

    refusal = (
        "pyrimage.auth = none serves this machine only, and {}. To serve others, make every "
        "caller an administrator with pyrimage.allow_anonymous = true."
    )

    def __init__(self, app: WSGIApp, settings: Settings) -> None:
        self._app, self._open = app, settings.allow_anonymous

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the caller in as an administrator, or note why not."""
        if IDENTITY not in environ:
            reason = None
            if not self._open:
                _name_this_host(environ)
                reason = _not_from_here(environ)
            if reason is None:
                environ[IDENTITY] = ADMINISTRATOR
            elif environ.get("PATH_INFO") != HEALTHCHECK:
                environ[REFUSAL] = Forbidden(self.refusal.format(reason))
        return self._app(environ, start_response)


class LocalRegistry(LocalOnly):
    """The door of a registry without a secret: it shows where bytes lie, so nothing opens it to other machines."""

    refusal = (
        "Without pyrimage.registry_secret the registry serves this machine only, and {}. To serve others, set the "
        "secret here and for the servers that ask."
    )

    def __init__(self, app: WSGIApp, settings: Settings) -> None:
        super().__init__(app, dataclasses.replace(settings, allow_anonymous=False))


_FORWARDING = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")


def _name_this_host(environ: dict[str, Any]) -> None:
    """Fill in the Host that HTTP/1.0 need not send; a caller on this machine can mean no other.

    Browsers speak HTTP/1.1 or later and always send one, so no page gets in this way. Source: RFC 9112, 3.2.
    """
    if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        port = environ["SERVER_PORT"]  # a path, where the server listens on a Unix socket
        environ["HTTP_HOST"] = f"localhost:{port}" if port.isdecimal() else "localhost"


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
    if name.lower() in ("localhost", "localhost."):  # the root's dot is part of a complete name
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback
