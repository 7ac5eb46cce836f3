"""The images: list, add, show, change, delete. Source: v1, "Registry API"."""

from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...logs import IMAGE_ID
from ...schemas.listing import read_registry_list_query
from ...schemas.record import read_changed_record, read_new_record, spell
from ...security import ADMINISTRATOR, Permission, check_publicity
from ...web import Request, method_not_allowed
from .. import responses
from ..resources import ImageContainer, ImageResource, Root


@view_config(context=Root, request_method="GET", permission=Permission.LIST_IMAGES)
@view_config(context=ImageContainer, request_method="GET", permission=Permission.LIST_IMAGES)
def list_images(context: Root | ImageContainer, request: Request) -> Response:
    """List in brief. 200, 400."""
    query = read_registry_list_query(request)
    return responses.image_list(request.images.page(query, request.identity, detailed=False))


@view_config(context=ImageContainer, name="detail", request_method="GET", permission=Permission.LIST_IMAGES)
def list_images_in_detail(context: ImageContainer, request: Request) -> Response:
    """List with everything that is known. 200, 400."""
    query = read_registry_list_query(request)
    return responses.detailed_list(request, request.images.page(query, request.identity, detailed=True))


@view_config(context=ImageContainer, request_method="POST", permission=Permission.ADD_IMAGE)
def add_image(context: ImageContainer, request: Request) -> Response:
    """Record an image, with the blob that an upload under a claim left. 200, 400, 403, 409, 413."""
    submission, blob = read_new_record(request)
    request.environ[IMAGE_ID] = submission.image.id
    check_publicity(request, context, submission.image, spell("is_public"))
    image = submission.completed(blob)
    request.images.add(image, blob)
    return responses.image_json(request, image)


@view_config(context=ImageResource, request_method="GET", permission=Permission.VIEW_IMAGE)
def show_image(context: ImageResource, request: Request) -> Response:
    """Show an image, whatever its status. 200."""
    return responses.image_json(request, context.image)


@view_config(context=ImageResource, request_method="PUT", permission=Permission.CHANGE_IMAGE)
def change_image(context: ImageResource, request: Request) -> Response:
    """Change what is known, or record the blob of an upload. 200, 400, 403, 409, 413."""
    image = context.image
    submission, blob = read_changed_record(request, image)
    if not image.is_public:
        check_publicity(request, context, submission.image, spell("is_public"))
    changed = request.images.change(image, submission.completed(blob), blob, purge=submission.purge)
    return responses.image_json(request, changed)


@view_config(context=ImageResource, request_method="DELETE", permission=Permission.DELETE_IMAGE)
def delete_image(context: ImageResource, request: Request) -> Response:
    """Delete an image; its bytes are the asking server's to remove, or the scrubber's. 200, 403, 404, 409."""
    garbage = request.images.remove(context.image)
    deleted = request.images.find(context.image.id, ADMINISTRATOR)  # users do not see it any more
    return responses.image_json(request, deleted or context.image, garbage)


@view_config(context=Root, name="healthcheck", request_method="GET", permission=NO_PERMISSION_REQUIRED)
def check_health(context: Root, request: Request) -> Response:
    """``GET /healthcheck``: OK, to everybody; it does not ask the database."""
    return Response("OK", content_type="text/plain")


@view_config(context=ImageContainer)
def refuse_collection_method(context: ImageContainer, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD", "POST")


@view_config(context=Root)
@view_config(context=Root, name="healthcheck")
@view_config(context=ImageContainer, name="detail")
def refuse_list_method(context: Root | ImageContainer, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD")


@view_config(context=ImageResource)
def refuse_image_method(context: ImageResource, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD", "PUT", "DELETE")
