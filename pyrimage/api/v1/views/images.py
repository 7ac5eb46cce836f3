"""The images: list, add, show, download, change, delete. Source: docs/v1.md, "Operations"."""

from pyramid.exceptions import PredicateMismatch
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config

from ....catalogue.records import Image, Status
from ....catalogue.rules import check_changeable, check_publicity, check_registration
from ....environ import IMAGE_ID
from ....errors import NotFound
from ....identity.policy import Permission
from ....uploads.receive import open_reader, receive, remove_after_commit, temporary_url
from ....web.bodies import has_body
from ....web.errors import error_view
from ....web.listing import API_LIST, read_list_query
from ....web.request import Request
from ....web.views import get_view_config
from .. import responses
from ..resources import V1, ImageContainer, ImageFile, ImageResource
from ..schemas.conditions import CONDITIONS, check_preconditions, is_known, read_range
from ..schemas.dialect import shown_location
from ..schemas.headers import header_name
from ..schemas.image import read_changed_image, read_new_image


@get_view_config(context=ImageContainer, permission=Permission.LIST_IMAGES)
def list_images(context: ImageContainer, request: Request) -> Response:
    """List in brief. 200, 400."""
    images = request.catalogue.brief_page(read_list_query(request, API_LIST), request.identity)
    return responses.image_list(context.url, context.dialect, images)


@get_view_config(context=V1, permission=Permission.LIST_IMAGES)
def list_images_of_version(context: V1, request: Request) -> Response:
    """List in brief at ``/v1/``, to which ``/v1`` leads. 200, 302, 400."""
    if not request.environ["PATH_INFO"].endswith("/"):
        return responses.moved(request, f"{context.url}/")
    return list_images(context.images, request)


@get_view_config(context=ImageContainer, name="detail", permission=Permission.LIST_IMAGES)
def list_images_in_detail(context: ImageContainer, request: Request) -> Response:
    """List with everything that is known. 200, 400."""
    images = request.catalogue.page(read_list_query(request, API_LIST), request.identity)
    return responses.detailed_list(request, context.url, context.dialect, images)


@view_config(context=ImageContainer, request_method="POST", permission=Permission.ADD_IMAGE)
def add_image(context: ImageContainer, request: Request) -> Response:
    """Create an image from its headers and, if present, store the body or register a location.

    201, 400, 403, 409, 413, 502, 503, 504, 507.
    """
    draft = read_new_image(request, context.dialect)
    request.environ[IMAGE_ID] = draft.image.id
    check_publicity(request.settings, request.identity, draft, header_name)
    check_registration(request.settings, request.identity, draft, header_name)
    blob = receive(request, draft)
    image = draft.completed(blob)
    request.writes.add(image, blob)  # SQL last: no lock is held while bytes arrive
    return responses.image_created(request, f"{context.url}/{image.id}", context.dialect, image)


@exception_view_config(PredicateMismatch, request_method="DELETE", path_info=".*/images/$")
def refuse_blank_id(error: PredicateMismatch, request: Request) -> Response:
    """Answer ``DELETE /images/``, which names an image whose id is blank: 404, not the 405 of other methods."""
    return error_view(NotFound("An image's id is missing at the path's end."), request)


@get_view_config(context=ImageResource, permission=Permission.VIEW_IMAGE)
def show_image(context: ImageResource, request: Request) -> Response:
    """Show an image's headers (HEAD), and send its bytes or a part of them (GET).

    200, 206, 304, 307 to the store, 404 without readable data, 412, 416, 500, 502, 503, 504.
    """
    image = context.image
    if request.method != "HEAD":
        _check_readable(image)
    metadata = context.dialect.headers(image, context.url, shown_location(request, image))
    return _send_data(request, image, metadata)


@get_view_config(context=ImageFile, permission=Permission.VIEW_IMAGE)
def send_file(context: ImageFile, request: Request) -> Response:
    """Send an image's bytes, or a part of them, and nothing else that is known about it.

    200, 206, 304, 307 to the store, 404 without readable data (for HEAD too), 412, 416, 500, 502, 503, 504.
    """
    _check_readable(context.image)
    return _send_data(request, context.image, ())


def _check_readable(image: Image) -> None:
    if image.status != Status.ACTIVE:
        raise NotFound(f"Image {image.id} is {image.status}: it has no data to read.")


def _send_data(request: Request, image: Image, metadata: responses.Metadata) -> Response:
    is_conditional = not CONDITIONS.isdisjoint(request.environ)
    if is_conditional:
        check_preconditions(request, image)
        if is_known(request, image):
            return responses.image_unchanged(image, metadata)
    if request.method == "HEAD":
        return responses.image_headers(image, metadata)
    byte_range = read_range(request, image) if "HTTP_RANGE" in request.environ else None
    # A client repeats what it sent to whom it is sent: credentials, and conditions on tags that a store does not have.
    if request.settings.redirect_downloads == "anonymous" and not is_conditional and not request.has_credentials:
        url = temporary_url(request, image, responses.content_disposition(image))
        if url is not None:
            return responses.image_elsewhere(url, metadata)
    where = (byte_range.offset, byte_range.length) if byte_range else ()
    return responses.image_data(request, image, metadata, open_reader(request, image, *where), byte_range)


@view_config(context=ImageResource, request_method="PUT", permission=Permission.CHANGE_IMAGE)
def change_image(context: ImageResource, request: Request) -> Response:
    """Change what is known about an image, or give a queued one its data.

    200, 400, 403, 404, 409, 412, 413, 502, 503, 504, 507.
    """
    image = context.image
    check_changeable(image, has_data=has_body(request))
    draft = read_changed_image(request, context.dialect, image)
    check_publicity(request.settings, request.identity, draft, header_name)
    check_registration(request.settings, request.identity, draft, header_name)
    check_preconditions(request, image)
    blob = receive(request, draft)
    changed = request.writes.change(image, draft.completed(blob), blob, purge=draft.purge)
    return responses.image_json(request, context.url, context.dialect, changed)


@view_config(context=ImageResource, request_method="DELETE", permission=Permission.DELETE_IMAGE)
def delete_image(context: ImageResource, request: Request) -> Response:
    """Delete an image; its bytes go after the commit. 200 without a body, 403, 404, 409, 412."""
    request.writes.remove(context.image, keep_status=not CONDITIONS.isdisjoint(request.environ))
    check_preconditions(request, context.image)  # last: it counts only where nothing else is in the way
    remove_after_commit(request)
    return Response(content_type="text/plain")
