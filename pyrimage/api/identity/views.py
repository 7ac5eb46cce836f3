"""The calls: which versions there are, logging in, and what is asked about a token.

All are open, for none is about images; those that want a login ask for it themselves.
Source: docs/tokens.md, "The calls".
"""

from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...catalogue.records import Identity as Caller
from ...environ import IDENTITY
from ...errors import Invalid, NotFound, Unauthenticated
from ...identity.logins import Logins
from ...identity.passwords import CHALLENGE
from ...identity.tokens import TokenLogin
from ...web.request import Request
from ...web.responses import json_response
from ...web.views import get_view_config
from . import responses
from .resources import V3, Auth, Identity
from .schemas.login import Password, read_login

SUBJECT = "X-Subject-Token"


@get_view_config(context=Identity, permission=NO_PERMISSION_REQUIRED)
def list_versions(context: Identity, request: Request) -> Response:
    """``GET /identity``: 300 and the one version."""
    return json_response({"versions": {"values": [responses.version(request)]}}, status=300)


@get_view_config(context=V3, permission=NO_PERMISSION_REQUIRED)
def show_version(context: V3, request: Request) -> Response:
    """``GET /identity/v3``: what the version is."""
    return json_response({"version": responses.version(request)})


@view_config(context=Auth, name="tokens", request_method="POST", permission=NO_PERMISSION_REQUIRED)
def log_in(context: Auth, request: Request) -> Response:
    """Give out a token. 201, 400, 401, 413, 429."""
    asked, logins = read_login(request), _logins(request)
    if isinstance(asked.proof, Password):
        address = request.environ.get("REMOTE_ADDR", "")
        secret, login = logins.by_password(asked.proof.name, asked.proof.password, address, asked.project)
    else:
        secret, login = logins.by_token(asked.proof.secret, asked.proof.id, asked.project)
    request.environ[IDENTITY] = login.identity  # whom the log's lines about this request name
    return responses.token(request, secret, login, asked.method, status=201)


@get_view_config(context=Auth, name="tokens", permission=NO_PERMISSION_REQUIRED)
def show_token(context: Auth, request: Request) -> Response:
    """Describe the token in ``X-Subject-Token``. 200, 400, 401, 404."""
    login = _subject(request)
    method = "token" if login.token.parent else "password" if login.token.is_login else "application_credential"
    return responses.token(request, request.headers[SUBJECT], login, method)


@view_config(context=Auth, name="tokens", request_method="DELETE", permission=NO_PERMISSION_REQUIRED)
def revoke_token(context: Auth, request: Request) -> Response:
    """End the token in ``X-Subject-Token``, and those that were made from it. 204, 400, 401, 404."""
    _logins(request).tokens.revoke(_subject(request).token)
    return Response(status=204)


@get_view_config(context=Auth, name="catalog", permission=NO_PERMISSION_REQUIRED)
def list_services(context: Auth, request: Request) -> Response:
    """Say where the services are. 200, 401."""
    _caller(request)
    return responses.services(request)


@get_view_config(context=Auth, name="projects", permission=NO_PERMISSION_REQUIRED)
def list_projects(context: Auth, request: Request) -> Response:
    """List the caller's projects. 200, 401."""
    return responses.projects(request, _logins(request).projects_of(_caller(request)))


def _logins(request: Request) -> Logins:
    logins: Logins = request.registry["pyrimage.logins"]
    return logins


def _caller(request: Request) -> Caller:
    """Return who asks. Raises Unauthenticated, also where nobody may read images."""
    caller: Caller = request.identity
    if not caller.is_known:
        raise Unauthenticated("Log in with a name and password, or a token.", CHALLENGE)
    return caller


def _subject(request: Request) -> TokenLogin:
    """Find the token that is asked about, which is none but for who shows a login. Raises Invalid, NotFound too."""
    _caller(request)
    secret = request.headers.get(SUBJECT)
    if secret is None:
        raise Invalid(f"{SUBJECT} is missing: the token that is asked about.")
    login = _logins(request).tokens.find(secret)
    if login is None:
        raise NotFound(f"{SUBJECT} is no valid token.")
    return login
