"""The ACLs of sharing, asked as the views ask them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN, ALICE, BOB, NOBODY, add_row, insert_rows, make_image
from pyrimage.api.resources import ImageContainer, ImageResource, MemberContainer, MemberResource, Root, SharedImages
from pyrimage.errors import Forbidden, NotFound, PyrimageError
from pyrimage.models import MemberRow
from pyrimage.records import Image, utcnow
from pyrimage.schemas.dialect import WIRE
from pyrimage.security import Identity, Permission
from pyrimage.web import Request

if TYPE_CHECKING:
    from conftest import Installation

MakeRequest = Callable[..., Request]

SHARER = Identity(user="eve", project="tenant-s", roles=frozenset({"member"}))
STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
PROJECT_ADMIN = Identity(user="root", project="tenant-d", roles=frozenset({"admin"}))
BLANK = Identity(user="dave", project="")

VIEW, SHARE, REMOVE = Permission.VIEW_IMAGE, Permission.SHARE_IMAGE, Permission.REMOVE_MEMBER
SHARING = {VIEW, SHARE, REMOVE}


@pytest.fixture
def image(installation: "Installation") -> Image:
    """An image of Alice's that Bob's project is a member of, and another project that can share it."""
    add_row(installation, id="f17", owner="tenant-a")
    shares = {"tenant-b": False, "tenant-s": True}
    insert_rows(installation, *(MemberRow(image_id="f17", member=m, can_share=s) for m, s in shares.items()))
    return make_image(id="f17", owner="tenant-a")


@contextmanager
def below(make_request: MakeRequest, identity: Identity, image: Image) -> Iterator[ImageResource]:
    """Give an image's place in the tree of a request."""
    request = make_request(identity=identity)
    request.tm.begin()
    try:
        yield ImageResource(ImageContainer(Root(request), "images", request, WIRE), image.id, image)
    finally:
        request.tm.abort()


def members_of(place: ImageResource) -> MemberContainer:
    found = place["members"]
    assert isinstance(found, MemberContainer)
    return found


def allowed(place: Any, request: Request) -> set[Permission]:
    return {permission for permission in SHARING if request.has_permission(permission, place)}


@pytest.mark.parametrize(
    ("identity", "of_all", "of_own", "of_other"),
    [
        *((identity, SHARING, SHARING, SHARING) for identity in (ALICE, SHARER, ADMIN, PROJECT_ADMIN)),
        (BOB, {VIEW}, {VIEW, REMOVE}, {VIEW}),
        (STRANGER, {VIEW}, {VIEW, REMOVE}, {VIEW}),  # of a public image; the view then finds no member
        *((identity, {VIEW}, {VIEW}, {VIEW}) for identity in (BLANK, NOBODY)),
    ],
)
def test_what_is_allowed_below_an_image(
    identity: Identity,
    of_all: set[Permission],
    of_own: set[Permission],
    of_other: set[Permission],
    make_request: MakeRequest,
    image: Image,
) -> None:
    with below(make_request, identity, image) as place:
        members = members_of(place)
        places = [members, members[identity.project or "nobody"], members["other"]]
        assert [allowed(each, members.request) for each in places] == [of_all, of_own, of_other]


@pytest.mark.parametrize("identity", [ALICE, BOB, SHARER, NOBODY])
def test_an_image_without_owner_is_shared_by_administrators_and_members_that_can(
    identity: Identity, make_request: MakeRequest, image: Image
) -> None:
    with below(make_request, identity, make_image(id=image.id)) as place:
        members = members_of(place)
        assert bool(members.request.has_permission(SHARE, members)) is (identity is SHARER)


@pytest.mark.parametrize(
    ("identity", "kind"), [(BOB, NotFound), (ALICE, NotFound), (BLANK, NotFound), (NOBODY, Forbidden)]
)
def test_what_a_refused_caller_is_told(
    identity: Identity, kind: type[PyrimageError], make_request: MakeRequest, image: Image
) -> None:
    with below(make_request, identity, image) as place:
        for each in (members_of(place), members_of(place)["x"]):
            assert type(each.refusal) is kind


@pytest.mark.parametrize(("project", "identity"), [("tenant-a", ALICE), ("tenant-b", BOB), ("tenant-s", SHARER)])
def test_what_is_shared_is_for_the_project_and_administrators_s10(
    project: str, identity: Identity, make_request: MakeRequest
) -> None:
    for caller in (ALICE, BOB, SHARER, BLANK, NOBODY, ADMIN):
        request = make_request(identity=caller)
        place = SharedImages(Root(request), "shared-images")[project]
        may = bool(request.has_permission(Permission.LIST_SHARED_IMAGES, place))
        assert may is (caller in (identity, ADMIN))
        assert isinstance(place.refusal, Forbidden)


@pytest.mark.parametrize("segment", ["", "Members", "member", "File", "files", "x"])
def test_below_an_image_are_its_members_and_its_file_alone(
    segment: str, make_request: MakeRequest, image: Image
) -> None:
    with below(make_request, ADMIN, image) as place, pytest.raises(KeyError):
        place[segment]


def test_below_a_deleted_image_is_nothing(make_request: MakeRequest, image: Image) -> None:
    with below(make_request, ADMIN, make_image(id=image.id, deleted_at=utcnow())) as place, pytest.raises(KeyError):
        place["members"]


def test_the_place_of_a_member_asks_the_database_for_nothing(
    make_request: MakeRequest, image: Image, statements: list[str]
) -> None:
    with below(make_request, BOB, image) as place:
        statements.clear()
        members = members_of(place)
        assert isinstance(members["never heard of"], MemberResource)
        assert statements == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "n" * 256])
def test_what_cannot_be_a_member_has_no_place(name: str, make_request: MakeRequest, image: Image) -> None:
    with below(make_request, ADMIN, image) as place:
        for parent in (members_of(place), SharedImages(Root(members_of(place).request), "shared-images")):
            with pytest.raises(KeyError):
                parent[name]
