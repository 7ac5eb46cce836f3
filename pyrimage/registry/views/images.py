"""The images: list, add, show, change, delete. Source: docs/v1.md, "Registry API"."""

from pyramid.response import Response
from pyramid.view import view_config

from ...catalogue.rules import check_publicity, check_registration
from ...environ import IMAGE_ID
from ...identity.policy import Permission
from ...web.listing import REGISTRY_LIST, read_list_query
from ...web.request import Request
from ...web.views import get_view_config
from .. import responses
from ..resources import ImageContainer, ImageResource, Root
from ..schemas.conditions import check_removable
from ..schemas.draft import read_changed_record, read_new_record
from ..schemas.record import spell


@get_view_config(context=Root, permission=Permission.LIST_IMAGES)
@get_view_config(context=ImageContainer, permission=Permission.LIST_IMAGES)
def list_images(context: Root | ImageContainer, request: Request) -> Response:
    """List in brief. 200, 400."""
    query = read_list_query(request, REGISTRY_LIST)
    return responses.image_list(request.catalogue.brief_page(query, request.identity))


@get_view_config(context=ImageContainer, name="detail", permission=Permission.LIST_IMAGES)
def list_images_in_detail(context: ImageContainer, request: Request) -> Response:
    """List with everything that is known. 200, 400."""
    query = read_list_query(request, REGISTRY_LIST)
    return responses.detailed_list(request, request.catalogue.page(query, request.identity))


@view_config(context=ImageContainer, request_method="POST", permission=Permission.ADD_IMAGE)
def add_image(context: ImageContainer, request: Request) -> Response:
    """Record an image, with its blob if an upload left one or it is registered. 200, 400, 403, 409, 413."""
    draft = read_new_record(request)
    request.environ[IMAGE_ID] = draft.image.id
    check_publicity(request.settings, request.identity, draft, spell)
    check_registration(request.settings, request.identity, draft, spell)
    image = draft.completed(draft.blob)
    request.writes.add(image, draft.blob)
    return responses.image_json(request, image)


@get_view_config(context=ImageResource, permission=Permission.VIEW_IMAGE)
def show_image(context: ImageResource, request: Request) -> Response:
    """Show an image, whatever its status. 200."""
    return responses.image_json(request, context.image)


@view_config(context=ImageResource, request_method="PUT", permission=Permission.CHANGE_IMAGE)
def change_image(context: ImageResource, request: Request) -> Response:
    """Change what is known, or record the blob of a queued image. 200, 400, 403, 409, 413."""
    draft = read_changed_record(request, context.image)
    check_publicity(request.settings, request.identity, draft, spell)
    check_registration(request.settings, request.identity, draft, spell)
    changed = request.writes.change(context.image, draft.completed(draft.blob), draft.blob, purge=draft.purge)
    return responses.image_json(request, changed)


@view_config(context=ImageResource, request_method="DELETE", permission=Permission.DELETE_IMAGE)
def delete_image(context: ImageResource, request: Request) -> Response:
    """Delete an image; its bytes are the asking server's to remove, or the scrubber's. 200, 400, 403, 404, 409, 412."""
    keep_status = check_removable(request, context.image)
    deleted = request.writes.remove(context.image, keep_status=keep_status)
    return responses.image_json(request, deleted, request.writes.garbage)
