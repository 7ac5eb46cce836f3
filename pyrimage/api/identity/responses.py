"""The JSON of answers, as Keystone's API v3 has it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pyramid.response import Response

from ...catalogue.records import READER
from ...identity.tokens import TokenLogin
from ...web.request import Request
from ...web.responses import json_response
from .schemas.login import DOMAIN_ID, DOMAIN_NAME

REGION = "RegionOne"
INTERFACES = ("public", "internal", "admin")
VERSION, UPDATED = "v3.14", "2020-04-07T00:00:00Z"  # of Keystone's API, of which these calls are a part

_DOMAIN = {"id": DOMAIN_ID, "name": DOMAIN_NAME}
_NEVER = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - UTC, as all times here; clients want a time


def identity_url(request: Request) -> str:
    """Return the URL of the version, which is clients' ``auth_url``."""
    return f"{request.service_url}/identity/v3"


def version(request: Request) -> dict[str, Any]:
    """Describe the one version."""
    media_type = "application/vnd.openstack.identity-v3+json"
    return {
        "id": VERSION,
        "status": "stable",
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{identity_url(request)}/"}],
        "media-types": [{"base": "application/json", "type": media_type}],
    }


def catalogue(request: Request) -> list[dict[str, Any]]:
    """Say where the services are: this one, which is two."""
    urls = {"image": request.service_url, "identity": identity_url(request)}
    return [
        {"id": kind, "type": kind, "name": "pyrimage", "endpoints": [_endpoint(kind, each, url) for each in INTERFACES]}
        for kind, url in urls.items()
    ]


def _endpoint(kind: str, interface: str, url: str) -> dict[str, str]:
    places = {"region": REGION, "region_id": REGION}
    return {"id": f"{kind}-{interface}", "interface": interface, "url": url, **places}


def token(request: Request, secret: str, login: TokenLogin, method: str, status: int = 200) -> Response:
    """Describe a valid token, whose secret goes into ``X-Subject-Token``."""
    row, identity = login.token, login.identity
    shown = {
        "methods": [method],
        "user": {"domain": _DOMAIN, "id": row.user, "name": row.user, "password_expires_at": None},
        "audit_ids": [row.id, row.parent] if row.parent else [row.id],
        "issued_at": _time(row.created_at),
        "expires_at": _time(row.expires_at or _NEVER),
        "project": {"domain": _DOMAIN, "id": identity.project, "name": identity.project},
        "is_domain": False,
        "roles": [{"id": role, "name": role} for role in sorted(identity.roles if identity.can_write else {READER})],
        "catalog": catalogue(request),
    }
    response = json_response({"token": shown}, status)
    response.headers["X-Subject-Token"] = secret
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "X-Auth-Token"
    return response


def projects(request: Request, names: Iterable[str]) -> Response:
    """List projects."""
    shown = [
        {"id": name, "name": name, "domain_id": DOMAIN_ID, "enabled": True, "is_domain": False, "description": ""}
        for name in names
    ]
    links = {"self": f"{identity_url(request)}/auth/projects", "next": None, "previous": None}
    return json_response({"projects": shown, "links": links})


def services(request: Request) -> Response:
    """List the services and their endpoints."""
    return json_response({"catalog": catalogue(request), "links": {"self": f"{identity_url(request)}/auth/catalog"}})


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
