"""With whom images are shared, on every face: JSON bodies, answers and views.

Source: docs/v1.md, "Members" and "Who may".
"""

from collections.abc import Mapping
from typing import Any

import colander
from pyramid.response import Response
from pyramid.view import view_config

from ..identity.policy import Permission
from .bodies import JsonType, Object, read_json
from .fields import Flag, is_member_id
from .request import Request
from .resources import MemberContainer, MemberResource, SharedWith
from .responses import json_response
from .views import get_view_config


class CanShare(JsonType):
    """Whether a member may share: a JSON boolean, or a word or number that is one in Glance, and in our headers.

    Glance takes every text but the empty one for yes, ``"false"`` too.
    """

    kind, name = (bool, int, str), "true or false"

    def read(self, node: colander.SchemaNode, value: bool | int | str) -> bool:
        """Return what the word stands for."""
        word = str(value).strip().lower()
        if word not in Flag.WORDS:
            raise colander.Invalid(node, f"must be {self.name}")
        return Flag.WORDS[word]


class MemberId(JsonType):
    """The name of a member."""

    kind, name = str, "a text"

    def read(self, node: colander.SchemaNode, value: str) -> str:
        """Return the name."""
        if not is_member_id(value):
            raise colander.Invalid(
                node,
                "must be 1 to 255 characters without slash, backslash and control characters; "
                "nor may it be . or .., or begin with @@",
            )
        return value


class Memberships(JsonType, colander.Positional):
    """A list of ``Membership``: a mapping of each member's name to ``can_share``.

    Ends at the first fault, where colander's own sequence would go on and report a hundred thousand.
    """

    kind, name = list, 'a list such as [{"member_id": "<project>", "can_share": false}]'

    def read(self, node: colander.SchemaNode, value: list[Any]) -> dict[str, bool | None]:
        """Return the mapping."""
        found: dict[str, bool | None] = {}
        for number, item in enumerate(value):
            try:
                membership = _MEMBERSHIP.deserialize(item)
            except colander.Invalid as invalid:
                error = colander.Invalid(node)
                error.add(invalid, number)
                raise error from invalid
            if membership["member_id"] in found:
                raise colander.Invalid(node, f"{membership['member_id']!a} is there twice")
            found[membership["member_id"]] = membership["can_share"]
        return found


def _node(type_: colander.SchemaType, **options: Any) -> colander.SchemaNode:
    return colander.SchemaNode(type_, missing_msg=f"is missing; it must be {type_.name}", **options)


class Membership(colander.Schema):
    """In: {"member_id": "tenant-b"}. Out: {"member_id": "tenant-b", "can_share": None}: not said."""

    schema_type = Object

    member_id = _node(MemberId())
    can_share = _node(CanShare(), missing=None)


class Replacement(colander.Schema):
    """In: {"memberships": [{"member_id": "tenant-b", "can_share": true}]}. Out: {"memberships": {"tenant-b": True}}."""

    schema_type = Object

    memberships = _node(Memberships())


class Terms(colander.Schema):
    """In: {"can_share": true}. Out: the same; None where it is not said."""

    schema_type = Object

    can_share = _node(CanShare(), missing=None)


class Change(colander.Schema):
    """In: {"member": {"can_share": true}}. Out: the same."""

    schema_type = Object

    member = Terms(missing_msg='is missing; it must be an object such as {"can_share": false}')


_MEMBERSHIP = Membership()
_REPLACEMENT = Replacement(name="body")
_CHANGE = Change(name="body")


def read_memberships(request: Request) -> Mapping[str, bool | None]:
    """Read ``PUT .../members``: every member that shall be, and whether it may share; None where that is not said.

    Raises Invalid, LimitExceeded.
    """
    memberships: dict[str, bool | None] = read_json(request, _REPLACEMENT, absent={})["memberships"]
    return memberships


def read_can_share(request: Request) -> bool | None:
    """Read ``PUT .../members/<member>``: whether it may share; None where that is not said, or there is no body.

    Raises Invalid, LimitExceeded.
    """
    can_share: bool | None = read_json(request, _CHANGE, absent={"member": {}})["member"]["can_share"]
    return can_share


@get_view_config(context=MemberContainer, permission=Permission.VIEW_IMAGE)
def list_members(context: MemberContainer, request: Request) -> Response:
    """List the members: ``{"members": [{"member_id": "tenant-b", "can_share": false}]}``. 200."""
    members = request.catalogue.members_of(context.image.id, request.identity)
    return json_response({"members": [{"member_id": each.member, "can_share": each.can_share} for each in members]})


@view_config(context=MemberContainer, request_method="PUT", permission=Permission.SHARE_IMAGE)
def replace_members(context: MemberContainer, request: Request) -> Response:
    """Make those of the body the only members. 204, 400, 403, 404, 413."""
    request.writes.replace_members(context.image.id, read_memberships(request), request.identity)
    return Response(status=204)


@view_config(context=MemberResource, request_method="PUT", permission=Permission.SHARE_IMAGE)
def put_member(context: MemberResource, request: Request) -> Response:
    """Add a member, or change what it may. 204, 400, 403, 404, 413."""
    request.writes.put_member(context.image.id, context.__name__, read_can_share(request), request.identity)
    return Response(status=204)


@view_config(context=MemberResource, request_method="DELETE", permission=Permission.REMOVE_MEMBER)
def remove_member(context: MemberResource, request: Request) -> Response:
    """Share the image with this project no more. 204, 403, 404."""
    request.writes.remove_member(context.image.id, context.__name__, request.identity)
    return Response(status=204)


@get_view_config(context=SharedWith, permission=Permission.LIST_SHARED_IMAGES)
def list_shared_images(context: SharedWith, request: Request) -> Response:
    """List what a project shares in: ``{"shared_images": [{"image_id": "...", "can_share": false}]}``. 200, 403."""
    members = request.catalogue.shared_with(context.__name__, request.identity)
    images = [{"image_id": each.image_id, "can_share": each.can_share} for each in members]
    return json_response({"shared_images": images})
