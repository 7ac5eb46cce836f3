"""With whom images are shared: list, replace, add, change, remove. Source: v1, "Members" and "Registry API"."""

from pyramid.response import Response
from pyramid.view import view_config

from ...api import responses
from ...schemas.member import read_can_share, read_memberships
from ...security import Permission
from ...web import Request, method_not_allowed
from ..resources import MemberContainer, MemberResource, SharedWith


@view_config(context=MemberContainer, request_method="GET", permission=Permission.VIEW_IMAGE)
def list_members(context: MemberContainer, request: Request) -> Response:
    """List the members of an image. 200."""
    return responses.member_list(request.members.of(context.image.id))


@view_config(context=MemberContainer, request_method="PUT", permission=Permission.SHARE_IMAGE)
def replace_members(context: MemberContainer, request: Request) -> Response:
    """Make those of the body the only members. 204, 400, 403, 404, 413."""
    request.members.replace(context.image.id, read_memberships(request))
    return Response(status=204)


@view_config(context=MemberResource, request_method="PUT", permission=Permission.SHARE_IMAGE)
def put_member(context: MemberResource, request: Request) -> Response:
    """Add a member, or change what it may. 204, 400, 403, 404, 413."""
    request.members.put(context.image.id, context.__name__, read_can_share(request))
    return Response(status=204)


@view_config(context=MemberResource, request_method="DELETE", permission=Permission.REMOVE_MEMBER)
def remove_member(context: MemberResource, request: Request) -> Response:
    """Share the image with this project no more. 204, 403, 404."""
    request.members.remove(context.image.id, context.__name__)
    return Response(status=204)


@view_config(context=SharedWith, request_method="GET", permission=Permission.LIST_SHARED_IMAGES)
def list_shared_images(context: SharedWith, request: Request) -> Response:
    """List the images that others share with a project. 200, 403."""
    return responses.shared_images(request.members.shared_with(context.__name__))


@view_config(context=MemberContainer)
def refuse_members_method(context: MemberContainer, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD", "PUT")


@view_config(context=MemberResource)
def refuse_member_method(context: MemberResource, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "PUT", "DELETE")


@view_config(context=SharedWith)
def refuse_shared_method(context: SharedWith, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD")
