"""The images: list, add, show, download, change, delete. Source: v1, "Operations"."""

import dataclasses

from pyramid.response import Response
from pyramid.view import view_config

from ... import blobs
from ...errors import NotFound
from ...logs import IMAGE_ID
from ...records import Image, Status, utcnow
from ...schemas.conditions import check_preconditions, is_known, read_part
from ...schemas.headers import has_body, header_name
from ...schemas.image import check_changeable, read_change, read_new_image
from ...schemas.listing import read_list_query
from ...security import Permission, check_publicity
from ...web import Request, method_not_allowed
from .. import responses
from ..resources import V1, ImageContainer, ImageFile, ImageResource


@view_config(context=ImageContainer, request_method="GET", permission=Permission.LIST_IMAGES)
def list_images(context: ImageContainer, request: Request) -> Response:
    """List in brief. 200, 400."""
    images = request.images.page(read_list_query(request), request.identity, detailed=False)
    return responses.image_list(request, context.url, context.dialect, images, detailed=False)


@view_config(context=V1, request_method="GET", permission=Permission.LIST_IMAGES)
def list_images_of_version(context: V1, request: Request) -> Response:
    """List in brief at ``/v1/``, to which ``/v1`` leads. 200, 302, 400."""
    if not request.environ["PATH_INFO"].endswith("/"):
        return responses.moved(request, f"{context.url}/")
    return list_images(context.images, request)


@view_config(context=ImageContainer, name="detail", request_method="GET", permission=Permission.LIST_IMAGES)
def list_images_in_detail(context: ImageContainer, request: Request) -> Response:
    """List with everything that is known. 200, 400."""
    images = request.images.page(read_list_query(request), request.identity, detailed=True)
    return responses.image_list(request, context.url, context.dialect, images, detailed=True)


@view_config(context=ImageContainer, request_method="POST", permission=Permission.ADD_IMAGE)
def add_image(context: ImageContainer, request: Request) -> Response:
    """Create an image from its headers and, if present, store the body. 201, 400, 403, 409, 413, 503, 507."""
    submission = read_new_image(request, context.dialect)
    request.environ[IMAGE_ID] = submission.image.id
    check_publicity(request, context, submission.image, header_name("is_public"))
    blob = blobs.receive(request, submission)
    image = submission.completed(blob)
    request.images.add(image, blob)  # SQL last: no lock is held while bytes arrive
    return responses.image_created(request, f"{context.url}/{image.id}", context.dialect, image)


@view_config(context=ImageContainer)
def refuse_collection_method(context: ImageContainer, request: Request) -> Response:
    """Answer any other method: 405; but ``DELETE /images/`` names an image whose id is blank."""
    if request.method == "DELETE" and request.path_info.endswith("/"):
        raise NotFound("An image's id is missing at the path's end.")
    raise method_not_allowed(request, "GET", "HEAD", "POST")


@view_config(context=V1)
@view_config(context=ImageContainer, name="detail")
def refuse_list_method(context: V1 | ImageContainer, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD")


@view_config(context=ImageResource, request_method="GET", permission=Permission.VIEW_IMAGE)
def show_image(context: ImageResource, request: Request) -> Response:
    """Show an image's headers (HEAD), and send its bytes or a part of them (GET).

    200, 206, 304, 404 without readable data, 412, 416, 500, 503.
    """
    image = context.image
    if request.method != "HEAD":
        _check_readable(image)
    return _send_data(request, image, responses.metadata_headers(request, context.url, context.dialect, image))


@view_config(context=ImageFile, request_method="GET", permission=Permission.VIEW_IMAGE)
def send_file(context: ImageFile, request: Request) -> Response:
    """Send an image's bytes, or a part of them, and nothing else that is known about it.

    200, 206, 304, 404 without readable data (for HEAD too), 412, 416, 500, 503.
    """
    _check_readable(context.image)
    return _send_data(request, context.image, ())


def _check_readable(image: Image) -> None:
    if image.status != Status.ACTIVE:
        raise NotFound(f"Image {image.id} is {image.status}: it has no data to read.")


def _send_data(request: Request, image: Image, metadata: responses.Metadata) -> Response:
    check_preconditions(request, image)
    if is_known(request, image):
        return responses.image_unchanged(image, metadata)
    if request.method == "HEAD":
        return responses.image_headers(image, metadata)
    part = read_part(request, image)
    data = blobs.open_reader(request, image, part)
    return responses.image_data(request, image, metadata, data, part)


@view_config(context=ImageResource, request_method="PUT", permission=Permission.CHANGE_IMAGE)
def change_image(context: ImageResource, request: Request) -> Response:
    """Change what is known about an image, or give a queued one its data.

    200, 400, 403, 404, 409, 412, 413, 503, 507.
    """
    image = context.image
    check_changeable(image, has_data=has_body(request))
    submission = read_change(request, context.dialect, image)
    if not image.is_public:
        check_publicity(request, context, submission.image, header_name("is_public"))
    check_preconditions(request, image)
    blob = blobs.receive(request, submission)
    changed = request.images.change(image, submission.completed(blob), blob, purge=submission.purge)
    return responses.image_json(request, context.url, context.dialect, changed)


@view_config(context=ImageResource, request_method="DELETE", permission=Permission.DELETE_IMAGE)
def delete_image(context: ImageResource, request: Request) -> Response:
    """Delete an image; its bytes go after the commit. 200 without a body, 403, 404, 409, 412."""
    image = context.image
    garbage = request.images.remove(image)
    if garbage and image.status == Status.QUEUED:  # an upload was quicker
        image = dataclasses.replace(image, status=Status.ACTIVE, activated_at=utcnow())
    check_preconditions(request, image)  # last: it counts only where nothing else is in the way
    blobs.delete_after_commit(request, garbage)
    return Response(content_type="text/plain")


@view_config(context=ImageResource)
def refuse_image_method(context: ImageResource, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD", "PUT", "DELETE")


@view_config(context=ImageFile)
def refuse_file_method(context: ImageFile, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD")
