"""The tree that URLs walk: a resource is a place, an ACL, and at most one record."""

import re
from collections.abc import Iterator
from typing import Protocol

from pyramid.authorization import Allow, Authenticated, Everyone

from ..errors import Forbidden, NotFound
from ..logs import IMAGE_ID
from ..records import Image
from ..schemas.conditions import read_accept
from ..schemas.dialect import GUIDE, WIRE, Dialect
from ..schemas.fields import is_image_id
from ..schemas.member import is_member_id
from ..security import (
    ACL_OF_ALL,
    Ace,
    Acl,
    Permission,
    acl_of_image,
    acl_of_images,
    acl_of_member,
    acl_of_members,
    acl_of_shared_images,
)
from ..web import Request, admit

VERSIONS = ("v1", "v1.0", "v1.1")

_NOT_FOR_ACCEPT = re.compile("/(v[0-9][^/]*|versions|healthcheck)(/|$)")


class Parent(Protocol):
    """A place that others stand below: a root or a version here, the registry's root there."""

    __name__: str


def find_root(request: Request) -> "Root | V1 | VersionChoice":
    """Find where the path begins: ``Accept`` may name the version that the path does not."""
    root = Root(request)
    if _NOT_FOR_ACCEPT.match(request.environ["PATH_INFO"]):
        return root
    dialect = read_accept(request)
    if dialect is GUIDE:
        return root
    return VersionChoice(root) if dialect is None else V1(root, VERSIONS[0], request)


class Root:
    """``/``: the guide's spelling below ``images``, the wire's below each version."""

    __parent__ = None
    __name__ = ""
    is_collection = True

    def __init__(self, request: Request) -> None:
        admit(request)
        self.request = request

    def __acl__(self) -> Acl:
        return ACL_OF_ALL

    def __getitem__(self, segment: str) -> "ImageContainer | SharedImages | V1":
        if segment == "images":
            return ImageContainer(self, segment, self.request, GUIDE)
        if segment in VERSIONS:
            return V1(self, segment, self.request)
        if re.fullmatch("v[0-9].*", segment):
            raise NotFound(f"There is no version {segment[:20]!a} here; there are {', '.join(VERSIONS)}.")
        if segment == "shared-images":
            return SharedImages(self, segment)
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
            return self.images
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
        return acl_of_images(self.request.settings)

    def __getitem__(self, segment: str) -> "ImageResource":
        """Find one image: one SELECT, and none unless ``segment`` has the form of an id."""
        if not is_image_id(segment):
            raise KeyError(segment)  # "detail" is the name of a view
        self.request.environ[IMAGE_ID] = segment
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
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        if self.image.protected:
            reason = "The image is protected, or not yours; its owner can PUT x-image-meta-protected: false first."
        else:
            reason = "The image is not yours."
        return Forbidden(reason)

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


class MemberContainer:
    """``/images/<id>/members``: with whom the image is shared."""

    is_collection = True

    def __init__(self, parent: ImageResource, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request
        self.image, self._caller = parent.image, request.identity

    @property
    def refusal(self) -> Forbidden | NotFound:
        """What a caller is told who sees the image and may not share it: 404, as Glance's API says."""
        message = f"Only the owner of image {self.image.id}, and members that can share it, may change its members."
        return NotFound(message) if Authenticated in self._caller.principals else Forbidden(message)

    def __acl__(self) -> Iterator[Ace]:
        return acl_of_members(self.request, self.image)

    def __getitem__(self, segment: str) -> "MemberResource":
        """Find the place of a member, which a PUT may fill; whether it is one, the view asks."""
        if not is_member_id(segment):
            raise KeyError(segment)
        return MemberResource(self, segment)


class MemberResource:
    """``/images/<id>/members/<member>``: one project that the image is, or will be, shared with."""

    is_collection = False

    def __init__(self, parent: MemberContainer, name: str) -> None:
        self.__parent__, self.__name__, self.image = parent, name, parent.image

    @property
    def refusal(self) -> Forbidden | NotFound:
        """What a caller is told who may not."""
        return self.__parent__.refusal

    def __acl__(self) -> Acl:
        return acl_of_member(self.__name__)


class SharedImages:
    """``/shared-images`` and ``/v1/shared-images``: nothing by itself."""

    is_collection = True

    def __init__(self, parent: Parent, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    def __getitem__(self, segment: str) -> "SharedWith":
        if not is_member_id(segment):
            raise KeyError(segment)
        return SharedWith(self, segment)


class SharedWith:
    """``/shared-images/<member>``: the images that others share with a project."""

    is_collection = False

    def __init__(self, parent: SharedImages, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return Forbidden("Only a project itself, and administrators, may list what is shared with it.")

    def __acl__(self) -> Acl:
        return acl_of_shared_images(self.__name__)
