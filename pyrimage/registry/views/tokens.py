"""Tokens that log users in at API servers: a view for each method of ``Tokens``. Source: ours.

All is the work of servers, so it is for administrators. What is kept of a token lets nobody log in with it.
"""

from pyramid.response import Response
from pyramid.view import view_config

from ...catalogue.records import json_record
from ...identity.policy import Permission
from ...web.request import Request
from ...web.responses import json_response
from ..resources import TokenContainer
from ..schemas.token import read_token, read_words


@view_config(context=TokenContainer, name="add", request_method="POST", permission=Permission.KEEP_TOKENS)
def add(context: TokenContainer, request: Request) -> Response:
    """Store a token. 204, 400, 403, and 404 if the one that it was made from has ended."""
    request.catalogue.tokens.add(read_token(request))
    return Response(status=204)


@view_config(context=TokenContainer, name="find", request_method="POST", permission=Permission.KEEP_TOKENS)
def find(context: TokenContainer, request: Request) -> Response:
    """Find a token by its digest: ``{"token": {...}}``, or null. 200, 400, 403."""
    found = request.catalogue.tokens.find(**read_words(request, "find"))
    return json_response({"token": None if found is None else json_record(found)})


@view_config(context=TokenContainer, name="of_user", request_method="POST", permission=Permission.KEEP_TOKENS)
def of_user(context: TokenContainer, request: Request) -> Response:
    """List the API tokens of a user, or of all: ``{"tokens": [{...}]}``. 200, 400, 403."""
    found = request.catalogue.tokens.of_user(**read_words(request, "of_user"))
    return json_response({"tokens": [json_record(each) for each in found]})


@view_config(context=TokenContainer, name="note_use", request_method="POST", permission=Permission.KEEP_TOKENS)
def note_use(context: TokenContainer, request: Request) -> Response:
    """Write down that a token was used. 204, 400, 403."""
    words = read_words(request, "note_use")
    request.catalogue.tokens.note_use(words["id"], words["now"], words["since"])
    return Response(status=204)


@view_config(context=TokenContainer, name="revoke", request_method="POST", permission=Permission.KEEP_TOKENS)
def revoke(context: TokenContainer, request: Request) -> Response:
    """Remove a token: ``{"revoked": true}``. 200, 400, 403."""
    token_id = read_words(request, "revoke")["id"]
    return json_response({"revoked": request.catalogue.tokens.revoke(token_id)})


@view_config(context=TokenContainer, name="revoke_all", request_method="POST", permission=Permission.KEEP_TOKENS)
def revoke_all(context: TokenContainer, request: Request) -> Response:
    """Remove all tokens of a user: ``{"count": 2}``. 200, 400, 403."""
    return json_response({"count": request.catalogue.tokens.revoke_all(**read_words(request, "revoke_all"))})


@view_config(context=TokenContainer, name="limit_logins", request_method="POST", permission=Permission.KEEP_TOKENS)
def limit_logins(context: TokenContainer, request: Request) -> Response:
    """Remove a user's oldest logins. 204, 400, 403."""
    request.catalogue.tokens.limit_logins(**read_words(request, "limit_logins"))
    return Response(status=204)


@view_config(context=TokenContainer, name="remove_expired", request_method="POST", permission=Permission.KEEP_TOKENS)
def remove_expired(context: TokenContainer, request: Request) -> Response:
    """Remove tokens that have expired, or count them: ``{"count": 2}``. 200, 400, 403."""
    words = read_words(request, "remove_expired")
    return json_response({"count": request.catalogue.tokens.remove_expired(**words)})
