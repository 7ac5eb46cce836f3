"""The tree of the registry: images, whose uploads are claimed below them, and claims in general."""

from pyramid.authorization import Allow, Authenticated

from ..catalogue.records import Image
from ..errors import Forbidden
from ..identity.policy import ACL_OF_ALL, ACL_OF_IMAGES, Acl, Permission, acl_of_image
from ..web import resources
from ..web.request import Request
from ..web.resources import MemberContainer, SharedImages, find_image


class Root(resources.Root):
    """``/``: the brief list, and what is below."""

    def __acl__(self) -> Acl:
        return [*ACL_OF_ALL, *ACL_OF_IMAGES]

    def __getitem__(self, segment: str) -> "ImageContainer | SharedImages | Operations":
        if segment == "images":
            return ImageContainer(self, segment, self.request)
        if segment == "shared-images":
            return SharedImages(self, segment)
        return _OPERATIONS[segment](self, segment)


class ImageContainer:
    """``/images``: the images the caller may see."""

    is_collection = True

    def __init__(self, parent: Root, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request

    def __getitem__(self, segment: str) -> "ImageResource":
        return ImageResource(self, segment, find_image(self.request, segment))


class ImageResource:
    """``/images/<id>``: one image that the caller may see."""

    is_collection = False

    def __init__(self, parent: ImageContainer, name: str, image: Image) -> None:
        self.__parent__, self.__name__, self.image = parent, name, image

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return Forbidden("The image is protected, or not yours." if self.image.protected else "The image is not yours.")

    @property
    def sharing_refusal(self) -> Forbidden:
        """What a caller is told who sees the image and may not share it; the API would say 404."""
        return Forbidden(f"Only its owner, and members that can share it, may change the members of {self.image.id}.")

    def __acl__(self) -> Acl:
        return acl_of_image(self.image)

    def __getitem__(self, segment: str) -> "MemberContainer | ImageClaims":
        if segment == "members" and not self.image.deleted:
            return MemberContainer(self, segment, self.__parent__.request)
        if segment == "claims":
            return ImageClaims(self, segment)
        raise KeyError(segment)


class ImageClaims:
    """``/images/<id>/claims``: uploads into an image that is there; who may change it may claim it."""

    is_collection = True

    def __init__(self, parent: ImageResource, name: str) -> None:
        self.__parent__, self.__name__, self.image = parent, name, parent.image

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return self.__parent__.refusal


class Operations:
    """What only servers ask: each operation is a named view, for administrators but where its ACL says else."""

    is_collection = True

    def __init__(self, parent: Root, name: str) -> None:
        self.__parent__, self.__name__ = parent, name


class ClaimContainer(Operations):
    """``/claims``: uploads of new images, and all that is said of claims later."""

    def __acl__(self) -> Acl:
        return [(Allow, Authenticated, Permission.CLAIM_UPLOAD)]


class TokenContainer(Operations):
    """``/tokens``: what logs users in at API servers."""


class StoreContainer(Operations):
    """``/stores``: what rows know of stores."""


_OPERATIONS = {"claims": ClaimContainer, "tokens": TokenContainer, "stores": StoreContainer}
