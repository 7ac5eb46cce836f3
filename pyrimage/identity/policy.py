"""What callers may do: permissions, ACLs and Pyramid's security policy."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any

from pyramid.authorization import ALL_PERMISSIONS, ACLHelper, Allow, Authenticated, Deny, Everyone
from pyramid.request import Request

from ..catalogue.records import ADMIN, NOBODY, Identity, Image
from ..environ import CHALLENGE, IDENTITY, UNAUTHENTICATED
from ..errors import Forbidden, Unauthenticated
from ..settings import Settings

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

HEALTHCHECK = "/healthcheck"


class Permission(StrEnum):
    """What an ACL can allow; named after the API's operations."""

    LIST_IMAGES = "list_images"
    ADD_IMAGE = "add_image"
    VIEW_IMAGE = "view_image"
    CHANGE_IMAGE = "change_image"
    DELETE_IMAGE = "delete_image"
    SHARE_IMAGE = "share_image"
    REMOVE_MEMBER = "remove_member"
    LIST_SHARED_IMAGES = "list_shared_images"
    CLAIM_UPLOAD = "claim_upload"
    CLEAN_UP = "clean_up"
    KEEP_TOKENS = "keep_tokens"
    KNOW_STORES = "know_stores"


READING = frozenset({Permission.LIST_IMAGES, Permission.VIEW_IMAGE, Permission.LIST_SHARED_IMAGES})


class SecurityPolicy:
    """Pyramid's security policy: the identity is what the middleware left in the environ, the rules are ACLs."""

    def __init__(self) -> None:
        self._acl = ACLHelper()

    def identity(self, request: Request) -> Identity:
        """Return the caller. Raises Unauthenticated for one who has not said who it is, or not truly."""
        if UNAUTHENTICATED in request.environ:
            raise request.environ[UNAUTHENTICATED]
        identity: Identity = request.environ[IDENTITY]
        return identity

    def authenticated_userid(self, request: Request) -> str | None:
        """Return the caller's user id, if it has one."""
        return self.identity(request).user

    def permits(self, request: Request, context: Any, permission: str) -> Any:
        """Ask the ACLs from ``context`` up to the root: of ``project:<id>``, ``role:<name>`` and Pyramid's own two.

        Raises Unauthenticated for nobody who may not, Forbidden for a reader who would write.
        """
        identity = request.identity
        if identity.is_known and not identity.can_write and permission not in READING:
            raise Forbidden(
                "You may read here, and change nothing: your role in the project is reader, or your token is read-only."
            )
        principals = [Everyone, *(f"role:{role}" for role in identity.roles)]
        if identity.is_known:
            principals.append(Authenticated)
        if identity.project is not None:
            principals.append(f"project:{identity.project}")
        permitted = self._acl.permits(context, principals, permission)
        if not permitted and CHALLENGE in request.environ:
            raise Unauthenticated("Reading is open to everybody; for this, log in.", request.environ[CHALLENGE])
        return permitted

    def remember(self, request: Request, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """Return no headers: the API has no sessions."""
        return []

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return no headers: the API has no sessions."""
        return []


def let_in_without_credentials(environ: dict[str, Any], settings: Settings, challenge: str, reason: str) -> None:
    """Let a caller in who has no credentials: as nobody who may read, or to those pages only that are for everybody.

    challenge: what to log in with, for ``WWW-Authenticate``. reason: why there is no identity.
    """
    if settings.anonymous == "public":
        environ[IDENTITY], environ[CHALLENGE] = NOBODY, challenge
    else:
        environ[UNAUTHENTICATED] = Unauthenticated(reason, challenge)


Ace = tuple[Any, ...]
Acl = list[Ace]

ACL_OF_ALL: Acl = [(Allow, f"role:{ADMIN}", ALL_PERMISSIONS)]


ACL_OF_IMAGES: Acl = [(Allow, Authenticated, Permission.ADD_IMAGE), (Allow, Everyone, Permission.LIST_IMAGES)]


def acl_of_image(image: Image) -> Acl:
    """Make the ACL of an image that the caller may see."""
    acl: Acl = [(Deny, Everyone, Permission.DELETE_IMAGE)] if image.protected else []
    if image.owner is not None:
        owner = f"project:{image.owner}"
        acl += [(Allow, owner, Permission.CHANGE_IMAGE), (Allow, owner, Permission.DELETE_IMAGE)]
    return [*acl, (Allow, Everyone, Permission.VIEW_IMAGE)]


def acl_of_members(request: Request, image: Image) -> Iterator[Ace]:
    """Give the ACL of an image's members entry by entry: for whom an earlier one decides, nobody asks for the last.

    It only reads: who changes members looks again when they are locked.
    """
    sharing = (Permission.SHARE_IMAGE, Permission.REMOVE_MEMBER)
    yield Allow, Everyone, Permission.VIEW_IMAGE
    if image.owner is not None:
        yield Allow, f"project:{image.owner}", sharing
    project = request.identity.project
    if project:
        member = request.catalogue.find_member(image.id, project, request.identity)
        if member is not None and member.can_share:
            yield Allow, f"project:{project}", sharing


def acl_of_member(member: str) -> Acl:
    """Make the ACL of one member of an image: it can remove itself."""
    return [(Allow, f"project:{member}", Permission.REMOVE_MEMBER)]


def acl_of_shared_images(member: str) -> Acl:
    """Make the ACL of what is shared with a project."""
    return [(Allow, f"project:{member}", Permission.LIST_SHARED_IMAGES)]
