"""Which versions there are."""

from typing import Any

from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ....web.request import Request
from ....web.responses import json_response
from ....web.views import get_view_config
from ..resources import Root, VersionChoice


@get_view_config(context=Root, permission=NO_PERMISSION_REQUIRED)
@view_config(context=VersionChoice, permission=NO_PERMISSION_REQUIRED)
def choose_version(context: Root | VersionChoice, request: Request) -> Response:
    """``GET /``, and any path where ``Accept`` wants another version: 300 and the versions."""
    return json_response(_versions(request), status=300)


@get_view_config(context=Root, name="versions", permission=NO_PERMISSION_REQUIRED)
def list_versions(context: Root, request: Request) -> Response:
    """``GET /versions``: 200 and the versions."""
    return json_response(_versions(request))


def _versions(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.service_url}/v1/"}]
    return {
        "versions": [
            {"id": "v1.1", "status": "CURRENT", "links": links},
            {"id": "v1.0", "status": "SUPPORTED", "links": links},
        ]
    }
