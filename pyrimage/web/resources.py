"""Resources that every face has: images are found, and shared, in the same way.

A resource is an address, an ACL and at most one record. A face says in classes of its own what stands around these.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from ..catalogue.records import Image
from ..environ import IMAGE_ID
from ..errors import Forbidden, PyrimageError
from ..identity.policy import Ace, Acl, acl_of_member, acl_of_members, acl_of_shared_images
from .fields import IMAGE_ID_FORM, is_member_id
from .paths import check_request
from .request import Request
from .views import get_view_config

_ROOT_CHILDREN = "pyrimage.root_children"


class Parent(Protocol):
    """A resource that others stand below."""

    __name__: str


class SharedImage(Parent, Protocol):
    """A face's resource of an image. sharing_refusal: what is told who sees the image and may not share it."""

    image: Image

    @property
    def sharing_refusal(self) -> PyrimageError:
        """The error to raise."""


class Root:
    """``/``. Every request begins here, so what may not come in at all is refused here.

    One face makes the tree; another adds resources of its own to it, with ``add_root_child``.
    """

    __parent__ = None
    __name__ = ""
    is_collection = True

    def __init__(self, request: Request) -> None:
        check_request(request)
        self.request = request

    @property
    def added(self) -> Mapping[str, Callable[["Root", str, Request], Any]]:
        """What makes the resources that another face has added, by their names."""
        added: dict[str, Callable[[Root, str, Request], Any]] = self.request.registry[_ROOT_CHILDREN]
        return added


def add_root_child(config: Configurator, segment: str, factory: Callable[[Root, str, Request], Any]) -> None:
    """Let ``/<segment>`` be what ``factory`` makes of the root, the segment and the request."""
    config.registry[_ROOT_CHILDREN][segment] = factory


def includeme(config: Configurator) -> None:
    """Make room for what faces add to the root."""
    config.registry[_ROOT_CHILDREN] = {}


def find_image(request: Request, segment: str) -> Image:
    """Find the image of a URL's segment: one SELECT, and none unless it has the form of an id. Raises KeyError."""
    if not IMAGE_ID_FORM.fullmatch(segment):
        raise KeyError(segment)
    request.environ[IMAGE_ID] = segment
    image = request.catalogue.find(segment, viewer=request.identity)
    if image is None:  # absent or invisible: the caller must not learn which
        raise KeyError(segment)
    return image


class MemberContainer:
    """``/images/<id>/members``: with whom the image is shared."""

    is_collection = True

    def __init__(self, parent: SharedImage, name: str, request: Request) -> None:
        self.__parent__, self.__name__, self.request = parent, name, request
        self.image = parent.image

    @property
    def refusal(self) -> PyrimageError:
        """What a caller is told who may not."""
        return self.__parent__.sharing_refusal

    def __acl__(self) -> Iterator[Ace]:
        return acl_of_members(self.request, self.image)

    def __getitem__(self, segment: str) -> "MemberResource":
        """Find the address of a member, which a PUT may fill; whether it is one, the view asks."""
        if not is_member_id(segment):
            raise KeyError(segment)
        return MemberResource(self, segment)


class MemberResource:
    """``/images/<id>/members/<member>``: one project that the image is, or will be, shared with."""

    is_collection = False

    def __init__(self, parent: MemberContainer, name: str) -> None:
        self.__parent__, self.__name__, self.image = parent, name, parent.image

    @property
    def refusal(self) -> PyrimageError:
        """What a caller is told who may not."""
        return self.__parent__.refusal

    def __acl__(self) -> Acl:
        return acl_of_member(self.__name__)


class SharedImages:
    """``/shared-images``: nothing by itself."""

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


@get_view_config(context=Root, name="healthcheck", permission=NO_PERMISSION_REQUIRED)
def check_health(context: Root, request: Request) -> Response:
    """``GET /healthcheck``: OK, to everybody; it asks neither the database nor a store."""
    return Response("OK", content_type="text/plain")
