"""The places beside the images: which versions there are, and whether the server is up."""

from typing import Any

from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...web import Request, method_not_allowed
from ..resources import Root, VersionChoice
from ..responses import json_response


@view_config(context=Root, request_method="GET", permission=NO_PERMISSION_REQUIRED)
@view_config(context=VersionChoice, permission=NO_PERMISSION_REQUIRED)
def choose_version(context: Root | VersionChoice, request: Request) -> Response:
    """``GET /``, and any path where ``Accept`` wants another version: 300 and the versions."""
    return json_response(_versions(request), status=300)


@view_config(context=Root, name="versions", request_method="GET", permission=NO_PERMISSION_REQUIRED)
def list_versions(context: Root, request: Request) -> Response:
    """``GET /versions``: 200 and the versions."""
    return json_response(_versions(request))


@view_config(context=Root, name="healthcheck", request_method="GET", permission=NO_PERMISSION_REQUIRED)
def check_health(context: Root, request: Request) -> Response:
    """``GET /healthcheck``: OK, to everybody; it asks neither the database nor a store."""
    return Response("OK", content_type="text/plain")


@view_config(context=Root)
@view_config(context=Root, name="versions")
@view_config(context=Root, name="healthcheck")
def refuse_method(context: Root, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "GET", "HEAD")


def _versions(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.service_url}/v1/"}]
    return {
        "versions": [
            {"id": "v1.1", "status": "CURRENT", "links": links},
            {"id": "v1.0", "status": "SUPPORTED", "links": links},
        ]
    }
