"""Uploads under way, and bytes to remove: a view for each method of ``Claims``. Source: ours.

``begin``, ``reserve`` and ``end`` are asked on behalf of whoever uploads; the rest is the work of servers and of the
scrubber, so it is for administrators. A claim's key is random and stands in no answer but to administrators: who knows
it is the server that made it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyramid.response import Response
from pyramid.view import view_config

from ...api.responses import json_response
from ...errors import Forbidden, NotFound
from ...images.interfaces import Claims
from ...records import Claim
from ...schemas import claim as schema
from ...security import Permission
from ...web import Request, method_not_allowed
from .. import responses
from ..resources import ClaimContainer, ImageContainer

NAMES = ("begin", "reserve", "renew", "end", "expired", "seize", "is_located", "garbage", "forget_garbage")


@view_config(context=ClaimContainer, name="begin", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def begin(context: ClaimContainer, request: Request) -> Response:
    """Claim an image for an upload: ``{"held": 1048576}``, or null. 200, 400, 403, 404, 409, 413."""
    claim, is_new = schema.read_begin(request)
    _check_uploader(context, request, claim, is_new=is_new)
    with _own_transaction(request) as claims:
        return json_response({"held": claims.begin(claim, is_new=is_new)})


@view_config(context=ClaimContainer, name="reserve", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def reserve(context: ClaimContainer, request: Request) -> Response:
    """Enlarge a claim: ``{"held": 1048576}``, or null. 200, 400, 403, 409, 413."""
    claim, came = schema.read_reserve(request)
    if not request.identity.is_admin and claim.owner != request.identity.project:
        raise Forbidden("The claim is not yours.")
    with _own_transaction(request) as claims:
        return json_response({"held": claims.reserve(claim, came)})


@view_config(context=ClaimContainer, name="end", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def end(context: ClaimContainer, request: Request) -> Response:
    """Forget the claim of a failed upload. 204, 400, 403."""
    key, image_id, reason = schema.read_end(request)
    with _own_transaction(request) as claims:
        claims.end(key, image_id, reason)
    return Response(status=204)


@view_config(context=ClaimContainer, name="renew", request_method="POST", permission=Permission.CLEAN_UP)
def renew(context: ClaimContainer, request: Request) -> Response:
    """Renew the leases of a server's claims. 204, 400, 403."""
    keys = schema.read_keys(request)
    with _own_transaction(request) as claims:
        claims.renew(keys)
    return Response(status=204)


@view_config(context=ClaimContainer, name="expired", request_method="POST", permission=Permission.CLEAN_UP)
def expired(context: ClaimContainer, request: Request) -> Response:
    """List claims whose lease is over. 200, 400, 403."""
    grace, image_id = schema.read_expired(request)
    with _own_transaction(request) as claims:
        return responses.claims(claims.expired(grace, image_id))


@view_config(context=ClaimContainer, name="seize", request_method="POST", permission=Permission.CLEAN_UP)
def seize(context: ClaimContainer, request: Request) -> Response:
    """Take an expired claim away from its upload: ``{"seized": true}``. 200, 400, 403."""
    claim, grace = schema.read_seize(request)
    with _own_transaction(request) as claims:
        return json_response({"seized": claims.seize(claim, grace)})


@view_config(context=ClaimContainer, name="is_located", request_method="POST", permission=Permission.CLEAN_UP)
def is_located(context: ClaimContainer, request: Request) -> Response:
    """Say whether an image's location names the claim's key: ``{"is_located": true}``. 200, 400, 403."""
    claim = schema.read_claim(request)
    with _own_transaction(request) as claims:
        return json_response({"is_located": claims.is_located(claim)})


@view_config(context=ClaimContainer, name="garbage", request_method="POST", permission=Permission.CLEAN_UP)
def garbage(context: ClaimContainer, request: Request) -> Response:
    """List the places of bytes to remove. 200, 403."""
    with _own_transaction(request) as claims:
        return json_response({"garbage": responses.locations(claims.garbage())})


@view_config(context=ClaimContainer, name="forget_garbage", request_method="POST", permission=Permission.CLEAN_UP)
def forget_garbage(context: ClaimContainer, request: Request) -> Response:
    """Forget a place whose bytes are gone. 204, 400, 403."""
    location = schema.read_location(request)
    with _own_transaction(request) as claims:
        claims.forget_garbage(location)
    return Response(status=204)


def refuse_method(context: ClaimContainer, request: Request) -> Response:
    """Answer any other method: 405."""
    raise method_not_allowed(request, "POST")


for _name in NAMES:
    view_config(context=ClaimContainer, name=_name)(refuse_method)


def _check_uploader(context: ClaimContainer, request: Request, claim: Claim, *, is_new: bool) -> None:
    """Let those claim an image who may change it, in its owner's name; a new id, all who may claim at all."""
    owner, images = request.identity.project, ImageContainer(context.__parent__, "images", request)
    if not is_new:
        try:
            place = images[claim.image_id]
        except KeyError as error:
            raise NotFound(f"There is no image {claim.image_id}.") from error
        owner = place.image.owner
        if not request.has_permission(Permission.CHANGE_IMAGE, place):
            raise place.refusal
    if not request.identity.is_admin and claim.owner != owner:
        raise Forbidden("body.claim.owner: must be the image's owner, and a new image's is your project.")


@contextmanager
def _own_transaction(request: Request) -> Iterator[Claims]:
    """Give the claims, whose calls are transactions of their own: no request ever holds two connections."""
    request.tm.abort()
    try:
        yield request.blobs.claims
    finally:
        request.tm.begin()
