"""The tree of the registry: the API's places without versions, and one for claims."""

from pyramid.authorization import Allow, Authenticated

from ..api import resources
from ..api.resources import SharedImages
from ..errors import Forbidden
from ..schemas.dialect import RECORD
from ..security import ACL_OF_ALL, Acl, Permission, acl_of_images
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


class ImageContainer(resources.ImageContainer):
    """``/images``: the images the caller may see."""

    def __init__(self, parent: Root, name: str, request: Request) -> None:
        super().__init__(parent, name, request, RECORD)

    def __getitem__(self, segment: str) -> "ImageResource":
        """Find one image, as the API does."""
        return ImageResource(self, segment, super().__getitem__(segment).image)


class ImageResource(resources.ImageResource):
    """``/images/<id>``: one image that the caller may see."""

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not."""
        return Forbidden("The image is protected, or not yours." if self.image.protected else "The image is not yours.")

    def __getitem__(self, segment: str) -> "MemberContainer":
        if segment != "members" or self.image.deleted:
            raise KeyError(segment)  # the API has files here, a registry has no bytes
        return MemberContainer(self, segment, self.__parent__.request)


class MemberContainer(resources.MemberContainer):
    """``/images/<id>/members``: with whom the image is shared. The API's views serve it."""

    @property
    def refusal(self) -> Forbidden:
        """What a caller is told who may not; the API would say 404."""
        return Forbidden(f"Only its owner, and members that can share it, may change the members of {self.image.id}.")


class ClaimContainer:
    """``/claims``: uploads under way, and bytes to remove; each operation is a named view."""

    is_collection = True

    def __init__(self, parent: Root, name: str) -> None:
        self.__parent__, self.__name__ = parent, name

    def __acl__(self) -> Acl:
        return [(Allow, Authenticated, Permission.CLAIM_UPLOAD)]
