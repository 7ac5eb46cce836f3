"""What rows know of stores, for API servers, which have the stores. Source: ours."""

from pyramid.response import Response
from pyramid.view import view_config

from ...catalogue.interfaces import RegistryCatalogue
from ...identity.policy import Permission
from ...web.request import Request
from ...web.responses import json_response
from ..resources import StoreContainer
from ..schemas.store import read_words


@view_config(context=StoreContainer, name="find", request_method="POST", permission=Permission.KNOW_STORES)
def find(context: StoreContainer, request: Request) -> Response:
    """Find the identity that a store's directory carries: ``{"identity": "..."}``, or null. 200, 400, 403."""
    words = read_words(request, "find")
    return json_response({"identity": _catalogue(request).identities.find(words["name"])})


@view_config(context=StoreContainer, name="name", request_method="POST", permission=Permission.KNOW_STORES)
def name(context: StoreContainer, request: Request) -> Response:
    """Find the store whose directory carries an identity: ``{"name": "file"}``, or null. 200, 400, 403."""
    words = read_words(request, "name")
    return json_response({"name": _catalogue(request).identities.name_of(words["identity"])})


@view_config(context=StoreContainer, name="introduce", request_method="POST", permission=Permission.KNOW_STORES)
def introduce(context: StoreContainer, request: Request) -> Response:
    """Give a store an identity, or in place of another; it has ``{"identity": "..."}`` then. 200, 400, 403, 409."""
    words = read_words(request, "introduce")
    identities = _catalogue(request).identities
    return json_response({"identity": identities.introduce(words["name"], words["identity"], words["replaces"])})


@view_config(context=StoreContainer, name="keys", request_method="POST", permission=Permission.KNOW_STORES)
def keys(context: StoreContainer, request: Request) -> Response:
    """List keys of a store, a page at a time: ``{"keys": [["...", true]]}``, of images or garbage. 200, 400, 403."""
    words = read_words(request, "keys")
    found = _catalogue(request).identities.keys(words["name"], words["after"] or "")
    return json_response({"keys": [[key, is_active] for key, is_active in found]})


@view_config(context=StoreContainer, name="total", request_method="POST", permission=Permission.KNOW_STORES)
def total(context: StoreContainer, request: Request) -> Response:
    """Say how many images have bytes, and how many: ``{"images": 2, "bytes": 1048576}``. 200, 403."""
    images, size = _catalogue(request).active.total()
    return json_response({"images": images, "bytes": size})


def _catalogue(request: Request) -> RegistryCatalogue:
    catalogue: RegistryCatalogue = request.registry["pyrimage.catalogue"]
    return catalogue
