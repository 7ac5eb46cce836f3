"""The tree that URLs walk. Source: docs/v1.md, "Two spellings" and "Operations"."""

import re
from typing import Any

from pyramid.authorization import Allow, Everyone

from ...catalogue.records import Image
from ...errors import Forbidden, NotFound
from ...identity.policy import ACL_OF_ALL, ACL_OF_IMAGES, Acl, Permission, acl_of_image
from ...web import resources
from ...web.request import Request
from ...web.resources import MemberContainer, Parent, SharedImages, find_image
from .schemas.dialect import GUIDE, WIRE, Dialect, read_accept

VERSIONS = ("v1", "v1.0", "v1.1")

_NOT_FOR_ACCEPT = re.compile("/(v[0-9][^/]*|versions|healthcheck)(/|$)")


def find_root(request: Request) -> "Root | V1 | VersionChoice":
    """Find where the path begins: ``Accept`` may name the version that the path does not."""
    root = Root(request)
    path = request.environ["PATH_INFO"]
    if _NOT_FOR_ACCEPT.match(path) or path[1:].partition("/")[0] in root.added:
        return root
    dialect = read_accept(request)
    if dialect is GUIDE:
        return root
    return VersionChoice(root) if dialect is None else V1(root, VERSIONS[0], request)


class Root(resources.Root):
    """``/``: the guide's spelling below ``images``, the wire's below each version."""

    def __acl__(self) -> Acl:
        return ACL_OF_ALL

    def __getitem__(self, segment: str) -> Any:
        if segment == "images":
            return ImageContainer(self, segment, self.request, GUIDE)
        if segment in VERSIONS:
            return V1(self, segment, self.request)
        if segment == "shared-images":
            return SharedImages(self, segment)
        if segment in self.added:
            return self.added[segment](self, segment, self.request)
        if re.fullmatch("v[0-9].*", segment):
            raise NotFound(f"There is no version {segment[:20]!a} here; there are {', '.join(VERSIONS)}.")
        raise KeyError(segment)


class VersionChoice:
    """Any path, where ``Accept`` wants a version that is not here: only the list of those that are."""

    __name__ = ""
    is_collection = True

    def __init__(self, parent: Root) -> None:
        self.__parent__ = parent

    def __getitem__(self, segment: str) -> "VersionChoice":
        return self


class V1:
    """``/v1``: the wire's spelling."""

    is_collection = True

    def __init__(self, parent: Root, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request

    @property
    def url(self) -> str:
        """The version's own URL, without the slash that its list has."""
        return f"{self.request.service_url}/{self.__name__}"

    @property
    def images(self) -> "ImageContainer":
        """The images, which are listed here as well."""
        return ImageContainer(self, "images", self.request, WIRE)

    def __acl__(self) -> Acl:
        return [(Allow, Everyone, Permission.LIST_IMAGES)]

    def __getitem__(self, segment: str) -> "ImageContainer | SharedImages":
        if segment == "images":
            return ImageContainer(self, segment, self.request, WIRE)
        if segment == "shared-images":
            return SharedImages(self, segment)
        raise KeyError(segment)


class ImageContainer:
    """``/images`` and ``/v1/images``: the images the caller may see."""

    is_collection = True

    def __init__(self, parent: Parent, name: str, request: Request, dialect: Dialect) -> None:
        self.__parent__, self.__name__, self.request, self.dialect = parent, name, request, dialect
        version = f"/{parent.__name__}" if parent.__name__ else ""
        self.url = f"{request.service_url}{version}/images"

    def __acl__(self) -> Acl:
        return ACL_OF_IMAGES

    def __getitem__(self, segment: str) -> "ImageResource":
        """Find one image."""
        return ImageResource(self, segment, find_image(self.request, segment))


class ImageResource:
    """``/images/<id>``: one image that the caller may see."""

    is_collection = False

    def __init__(self, parent: ImageContainer, name: str, image: Image) -> None:
        self.__parent__, self.__name__, self.image = parent, name, image
        self.dialect, self.url = parent.dialect, f"{parent.url}/{image.id}"

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        if self.image.protected:
            reason = "The image is protected, or not yours; its owner can PUT x-image-meta-protected: false first."
        else:
            reason = "The image is not yours."
        return Forbidden(reason)

    @property
    def sharing_refusal(self) -> NotFound:
        """What a caller is told who sees the image and may not share it: 404, as Glance's API says."""
        return NotFound(
            f"Only the owner of image {self.image.id}, and members that can share it, may change its members."
        )

    def __acl__(self) -> Acl:
        return acl_of_image(self.image)

    def __getitem__(self, segment: str) -> "MemberContainer | FileContainer":
        if self.image.deleted:
            raise KeyError(segment)
        if segment == "members":
            return MemberContainer(self, segment, self.__parent__.request)
        if segment == "file":
            return FileContainer(self, segment)
        raise KeyError(segment)


class FileContainer:
    """``/images/<id>/file``: nothing by itself."""

    is_collection = True

    def __init__(self, parent: ImageResource, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    def __getitem__(self, segment: str) -> "ImageFile":
        return ImageFile(self, segment)


class ImageFile:
    """``/images/<id>/file/<any name>``: the image's data, at a URL whose ending tells tools what comes."""

    is_collection = False

    def __init__(self, parent: FileContainer, name: str) -> None:
        self.__parent__, self.__name__, self.image = parent, name, parent.__parent__.image
