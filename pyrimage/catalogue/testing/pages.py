"""The behaviour of the lists of ``Images``."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain, cycle
from typing import Any

import pytest

from ...errors import Invalid
from ..queries import SORT_KEYS, ListQuery
from ..records import SUMMARY_FIELDS, Identity, Image, ImageSummary, Status
from .catalogue import (
    ADMIN,
    ANONYMOUS,
    BLANK,
    MEMBER,
    MEMBER_ADMIN,
    NOON,
    OWNER,
    STRANGER,
    TEXTS,
    Subject,
)

DAY = timedelta(days=1)
EARLIER, LATER = NOON - timedelta(microseconds=1), NOON + timedelta(microseconds=1)

# By what makes them visible to MEMBER: his own, his for being shared, everybody's.
FILTERED: dict[str, dict[str, Any]] = {
    "own": {
        "owner": "tenant-b",
        "name": "f17",
        "status": Status.ACTIVE,
        "container_format": "bare",
        "disk_format": "raw",
        "min_ram": 512,
        "min_disk": 10,
        "size": 1000,
        "protected": True,
        "updated_at": LATER,
        "properties": {"os": "linux", "arch": "arm", "none": ""},
    },
    "shared": {"name": "f18", "disk_format": "raw", "size": 2**63 - 1, "properties": {"os": "Linux", "arch": "arm"}},
    "public": {"is_public": True, "updated_at": EARLIER, "properties": {"os": "linux", "version": "a:b"}},
}

# Whose values differ, are equal and are none, in every column that lists sort by.
MIXED: list[dict[str, Any]] = [
    {"name": "b", "disk_format": "raw", "status": Status.ACTIVE, "size": 3},
    {"name": "b", "disk_format": "raw", "status": Status.ACTIVE, "size": 3, "created_at": LATER},
    {"name": "b", "container_format": "bare", "created_at": EARLIER, "updated_at": EARLIER},
    {"name": "B", "container_format": "bare", "size": 2**62},
    {"name": "\u00e1", "container_format": "ovf", "disk_format": "vhd", "updated_at": LATER},
    {"name": "a ", "disk_format": "vhd", "created_at": LATER, "updated_at": LATER},
    {"size": 3},
    {"status": Status.ACTIVE, "created_at": EARLIER},
    {},
]

in_every_order = pytest.mark.parametrize("descending", [True, False], ids=["desc", "asc"])
by_one_and_several_scopes = pytest.mark.parametrize("viewer", [ANONYMOUS, MEMBER], ids=["public", "merged"])

# Every key meets both directions and both kinds of scopes, and those each other; not all of them at once.
in_pairs = pytest.mark.parametrize(
    ("sort_key", "descending", "viewer"),
    [
        pytest.param(
            key, descending, MEMBER if (number % 2 == 0) is descending else ANONYMOUS, id=f"{key}-{descending}"
        )
        for number, key in enumerate(SORT_KEYS)
        for descending in (True, False)
    ],
)


def store(catalogue: Subject, **fields: Any) -> Image:
    """Store an image, with bytes if it is active."""
    return (catalogue.upload if fields.get("status") == Status.ACTIVE else catalogue.add)(**fields)


def add_visible(catalogue: Subject, viewer: Identity, *images: dict[str, Any]) -> list[Image]:
    """Store images that ANONYMOUS sees, or MEMBER for one of three reasons in turn."""
    reasons: list[dict[str, Any]] = [{"is_public": True}]
    if viewer == MEMBER:
        reasons = [{"owner": "tenant-b"}, {"owner": "tenant-a"}, {"is_public": True}]
    made = [store(catalogue, **fields, **reason) for fields, reason in zip(images, cycle(reasons), strict=False)]
    for image in made:
        if image.owner == "tenant-a":
            catalogue.share(image.id, "tenant-b")
    return made


def remove_all(catalogue: Subject, images: Iterable[Image]) -> None:
    """Delete images."""
    for image in images:
        catalogue.remove(image)


def pages_of(catalogue: Subject, viewer: Identity = ADMIN, **query: Any) -> list[list[str]]:
    """Ask for one page after the other until one is empty, or there are far too many."""
    pages = [catalogue.ids(viewer, **query)]
    while pages[-1] and len(pages) < 50:
        pages.append(catalogue.ids(viewer, marker=pages[-1][-1], **query))
    return pages[:-1]


def place(image: Image, sort_key: str) -> tuple[Any, ...]:
    """Return what an image is sorted by."""
    return getattr(image, sort_key) or ("" if sort_key != "size" else 0), image.created_at, image.id


def in_order(images: Iterable[Image], sort_key: str, descending: bool) -> list[str]:
    """Return the ids in the order that a list should have."""
    ordered = sorted(images, key=lambda image: place(image, sort_key), reverse=descending)
    return [image.id for image in ordered]


class PagesConformance:
    """Scopes, order and paging."""

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
        self, catalogue: Subject, viewer: Identity, query: dict[str, Any], visible: set[str]
    ) -> None:
        kinds = catalogue.one_of_each()
        assert sorted(catalogue.ids(viewer, **query)) == sorted(kinds[kind] for kind in visible)

    def test_pages_are_newest_first_and_equal_times_sort_by_id(self, catalogue: Subject) -> None:
        expected = ["newest", "b", "ab", "a_", "aB", "a.", "a-", "a", "B", "A", "1", "oldest"]
        for image_id in sorted(expected):
            seconds = {"newest": 1, "oldest": -1}.get(image_id, 0)
            catalogue.add(id=image_id, created_at=NOON + timedelta(microseconds=seconds), is_public=True)
        assert catalogue.ids() == catalogue.ids(ANONYMOUS) == expected

    def test_the_pages_of_several_scopes_merge_into_one_order(self, catalogue: Subject) -> None:
        scopes: list[dict[str, Any]] = [{"is_public": True}, {"owner": "tenant-b"}, {"owner": "tenant-a"}]
        images = [catalogue.add(id=str(number), **scopes[number % 3]) for number in range(9)]
        for image in images[2::3]:
            catalogue.share(image.id, "tenant-b")
        assert catalogue.ids(MEMBER) == [str(number) for number in reversed(range(9))]
        assert catalogue.ids(MEMBER, limit=4) == ["8", "7", "6", "5"]
        assert catalogue.ids(MEMBER, limit=4, marker="5") == ["4", "3", "2", "1"]

    def test_an_image_that_is_public_own_and_shared_is_listed_once(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-b", is_public=True)
        catalogue.share(image.id, "tenant-b")
        assert catalogue.ids(MEMBER) == [image.id]

    def test_a_limit_of_zero_lists_nothing(self, catalogue: Subject) -> None:
        catalogue.add()
        assert catalogue.ids(limit=0) == []

    def test_queued_images_are_listed_and_killed_ones_are_not(self, catalogue: Subject) -> None:
        queued = catalogue.add(is_public=True)
        catalogue.add(is_public=True, status=Status.KILLED)
        assert catalogue.ids() == catalogue.ids(ANONYMOUS) == [queued.id]

    def test_a_page_holds_what_find_gives_and_a_brief_one_its_summary(self, catalogue: Subject) -> None:
        images = [
            catalogue.upload(id="2", properties={"os": "linux", "empty": ""}),
            catalogue.add(id="1", name="f17"),
            catalogue.add(id="0", properties={"os": "none"}),
        ]
        summaries = [ImageSummary(**{name: getattr(image, name) for name in SUMMARY_FIELDS}) for image in images]
        everything = ListQuery(default_scope=False)
        assert catalogue.rows.page(everything, ADMIN) == images
        assert catalogue.rows.brief_page(everything, ADMIN) == summaries

    def test_pages_together_hold_every_image_once(self, catalogue: Subject) -> None:
        for number in range(7):
            catalogue.add(created_at=NOON + timedelta(microseconds=number // 3))
        assert list(chain.from_iterable(pages_of(catalogue, limit=2))) == catalogue.ids()

    def test_paging_goes_on_where_it_was_when_images_come_and_go(self, catalogue: Subject) -> None:
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
    def test_paging_goes_on_behind_an_image_that_was_deleted(self, catalogue: Subject, viewer: Identity) -> None:
        images = [catalogue.add(id=image_id, owner="tenant-a") for image_id in ("1", "2", "3")]
        for image in images:
            catalogue.share(image.id, "tenant-b")
        catalogue.remove(images[1])
        assert catalogue.ids(viewer, marker="2") == ["1"]

    def test_a_marker_that_the_viewer_could_not_have_seen_is_as_wrong_as_an_unknown_one(
        self, catalogue: Subject
    ) -> None:
        hidden = catalogue.add(owner="tenant-a")
        with pytest.raises(Invalid, match="marker"):
            catalogue.ids(STRANGER, marker=hidden.id)
        with pytest.raises(Invalid, match="marker"):
            catalogue.ids(STRANGER, marker="unknown")

    def test_a_marker_of_another_scope_is_a_place_in_the_order(self, catalogue: Subject) -> None:
        for image_id in ("1", "2", "3"):
            catalogue.add(id=image_id, is_public=image_id != "2", owner="tenant-a")
        assert catalogue.ids(OWNER, marker="2") == catalogue.ids(ADMIN, marker="2", is_public=True) == ["1"]

    @in_pairs
    def test_images_are_sorted_by_any_key_in_either_direction(
        self, catalogue: Subject, sort_key: str, descending: bool, viewer: Identity
    ) -> None:
        images = add_visible(catalogue, viewer, *MIXED, *MIXED)
        expected = in_order(images, sort_key, descending)
        query: dict[str, Any] = {"sort_key": sort_key, "descending": descending}
        assert catalogue.ids(viewer, **query) == expected
        pages = [expected[start : start + 4] for start in range(0, len(expected), 4)]
        assert pages_of(catalogue, viewer, limit=4, **query) == pages

    @in_pairs
    def test_paging_is_exact_though_the_marker_and_others_are_deleted_and_more_come(
        self, catalogue: Subject, sort_key: str, descending: bool, viewer: Identity
    ) -> None:
        images = add_visible(catalogue, viewer, *MIXED, *MIXED)
        ordered = in_order(images, sort_key, descending)
        query: dict[str, Any] = {"sort_key": sort_key, "descending": descending}
        assert catalogue.ids(viewer, limit=7, **query) == ordered[:7]
        by_id = {image.id: image for image in images}
        marker = by_id[ordered[6]]
        remove_all(catalogue, [by_id.pop(ordered[number]) for number in (0, 5, 6, 7, 12)])
        more = add_visible(catalogue, viewer, *MIXED)
        stand = in_order([*by_id.values(), *more, marker], sort_key, descending)
        assert catalogue.ids(viewer, marker=marker.id, **query) == stand[stand.index(marker.id) + 1 :]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"name": "b", "sort_key": "name", "marker": "a"}, []),
            ({"name": "b", "sort_key": "name", "marker": "c"}, ["b2", "b1"]),
            ({"name": "b", "sort_key": "name", "marker": "b2"}, ["b1"]),
            ({"name": "b", "sort_key": "name", "marker": "a", "descending": False}, ["b1", "b2"]),
            ({"name": "b", "sort_key": "name", "marker": "c", "descending": False}, []),
            ({"name": "b", "sort_key": "size", "marker": "c"}, ["b2", "b1"]),
            ({"size_min": 2, "marker": "b2"}, ["c"]),
        ],
    )
    def test_a_marker_need_not_pass_the_filters(
        self, catalogue: Subject, query: dict[str, Any], expected: list[str]
    ) -> None:
        for number, image_id in enumerate(("c", "b1", "b2", "a")):
            moment = NOON + timedelta(seconds=number)
            catalogue.add(id=image_id, name=image_id[0], created_at=moment, size=2 if image_id == "c" else 1)
        assert catalogue.ids(**query) == expected


class FiltersConformance:
    """Which images a list leaves out."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"name": "f17"}, ["own"]),
            ({"name": "f1"}, []),
            ({"name": ""}, ["public"]),
            ({"status": "queued"}, ["public", "shared"]),
            ({"status": ""}, []),
            ({"container_format": "bare"}, ["own"]),
            ({"container_format": ""}, ["public", "shared"]),
            ({"disk_format": "raw"}, ["own", "shared"]),
            ({"disk_format": "x" * 255}, []),
            ({"min_ram": 512}, ["own"]),
            ({"min_ram": 511}, []),
            ({"min_disk": 10}, ["own"]),
            ({"min_disk": 0}, ["public", "shared"]),
            ({"size_min": 1000}, ["own", "shared"]),
            ({"size_min": 1001}, ["shared"]),
            ({"size_max": 1000}, ["own", "public"]),
            ({"size_max": 999}, ["public"]),
            ({"size_min": 1, "size_max": 2**63 - 1}, ["own", "shared"]),
            ({"protected": True}, ["own"]),
            ({"protected": False}, ["public", "shared"]),
            ({"properties": (("os", "linux"),)}, ["own", "public"]),
            ({"properties": (("os", "Linux"),)}, ["shared"]),
            ({"properties": (("none", ""),)}, ["own"]),
            ({"properties": (("other", ""),)}, []),
            ({"properties": (("version", "a:b"),)}, ["public"]),
            ({"properties": (("os", "linux"), ("arch", "arm"))}, ["own"]),
            ({"properties": tuple((f"key_{number}", "x") for number in range(20))}, []),
            ({"disk_format": "raw", "size_max": 5000, "properties": (("arch", "arm"),)}, ["own"]),
            ({"name": "f18", "disk_format": "raw", "sort_key": "disk_format"}, ["shared"]),
        ],
    )
    def test_filters(self, catalogue: Subject, query: dict[str, Any], expected: list[str]) -> None:
        for kind, fields in FILTERED.items():
            store(catalogue, id=kind, **fields)
        catalogue.share("shared", "tenant-b")
        for viewer in (ADMIN, MEMBER):
            assert sorted(catalogue.ids(viewer, **query)) == expected

    def test_names_compare_byte_by_byte(self, catalogue: Subject) -> None:
        images = {text: catalogue.add(name=text, is_public=True) for text in TEXTS}
        for text, image in images.items():
            assert catalogue.ids(name=text) == catalogue.ids(MEMBER, name=text) == [image.id]

    def test_properties_compare_byte_by_byte(self, catalogue: Subject) -> None:
        images = {text: catalogue.add(properties={"key": text}) for text in TEXTS}
        for text, image in images.items():
            assert catalogue.ids(properties=(("key", text),)) == [image.id]

    @in_every_order
    @pytest.mark.parametrize("sort_key", ["created_at", "name", "size"])
    def test_a_filter_goes_with_a_marker_and_a_limit(self, catalogue: Subject, sort_key: str, descending: bool) -> None:
        for image_id in ("1", "2", "3", "4", "5"):
            catalogue.add(id=image_id, name="f17", properties={"os": "linux"})
            catalogue.add(id=f"{image_id}-other", name="f18")
        query: dict[str, Any] = {"sort_key": sort_key, "descending": descending, "marker": "3", "limit": 1}
        expected = ["2"] if descending else ["4"]
        assert catalogue.ids(name="f17", **query) == expected
        assert catalogue.ids(properties=(("os", "linux"),), **query) == expected

    @by_one_and_several_scopes
    def test_changes_are_those_later_than_a_moment(self, catalogue: Subject, viewer: Identity) -> None:
        moments = [EARLIER] * 3 + [NOON] * 3 + [LATER] * 3
        add_visible(
            catalogue, viewer, *({"id": str(number), "updated_at": moment} for number, moment in enumerate(moments))
        )
        assert sorted(catalogue.ids(viewer, changes_since=EARLIER)) == ["3", "4", "5", "6", "7", "8"]
        assert sorted(catalogue.ids(viewer, changes_since=NOON)) == ["6", "7", "8"]
        assert catalogue.ids(viewer, changes_since=LATER) == []

    @pytest.mark.parametrize(
        ("viewer", "seen"),
        [(ADMIN, {"own", "shared", "public"}), (MEMBER, {"own", "shared", "public"}), (STRANGER, {"public"})],
    )
    def test_changes_show_deleted_and_killed_images_to_those_who_could_have_seen_them(
        self, catalogue: Subject, viewer: Identity, seen: set[str]
    ) -> None:
        kinds = ("own", "shared", "public")
        add_visible(
            catalogue,
            MEMBER,
            *({"id": f"killed-{kind}", "status": Status.KILLED, "updated_at": LATER} for kind in kinds),
        )
        remove_all(catalogue, add_visible(catalogue, MEMBER, *({"id": f"deleted-{kind}"} for kind in kinds)))
        expected = {f"{what}-{kind}" for what in ("deleted", "killed") for kind in seen}
        assert set(catalogue.ids(viewer, changes_since=NOON)) == expected
        assert set(catalogue.ids(viewer, changes_since=NOON, status="deleted")) == {f"deleted-{kind}" for kind in seen}
        assert catalogue.ids(viewer) == catalogue.ids(viewer, status="killed") == []

    @in_pairs
    def test_pages_of_changes_together_hold_every_image_once(
        self, catalogue: Subject, sort_key: str, descending: bool, viewer: Identity
    ) -> None:
        images = add_visible(catalogue, viewer, *MIXED)
        remove_all(catalogue, images[::2])
        now = [found for image in images if (found := catalogue.find(image.id)) is not None]
        query: dict[str, Any] = {"sort_key": sort_key, "descending": descending, "changes_since": EARLIER - DAY}
        pages = pages_of(catalogue, viewer, limit=2, **query)
        assert list(chain.from_iterable(pages)) == in_order(now, sort_key, descending)

    @pytest.mark.parametrize(("deleted", "shown"), [(True, "deleted"), (False, "live")])
    @pytest.mark.parametrize("since", [None, NOON])
    def test_deleted_images_are_listed_alone_or_not_at_all(
        self, catalogue: Subject, deleted: bool, shown: str, since: datetime | None
    ) -> None:
        later = NOON + timedelta(seconds=1)
        images = {name: catalogue.add(id=name, is_public=True, updated_at=later) for name in ("live", "deleted")}
        catalogue.add(is_public=True, status=Status.KILLED, updated_at=later)
        catalogue.remove(images["deleted"])
        assert catalogue.ids(deleted=deleted, changes_since=since) == [shown]
