"""The API's answers, made of plain values: the session is closed before a body is sent."""

import json
from collections.abc import Iterable
from typing import IO, Any

from pyramid.response import FileIter, Response

from ..records import Image
from ..schemas.dialect import Dialect
from ..schemas.image import OCTETS
from ..web import Request


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(json.dumps(value).encode(), status=status, content_type="application/json", charset="UTF-8")


def image_list(request: Request, url: str, dialect: Dialect, images: Iterable[Image], *, detailed: bool) -> Response:
    """Answer a list: ``{"images": [...]}``; ``url`` is the collection's."""
    if detailed:
        items = [dialect.detail(image, f"{url}/{image.id}", _location(request, image)) for image in images]
    else:
        items = [dialect.brief(image, f"{url}/{image.id}") for image in images]
    return json_response({"images": items})


def image_json(request: Request, url: str, dialect: Dialect, image: Image, status: int = 200) -> Response:
    """Answer a POST or PUT: the image as headers and as ``{"image": {...}}``."""
    response = json_response({"image": dialect.detail(image, url, _location(request, image))}, status)
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
    return response


def image_data(request: Request, url: str, dialect: Dialect, image: Image, data: IO[bytes] | None) -> Response:
    """Answer a GET: the image as headers, and its bytes by the server's fastest way. data: None for no bytes."""
    response = image_headers(request, url, dialect, image)
    response.headers["Content-Disposition"] = "attachment"
    if data is not None:
        response.app_iter = request.environ.get("wsgi.file_wrapper", FileIter)(data)
        response.content_length = image.size
    return response


def _add_headers(response: Response, request: Request, url: str, dialect: Dialect, image: Image) -> None:
    response.headers.extend(dialect.headers(image, url, _location(request, image)))
    if image.checksum is not None:
        response.headers["ETag"] = image.checksum  # bare digits: clients compare them with the checksum's


def _location(request: Request, image: Image) -> str | None:
    if image.location is None or not request.identity.is_admin:
        return None
    store = request.stores.get(image.location.store)  # what is known shows also where the store is not configured
    return None if store is None else store.url(image.location.key)
