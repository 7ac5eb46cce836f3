"""The API's answers, made of plain values: the session is closed before a body is sent."""

import json
from collections.abc import Iterable
from typing import IO, Any
from urllib.parse import quote

from pyramid.response import FileIter, Response

from ..records import Image, Member, Status
from ..schemas.conditions import Part
from ..schemas.dialect import Dialect, shown_location
from ..schemas.image import OCTETS
from ..web import Request


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(json.dumps(value).encode(), status=status, content_type="application/json", charset="UTF-8")


def image_list(request: Request, url: str, dialect: Dialect, images: Iterable[Image], *, detailed: bool) -> Response:
    """Answer a list: ``{"images": [...]}``; ``url`` is the collection's."""
    if detailed:
        items = [dialect.detail(image, f"{url}/{image.id}", shown_location(request, image)) for image in images]
    else:
        items = [dialect.brief(image, f"{url}/{image.id}") for image in images]
    return json_response({"images": items})


def image_json(request: Request, url: str, dialect: Dialect, image: Image, status: int = 200) -> Response:
    """Answer a POST or PUT: the image as headers and as ``{"image": {...}}``."""
    response = json_response({"image": dialect.detail(image, url, shown_location(request, image))}, status)
    _add_headers(response, request, url, dialect, image)
    return response


def image_created(request: Request, url: str, dialect: Dialect, image: Image) -> Response:
    """Answer a POST that made an image: 201, with its place."""
    response = image_json(request, url, dialect, image, status=201)
    response.headers["Location"] = url
    return response


def image_headers(request: Request, url: str, dialect: Dialect, image: Image) -> Response:
    """Answer a HEAD: the image as headers; the length is that of the GET."""
    response = Response(content_type=OCTETS, charset=None)
    _add_headers(response, request, url, dialect, image)
    response.content_length = image.size
    if image.status == Status.ACTIVE:
        response.headers["Accept-Ranges"] = "bytes"
    return response


def image_unchanged(request: Request, url: str, dialect: Dialect, image: Image) -> Response:
    """Answer 304: the client has the bytes. It gets the headers, for these may have changed all the same."""
    response = Response(status=304)
    _add_headers(response, request, url, dialect, image)
    return response


def image_data(
    request: Request, url: str, dialect: Dialect, image: Image, data: IO[bytes] | None, part: Part | None
) -> Response:
    """Answer a GET: the image as headers, and its bytes by the server's fastest way.

    data: a file of exactly the bytes to send, None for no bytes. part: which of the image's they are, None for all.
    """
    response = image_headers(request, url, dialect, image)
    response.headers["Content-Disposition"] = "attachment"
    if data is not None:
        response.app_iter = request.environ.get("wsgi.file_wrapper", FileIter)(data)
        response.content_length = image.size if part is None else part.length
    if part is not None:
        response.status = "206 Partial Content"
        response.headers["Content-Range"] = f"bytes {part.offset}-{part.offset + part.length - 1}/{image.size}"
    return response


def moved(request: Request, url: str) -> Response:
    """Answer 302: the same query at another URL of ours. What a URL cannot hold is percent-encoded (S51)."""
    query = quote(request.environ.get("QUERY_STRING", ""), safe="!$%&'()*+,-./:;=?@_~", encoding="latin-1")
    response = Response(status=302, content_type="text/plain")
    response.headers["Location"] = f"{url}?{query}" if query else url
    return response


def member_list(members: Iterable[Member]) -> Response:
    """Answer with whom an image is shared: ``{"members": [{"member_id": "tenant-b", "can_share": false}]}``."""
    return json_response({"members": [{"member_id": each.member, "can_share": each.can_share} for each in members]})


def shared_images(members: Iterable[Member]) -> Response:
    """Answer what is shared with a project: ``{"shared_images": [{"image_id": "...", "can_share": false}]}``."""
    images = [{"image_id": each.image_id, "can_share": each.can_share} for each in members]
    return json_response({"shared_images": images})


def _add_headers(response: Response, request: Request, url: str, dialect: Dialect, image: Image) -> None:
    response.headers.extend(dialect.headers(image, url, shown_location(request, image)))
    if image.checksum is not None:
        response.headers["ETag"] = image.checksum  # bare digits: clients compare them with the checksum's
