"""Uploads under way, and bytes to remove: a view for each method of ``Claims``. Source: ours.

Begin, ``reserve`` and ``end`` are asked on behalf of whoever uploads, by a server that signs; the rest is the work of
servers and of the scrubber, so it is for administrators. A claim's key is random and stands in no answer but to
administrators: who knows it is the server that made it.
"""

from pyramid.response import Response
from pyramid.view import view_config

from ...catalogue.records import Claim
from ...errors import Forbidden, Invalid
from ...identity.policy import Permission
from ...web.request import Request
from ...web.responses import json_response
from .. import responses
from ..callers import check_uploader
from ..idempotency import block, refuse_used
from ..resources import ClaimContainer, ImageClaims
from ..schemas import claim as schema


@view_config(context=ClaimContainer, name="begin", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def begin_new(context: ClaimContainer, request: Request) -> Response:
    """Claim a new id for an upload: ``{"held": 1048576}``, or null. 200, 400, 403, 409, 413."""
    claim = schema.read_new_claim(request)
    return _begin(request, claim, request.identity.project, is_new=True)


@view_config(context=ImageClaims, request_method="POST", permission=Permission.CHANGE_IMAGE)
def begin(context: ImageClaims, request: Request) -> Response:
    """Claim an image for an upload: ``{"held": 1048576}``, or null. 200, 400, 403, 404, 409, 413."""
    claim = schema.read_new_claim(request)
    if claim.image_id != context.image.id:
        raise Invalid("body.claim.image_id: must be the image's.")
    return _begin(request, claim, context.image.owner, is_new=False)


def _begin(request: Request, claim: Claim, owner: str | None, *, is_new: bool) -> Response:
    check_uploader(request)
    # Its key has ended, with its image or without: who sends the request again begins no second claim.
    refuse_used(request, claim.key, "The upload of this claim has ended.")
    if not request.identity.is_admin and claim.owner != owner:
        raise Forbidden("body.claim.owner: must be the image's owner, and a new image's is your project.")
    return json_response({"held": request.catalogue.claims.begin(claim, request.identity, is_new=is_new)})


@view_config(context=ClaimContainer, name="reserve", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def reserve(context: ClaimContainer, request: Request) -> Response:
    """Enlarge a claim: ``{"held": 1048576}``, or null. 200, 400, 403, 409, 413."""
    check_uploader(request)
    claim, came = schema.read_reserve(request)
    if not request.identity.is_admin and claim.owner != request.identity.project:
        raise Forbidden("The claim is not yours.")
    return json_response({"held": request.catalogue.claims.reserve(claim, came)})


@view_config(context=ClaimContainer, name="end", request_method="POST", permission=Permission.CLAIM_UPLOAD)
def end(context: ClaimContainer, request: Request) -> Response:
    """Forget the claim of a failed upload. 204, 400, 403."""
    check_uploader(request)
    key, image_id, reason = schema.read_end(request)
    claims = request.catalogue.claims
    claims.end(key, image_id, reason)
    if not claims.known([key]):
        block(request, key)
    return Response(status=204)


@view_config(context=ClaimContainer, name="renew", request_method="POST", permission=Permission.CLEAN_UP)
def renew(context: ClaimContainer, request: Request) -> Response:
    """Renew the leases of a server's claims. 204, 400, 403."""
    keys = schema.read_keys(request)
    request.catalogue.claims.renew(keys)
    return Response(status=204)


@view_config(context=ClaimContainer, name="expired", request_method="POST", permission=Permission.CLEAN_UP)
def expired(context: ClaimContainer, request: Request) -> Response:
    """List claims whose lease is over. 200, 400, 403."""
    grace, image_id = schema.read_expired(request)
    return responses.claims(request.catalogue.claims.expired(grace, image_id))


@view_config(context=ClaimContainer, name="seize", request_method="POST", permission=Permission.CLEAN_UP)
def seize(context: ClaimContainer, request: Request) -> Response:
    """Take an expired claim away from its upload: ``{"seized": true}``. 200, 400, 403."""
    claim, grace = schema.read_seize(request)
    return json_response({"seized": request.catalogue.claims.seize(claim, grace)})


@view_config(context=ClaimContainer, name="is_located", request_method="POST", permission=Permission.CLEAN_UP)
def is_located(context: ClaimContainer, request: Request) -> Response:
    """Say whether an image's location names the claim's key: ``{"is_located": true}``. 200, 400, 403."""
    claim = schema.read_claim(request)
    return json_response({"is_located": request.catalogue.claims.is_located(claim)})


@view_config(context=ClaimContainer, name="known", request_method="POST", permission=Permission.CLEAN_UP)
def known(context: ClaimContainer, request: Request) -> Response:
    """Say which of some keys a claim or a location names: ``{"keys": ["..."]}``. 200, 400, 403."""
    keys = schema.read_keys(request)
    return json_response({"keys": sorted(request.catalogue.claims.known(keys))})


@view_config(context=ClaimContainer, name="garbage", request_method="POST", permission=Permission.CLEAN_UP)
def garbage(context: ClaimContainer, request: Request) -> Response:
    """List the locations of bytes to remove. 200, 403."""
    return json_response({"garbage": responses.locations(request.catalogue.claims.garbage())})


@view_config(context=ClaimContainer, name="forget_garbage", request_method="POST", permission=Permission.CLEAN_UP)
def forget_garbage(context: ClaimContainer, request: Request) -> Response:
    """Forget a location whose bytes are gone. 204, 400, 403."""
    location = schema.read_location(request)
    request.catalogue.claims.forget_garbage(location)
    return Response(status=204)
