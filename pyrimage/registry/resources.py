"""The tree of the registry: the API's places without versions, and one for claims."""

from collections.abc import Iterator

from pyramid.authorization import Allow, Authenticated

from ..errors import Forbidden
from ..records import Image
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


class Root:
    """``/``: the brief list, and what is below."""

    __parent__ = None
    __name__ = ""
    is_collection = True

    def __init__(self, request: Request) -> None:
        admit(request)
        self.request = request

    def __acl__(self) -> Acl:
        return [*ACL_OF_ALL, *acl_of_images(self.request.settings)]

    def __getitem__(self, segment: str) -> "ImageContainer | SharedImages | ClaimContainer":
        if segment == "images":
            return ImageContainer(self, segment, self.request)
        if segment == "shared-images":
            return SharedImages(self, segment)
        if segment == "claims":
            return ClaimContainer(self, segment)
        raise KeyError(segment)


class ImageContainer:
    """``/images``: the images the caller may see."""

    is_collection = True

    def __init__(self, parent: Root, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request

    def __getitem__(self, segment: str) -> "ImageResource":
        """Find one image: one SELECT, and none unless ``segment`` has the form of an id."""
        image = self.request.images.find(segment, viewer=self.request.identity) if is_image_id(segment) else None
        if image is None:  # absent or invisible: the caller must not learn which
            raise KeyError(segment)
        return ImageResource(self, segment, image)


class ImageResource:
    """``/images/<id>``: one image that the caller may see."""

    is_collection = False

    def __init__(self, parent: ImageContainer, name: str, image: Image) -> None:
        self.__parent__, self.__name__, self.image = parent, name, image

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return Forbidden("The image is protected, or not yours." if self.image.protected else "The image is not yours.")

    def __acl__(self) -> Acl:
        return acl_of_image(self.image)

    def __getitem__(self, segment: str) -> "MemberContainer":
        if segment != "members" or self.image.deleted:
            raise KeyError(segment)
        return MemberContainer(self, segment, self.__parent__.request)


class MemberContainer:
    """``/images/<id>/members``: with whom the image is shared."""

    is_collection = True

    def __init__(self, parent: ImageResource, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.image, self.request = parent, name, parent.image, request

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not; the API would say 404."""
        return Forbidden(f"Only its owner, and members that can share it, may change the members of {self.image.id}.")

    def __acl__(self) -> Iterator[Ace]:
        return acl_of_members(self.request, self.image)

    def __getitem__(self, segment: str) -> "MemberResource":
        if not is_member_id(segment):
            raise KeyError(segment)
        return MemberResource(self, segment)


class MemberResource:
    """``/images/<id>/members/<member>``: one project that the image is, or will be, shared with."""

    is_collection = False

    def __init__(self, parent: MemberContainer, name: str) -> None:
        self.__parent__, self.__name__, self.image = parent, name, parent.image

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return self.__parent__.refusal

    def __acl__(self) -> Acl:
        return acl_of_member(self.__name__)


class SharedImages:
    """``/shared-images``: nothing by itself."""

    is_collection = True

    def __init__(self, parent: Root, name: str) -> None:
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

    def __acl__(self) -> Acl:
        return acl_of_shared_images(self.__name__)


class ClaimContainer:
    """``/claims``: uploads under way, and bytes to remove; each operation is a named view."""

    is_collection = True

    def __init__(self, parent: Root, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    def __acl__(self) -> Acl:
        return [(Allow, Authenticated, Permission.CLAIM_UPLOAD)]
