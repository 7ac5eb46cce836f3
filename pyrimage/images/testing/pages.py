"""The behaviour of the lists of ``Images``."""

from datetime import timedelta
from typing import Any

import pytest

from ...errors import Invalid
from ...records import Image, Status
from ...schemas.listing import ListQuery
from ...security import Identity
from .catalogue import ADMIN, ANONYMOUS, BLANK, MEMBER, MEMBER_ADMIN, NOON, OWNER, STRANGER, TEXTS, Catalogue


class PagesConformance:
    """Scopes, order, paging and the name filter."""

    @pytest.mark.parametrize(
        ("viewer", "query", "visible"),
        [
            pytest.param(ADMIN, {"is_public": None}, {"private", "public", "shared", "nobody's"}, id="admin: all"),
            pytest.param(ADMIN, {"is_public": True}, {"public"}, id="admin: public"),
            pytest.param(ADMIN, {"is_public": False}, {"private", "shared", "nobody's"}, id="admin: private"),
            pytest.param(ADMIN, {"default_scope": True}, {"public"}, id="admin: own list"),
            pytest.param(
                MEMBER_ADMIN, {"default_scope": True}, {"public", "shared"}, id="admin of a project: own list"
            ),
            pytest.param(OWNER, {}, {"private", "public", "shared"}, id="owner"),
            pytest.param(MEMBER, {}, {"public", "shared"}, id="member"),
            pytest.param(STRANGER, {}, {"public"}, id="stranger"),
            pytest.param(BLANK, {}, {"public"}, id="blank project"),
            pytest.param(ANONYMOUS, {}, {"public"}, id="anonymous"),
        ],
    )
    def test_a_page_shows_what_the_viewer_may_see(
        self, catalogue: Catalogue, viewer: Identity, query: dict[str, Any], visible: set[str]
    ) -> None:
        kinds = catalogue.one_of_each()
        assert sorted(catalogue.ids(viewer, **query)) == sorted(kinds[kind] for kind in visible)

    def test_pages_are_newest_first_and_equal_times_sort_by_id(self, catalogue: Catalogue) -> None:
        expected = ["newest", "b", "a.", "a-", "a", "_", "B", "A", "1", "oldest"]
        for image_id in sorted(expected):
            seconds = {"newest": 1, "oldest": -1}.get(image_id, 0)
            catalogue.add(id=image_id, created_at=NOON + timedelta(microseconds=seconds), is_public=True)
        assert catalogue.ids() == catalogue.ids(ANONYMOUS) == expected

    def test_the_pages_of_several_scopes_merge_into_one_order(self, catalogue: Catalogue) -> None:
        scopes: list[dict[str, Any]] = [{"is_public": True}, {"owner": "tenant-b"}, {"owner": "tenant-a"}]
        images = [catalogue.add(id=str(number), **scopes[number % 3]) for number in range(9)]
        for image in images[2::3]:
            catalogue.share(image.id, "tenant-b")
        assert catalogue.ids(MEMBER) == [str(number) for number in reversed(range(9))]
        assert catalogue.ids(MEMBER, limit=4) == ["8", "7", "6", "5"]
        assert catalogue.ids(MEMBER, limit=4, marker="5") == ["4", "3", "2", "1"]

    def test_an_image_that_is_public_own_and_shared_is_listed_once(self, catalogue: Catalogue) -> None:
        image = catalogue.add(owner="tenant-b", is_public=True)
        catalogue.share(image.id, "tenant-b")
        assert catalogue.ids(MEMBER) == [image.id]

    def test_a_limit_of_zero_lists_nothing(self, catalogue: Catalogue) -> None:
        catalogue.add()
        assert catalogue.ids(limit=0) == []

    def test_queued_images_are_listed_and_killed_ones_are_not(self, catalogue: Catalogue) -> None:
        queued = catalogue.add(is_public=True)
        catalogue.add(is_public=True, status=Status.KILLED)
        assert catalogue.ids() == catalogue.ids(ANONYMOUS) == [queued.id]

    def test_a_detailed_page_holds_what_find_gives(self, catalogue: Catalogue) -> None:
        images = [
            catalogue.upload("key", id="2", properties={"os": "linux", "empty": ""}),
            catalogue.add(id="1", name="f17"),
            catalogue.add(id="0", properties={"os": "none"}),
        ]
        with catalogue.transaction() as transaction:
            page = transaction.page(ListQuery(default_scope=False), ADMIN, detailed=True)
        assert page == images

    def test_pages_together_hold_every_image_once(self, catalogue: Catalogue) -> None:
        for number in range(7):
            catalogue.add(created_at=NOON + timedelta(microseconds=number // 3))
        pages = [catalogue.ids(limit=2)]
        while pages[-1]:
            pages.append(catalogue.ids(limit=2, marker=pages[-1][-1]))
        assert [image_id for page in pages for image_id in page] == catalogue.ids()

    def test_paging_goes_on_where_it_was_when_images_come_and_go(self, catalogue: Catalogue) -> None:
        def add(image_id: str) -> Image:
            return catalogue.add(id=image_id, created_at=NOON + timedelta(seconds=int(image_id)))

        images = {image_id: add(image_id) for image_id in ("1", "3", "5", "7", "9")}
        assert catalogue.ids(limit=2) == ["9", "7"]
        add("8")
        add("6")
        catalogue.remove(images["9"])
        catalogue.remove(images["5"])
        assert catalogue.ids(limit=2, marker="7") == ["6", "3"]

    @pytest.mark.parametrize("viewer", [ADMIN, OWNER, MEMBER], ids=str)
    def test_paging_goes_on_behind_an_image_that_was_deleted(self, catalogue: Catalogue, viewer: Identity) -> None:
        images = [catalogue.add(id=image_id, owner="tenant-a") for image_id in ("1", "2", "3")]
        for image in images:
            catalogue.share(image.id, "tenant-b")
        catalogue.remove(images[1])
        assert catalogue.ids(viewer, marker="2") == ["1"]

    def test_a_marker_that_the_viewer_could_not_have_seen_is_as_wrong_as_an_unknown_one(
        self, catalogue: Catalogue
    ) -> None:
        hidden = catalogue.add(owner="tenant-a")
        with pytest.raises(Invalid, match="marker"):
            catalogue.ids(STRANGER, marker=hidden.id)
        with pytest.raises(Invalid, match="marker"):
            catalogue.ids(STRANGER, marker="unknown")

    def test_a_marker_of_another_scope_is_a_place_in_the_order(self, catalogue: Catalogue) -> None:
        for image_id in ("1", "2", "3"):
            catalogue.add(id=image_id, is_public=image_id != "2", owner="tenant-a")
        assert catalogue.ids(OWNER, marker="2") == catalogue.ids(ADMIN, marker="2", is_public=True) == ["1"]

    def test_names_compare_byte_by_byte(self, catalogue: Catalogue) -> None:
        images = {text: catalogue.add(name=text, is_public=True) for text in TEXTS}
        for text, image in images.items():
            assert catalogue.ids(name=text) == catalogue.ids(MEMBER, name=text) == [image.id]

    def test_a_name_goes_with_a_marker_and_a_limit(self, catalogue: Catalogue) -> None:
        for image_id in ("1", "2", "3", "4"):
            catalogue.add(id=image_id, name="f17")
            catalogue.add(id=f"{image_id}-other", name="f18")
        assert catalogue.ids(name="f17", marker="4", limit=2) == ["3", "2"]
