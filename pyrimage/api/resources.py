"""The tree that URLs walk: a resource is a place, an ACL, and at most one record."""

import re
from typing import Any

from pyramid.authorization import ALL_PERMISSIONS, Allow, Authenticated, Deny, Everyone

from ..errors import NotFound
from ..records import Image
from ..schemas.dialect import GUIDE, WIRE, Dialect
from ..schemas.fields import is_image_id
from ..security import ADMIN, Permission
from ..web import Request, admit

Acl = list[tuple[Any, ...]]

VERSIONS = ("v1", "v1.0", "v1.1")


class Root:
    """``/``: the guide's spelling below ``images``, the wire's below each version."""

    __parent__ = None
    __name__ = ""
    is_collection = True

    def __init__(self, request: Request) -> None:
        admit(request)
        self.request = request

    def __acl__(self) -> Acl:
        return [(Allow, f"role:{ADMIN}", ALL_PERMISSIONS)]

    def __getitem__(self, segment: str) -> "ImageContainer | V1":
        if segment == "images":
            return ImageContainer(self, segment, self.request, GUIDE)
        if segment in VERSIONS:
            return V1(self, segment, self.request)
        if re.fullmatch("v[0-9].*", segment):
            raise NotFound(f"There is no version {segment[:20]!a} here; there are {', '.join(VERSIONS)}.")
        raise KeyError(segment)


class V1:
    """``/v1``: the wire's spelling."""

    def __init__(self, parent: Root, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request

    def __getitem__(self, segment: str) -> "ImageContainer":
        if segment != "images":
            raise KeyError(segment)
        return ImageContainer(self, segment, self.request, WIRE)


class ImageContainer:
    """``/images`` and ``/v1/images``: the images the caller may see."""

    is_collection = True

    def __init__(self, parent: Root | V1, name: str, request: Request, dialect: Dialect) -> None:
        self.__parent__, self.__name__, self.request, self.dialect = parent, name, request, dialect
        version = f"/{parent.__name__}" if parent.__name__ else ""
        self.url = f"{request.service_url}{version}/images"

    def __acl__(self) -> Acl:
        acl: Acl = [(Allow, Authenticated, Permission.ADD_IMAGE), (Allow, Everyone, Permission.LIST_IMAGES)]
        if self.request.settings.publicize_image == "owner":
            acl.append((Allow, Authenticated, Permission.PUBLICIZE_IMAGE))
        return acl

    def __getitem__(self, segment: str) -> "ImageResource":
        """Find one image: one SELECT, and none unless ``segment`` has the form of an id."""
        if not is_image_id(segment):
            raise KeyError(segment)  # "detail" is the name of a view
        image = self.request.images.find(segment, viewer=self.request.identity)
        if image is None:  # absent or invisible: the caller must not learn which
            raise KeyError(segment)
        return ImageResource(self, segment, image)


class ImageResource:
    """``/images/<id>``: one image that the caller may see."""

    is_collection = False

    def __init__(self, parent: ImageContainer, name: str, image: Image) -> None:
        self.__parent__, self.__name__, self.image = parent, name, image
        self.dialect = parent.dialect

    @property
    def url(self) -> str:
        """The image's own URL, in the dialect it was asked in."""
        return f"{self.__parent__.url}/{self.image.id}"

    @property
    def why_denied(self) -> str:
        """What to tell a caller who may not."""
        if self.image.protected:
            return "The image is protected, or not yours; its owner can PUT x-image-meta-protected: false first."
        return "The image is not yours."

    def __acl__(self) -> Acl:
        acl: Acl = [(Deny, Everyone, Permission.DELETE_IMAGE)] if self.image.protected else []
        if self.image.owner is not None:
            owner = f"project:{self.image.owner}"
            acl += [(Allow, owner, Permission.CHANGE_IMAGE), (Allow, owner, Permission.DELETE_IMAGE)]
        return [*acl, (Allow, Everyone, Permission.VIEW_IMAGE)]
