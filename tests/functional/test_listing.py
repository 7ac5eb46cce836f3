"""The two lists: what they show to whom, in what order, and how much of it at a time."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ADMIN, ALICE, BOB, NOBODY, add_row, error_of, id_of, image_row, insert_rows, reserve, upload, wire
from pyrimage.catalogue.queries import SORT_KEYS
from pyrimage.catalogue.records import Identity, utcnow
from pyrimage.models import Base, MemberRow, PropertyRow

if TYPE_CHECKING:
    from conftest import Installation

LISTS = ["/images", "/images/", "/images/detail", "/v1/images", "/v1/images/detail"]
CALLERS: dict[str, Identity | None] = {"owner": ALICE, "member": BOB, "admin": ADMIN, "nobody": NOBODY, "local": None}
NOW = utcnow()


def ids(app: TestApp, path: str) -> list[str]:
    return [image["id"] for image in app.get(path).json["images"]]


def add_aged(installation: "Installation", **minutes: int) -> None:
    """Write public images by id, each so many minutes old."""
    moments = {image_id: NOW - timedelta(minutes=age) for image_id, age in minutes.items()}
    rows = [image_row(id=image_id, is_public=True, created_at=moment) for image_id, moment in moments.items()]
    insert_rows(installation, *rows)


@pytest.mark.parametrize("path", LISTS)
def test_an_empty_list(path: str, testapp: TestApp) -> None:
    assert testapp.get(path).json == {"images": []}


@pytest.mark.parametrize("path", LISTS)
def test_the_newest_image_comes_first(path: str, testapp: TestApp, installation: "Installation") -> None:
    add_aged(installation, b=2, c=3, a=1)
    assert ids(testapp, path) == ["a", "b", "c"]


@pytest.mark.parametrize("path", LISTS)
def test_images_of_one_moment_come_in_the_order_of_their_ids(
    path: str, testapp: TestApp, installation: "Installation"
) -> None:
    add_aged(installation, b=1, a=1, C=1)
    assert ids(testapp, path) == ["b", "a", "C"]  # by their bytes


@pytest.mark.parametrize("path", LISTS)
def test_at_most_25_images_are_listed(path: str, testapp: TestApp, installation: "Installation") -> None:
    add_aged(installation, **{f"i{age:02}": age for age in range(30)})
    assert ids(testapp, path) == [f"i{age:02}" for age in range(25)]


@pytest.mark.parametrize("path", LISTS)
def test_queued_images_are_listed_killed_and_deleted_ones_are_not(
    path: str, testapp: TestApp, installation: "Installation"
) -> None:
    add_row(installation, id="queued", is_public=True)
    add_row(installation, id="killed", is_public=True, status="killed")
    add_row(installation, id="deleted", is_public=True, status="deleted", deleted=True, deleted_at=NOW)
    assert ids(testapp, path) == ["queued"]


@pytest.fixture
def one_of_each(installation: "Installation") -> "Installation":
    """Images by id: whose they are, and who may see them."""
    images: dict[str, dict[str, Any]] = {
        "public": {"owner": "tenant-c", "is_public": True},
        "own-public": {"owner": "tenant-a", "is_public": True},
        "own": {"owner": "tenant-a"},
        "shared": {"owner": "tenant-c"},
        "foreign": {"owner": "tenant-c"},
        "ownerless": {},
    }
    moments = [NOW - timedelta(minutes=age) for age in range(len(images))]
    rows = [image_row(id=id_, **images[id_], created_at=moment) for id_, moment in zip(images, moments, strict=True)]
    members = [("shared", "tenant-b"), ("own", "tenant-b"), ("public", "tenant-b"), ("own", "tenant-a")]
    shares = [MemberRow(image_id=id_, member=member, can_share=False) for id_, member in members]
    insert_rows(installation, *rows, *shares)
    return installation


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        ("owner", ["public", "own-public", "own"]),
        ("member", ["public", "own-public", "own", "shared"]),
        ("admin", ["public", "own-public"]),
        ("local", ["public", "own-public"]),
        ("nobody", ["public", "own-public"]),
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_a_list_shows_what_is_public_own_or_shared(
    path: str, caller: str, seen: list[str], one_of_each: "Installation"
) -> None:
    assert ids(one_of_each.client(CALLERS[caller]), path) == seen


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        *(
            (word, ["public", "own-public", "own", "shared", "foreign", "ownerless"])
            for word in ("None", "none", "NONE")
        ),
        *((word, ["public", "own-public"]) for word in ("True", "true", "1")),
        *((word, ["own", "shared", "foreign", "ownerless"]) for word in ("False", "0")),
    ],
)
@pytest.mark.parametrize("caller", ["admin", "local"])
def test_an_administrator_may_ask_for_all_or_the_private(
    caller: str, word: str, seen: list[str], one_of_each: "Installation"
) -> None:
    assert ids(one_of_each.client(CALLERS[caller]), f"/v1/images?is_public={word}") == seen


@pytest.mark.parametrize("word", ["None", "True", "False"])
@pytest.mark.parametrize("caller", ["owner", "member", "nobody"])
def test_only_an_administrators_wish_for_all_counts(caller: str, word: str, one_of_each: "Installation") -> None:
    app = one_of_each.client(CALLERS[caller])
    assert ids(app, f"/v1/images?is_public={word}") == ids(app, "/v1/images")


def test_the_25_are_the_newest_of_all_that_is_visible(installation: "Installation") -> None:
    rows: list[Base] = []
    for age in range(60):
        image_id, why = f"i{age:02}", ("public", "own", "shared")[age % 3]
        owner, created_at = "tenant-b" if why == "own" else "tenant-c", NOW - timedelta(minutes=age)
        rows.append(image_row(id=image_id, is_public=why == "public", owner=owner, created_at=created_at))
        if why == "shared":
            rows.append(MemberRow(image_id=image_id, member="tenant-b", can_share=False))
    insert_rows(installation, *rows)
    assert ids(installation.client(BOB), "/v1/images") == [f"i{age:02}" for age in range(25)]


def test_details_come_with_the_properties_of_their_own_image(testapp: TestApp) -> None:
    for name in ("a", "b"):
        reserve(testapp, name=name, is_public=True, properties={"of": name, name: ""})
    found = {image["name"]: image["properties"] for image in testapp.get("/images/detail").json["images"]}
    assert found == {"a": {"of": "a", "a": ""}, "b": {"of": "b", "b": ""}}


@pytest.mark.parametrize(("query", "seen"), [("name=f17", 2), ("name=F17", 0), ("name=f1", 0), ("name=f%25", 0)])
def test_a_name_is_asked_for_exactly(query: str, seen: int, testapp: TestApp) -> None:
    for name in ("f17", "f17", "f18"):
        reserve(testapp, name=name, is_public=True)
    assert len(ids(testapp, f"/v1/images?{query}")) == seen


def test_a_name_may_be_any_text(testapp: TestApp) -> None:
    path = reserve(testapp, name=wire("für, alle: x"), is_public=True)
    assert ids(testapp, "/v1/images?name=f%C3%BCr,%20alle:+x") == [id_of(path)]


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_pages_of_any_size_make_up_the_whole(limit: int, testapp: TestApp, installation: "Installation") -> None:
    add_aged(installation, a=1, b=1, c=2, d=2, e=3)
    whole, page, seen = ids(testapp, "/v1/images"), ids(testapp, f"/v1/images?limit={limit}"), []
    while page:
        assert len(page) <= limit
        seen += page
        page = ids(testapp, f"/v1/images?limit={limit}&marker={page[-1]}")
    assert seen == (whole if limit else [])


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("sort_key", SORT_KEYS)
@pytest.mark.parametrize("path", LISTS)
def test_pages_go_on_in_any_order(
    path: str, sort_key: str, direction: str, testapp: TestApp, installation: "Installation"
) -> None:
    for image_id, name in {"a": "x", "b": "", "c": "y", "d": "x", "e": ""}.items():
        add_row(installation, id=image_id, name=name, is_public=True)
    order = f"sort_key={sort_key}&sort_dir={direction}"
    whole, page, seen = ids(testapp, f"{path}?{order}"), ids(testapp, f"{path}?limit=2&{order}"), []
    while page:
        seen += page
        page = ids(testapp, f"{path}?limit=2&marker={page[-1]}&{order}")
    by_name = {"asc": ["b", "e", "a", "d", "c"], "desc": ["c", "d", "a", "e", "b"]}
    by_age = {"asc": ["a", "b", "c", "d", "e"], "desc": ["e", "d", "c", "b", "a"]}
    assert seen == whole == (by_name if sort_key == "name" else by_age)[direction]


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("name=f17", ["a"]),
        ("name=", ["b"]),
        ("status=active", ["a"]),
        ("container_format=bare&disk_format=raw", ["a"]),
        ("container_format=&disk_format=", ["b"]),
        ("min_ram=512", ["a"]),
        ("min_disk=0", ["b"]),
        ("size_min=5&size_max=5", ["a"]),
        ("size_max=4", ["b"]),
        ("protected=TRUE", ["a"]),
        ("protected=0", ["b"]),
        ("property-os=a%2Bb:+c&property-arch=", ["a"]),
        ("property-arch=", ["b", "a"]),
        ("property-os=A%2BB:+C", []),
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_a_list_is_filtered(path: str, query: str, seen: list[str], testapp: TestApp) -> None:
    upload(
        testapp,
        id="a",
        name="f17",
        is_public=True,
        disk_format="raw",
        container_format="bare",
        min_ram=512,
        min_disk=1,
        protected=True,
        properties={"os": "a+b: c", "arch": ""},
    )
    reserve(testapp, id="b", is_public=True, properties={"arch": ""})
    assert ids(testapp, f"{path}?{query}") == seen


def test_changes_since_a_moment_include_what_was_deleted_then(testapp: TestApp, installation: "Installation") -> None:
    for image_id, age in {"gone": 3, "there": 1, "stale": 3}.items():
        add_row(installation, id=image_id, is_public=True, updated_at=NOW - timedelta(hours=age))
    testapp.delete("/v1/images/gone")
    moment = (NOW - timedelta(hours=2)).isoformat()
    changed = testapp.get(f"/v1/images/detail?changes-since={moment}&sort_key=id").json["images"]
    found = [(image["id"], image["status"], image["deleted"]) for image in changed]
    assert found == [("there", "queued", False), ("gone", "deleted", True)]
    assert ids(testapp, f"/images?changes-since={moment}&sort_key=updated_at") == ["gone", "there"]


def test_the_settings_bound_a_page(install_with: Callable[..., "Installation"]) -> None:
    bounded = install_with(limit_param_default="2", api_limit_max="3")
    add_aged(bounded, a=1, b=2, c=3, d=4)
    client = bounded.client()
    assert ids(client, "/images") == ["a", "b"]
    assert ids(client, "/images?limit=4") == ids(client, f"/v1/images/detail?limit={'9' * 40}") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=x", "limit=-1", "limit=1.5", "limit=1_0", "limit=", "limit=%D9%A3"),
        *("sort_key=owner", "sort_dir=up", "size_min=-1", "size_max=x", "min_ram=", "min_disk=1.5", "protected=yes"),
        *("changes-since=yesterday", "property-os=%00", "property-%0D=x", f"status={'s' * 256}"),
        *("marker=none", "marker=../x", "marker=%00", f"marker={'m' * 256}"),
        *("is_public=maybe", "is_public=yes", "name=%00", "name=a%0Ab", f"name={'n' * 256}"),
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_a_bad_parameter_is_named(path: str, query: str, testapp: TestApp) -> None:
    assert query.partition("=")[0].partition("%")[0] in error_of(testapp.get(f"{path}?{query}", status=400))


def test_all_bad_parameters_are_named_at_once(testapp: TestApp) -> None:
    message = error_of(testapp.get("/images?limit=x&is_public=maybe&name=%00", status=400))
    assert [name for name in ("limit", "is_public", "name") if name not in message] == []


def test_a_marker_is_an_image_that_the_caller_could_have_seen(installation: "Installation") -> None:
    public, private = (upload(installation.client(ALICE), name="f17", is_public=public) for public in (True, False))
    stranger = installation.client(BOB)
    stranger.get(f"/v1/images?marker={id_of(public)}", status=200)
    assert "marker" in error_of(stranger.get(f"/v1/images?marker={id_of(private)}", status=400))
    installation.client(ALICE).delete(public)
    stranger.get(f"/v1/images?marker={id_of(public)}", status=200)


@pytest.mark.parametrize("query", ["nothing=x", "Limit=x", "limit[]=x", "", "&&=&", "deleted=true"])
def test_unknown_parameters_are_ignored(query: str, testapp: TestApp) -> None:
    path = reserve(testapp, name="f17", is_public=True)
    assert ids(testapp, f"/images?{query}") == [id_of(path)]


@pytest.mark.parametrize("count", [0, 25])
def test_a_list_costs_two_selects_whatever_its_length(
    count: int, testapp: TestApp, installation: "Installation", statements: list[str]
) -> None:
    add_aged(installation, **{f"i{age}": age for age in range(count)})
    statements.clear()
    testapp.get("/images/detail")
    assert len(statements) <= 2


@pytest.mark.parametrize("query", ["limit=3", "limit=1000", "limit=3&sort_key=name&property-os=x&marker=i09"])
def test_a_tenants_list_costs_two_selects_and_one_for_its_marker(
    query: str, installation: "Installation", statements: list[str]
) -> None:
    rows: list[Base] = []
    for number in range(60):
        image_id, why = f"i{number:02}", ("public", "own", "shared")[number % 3]
        owner = "tenant-b" if why == "own" else "tenant-c"
        rows += [image_row(id=image_id, is_public=why == "public", owner=owner), property_row(image_id)]
        if why == "shared":
            rows.append(MemberRow(image_id=image_id, member="tenant-b", can_share=False))
    insert_rows(installation, *rows)
    statements.clear()
    found = installation.client(BOB).get(f"/images/detail?{query}").json["images"]
    assert len(found) == (60 if query == "limit=1000" else 3)
    assert [image for image in found if image["properties"] != {"os": "x"}] == []
    assert len([statement for statement in statements if "SELECT" in statement]) == (3 if "marker" in query else 2)


def property_row(image_id: str) -> PropertyRow:
    return PropertyRow(image_id=image_id, key="os", value="x")


def test_a_head_of_a_list_has_the_length_of_its_get(testapp: TestApp) -> None:
    reserve(testapp, name="f17", is_public=True)
    assert testapp.head("/images").headers["Content-Length"] == str(len(testapp.get("/images").body))


def facts(image: dict[str, Any]) -> dict[str, Any]:
    return {name: image[name] for name in ("id", "name", "size", "checksum", "disk_format", "container_format")}


def test_brief_and_detailed_list_agree(testapp: TestApp) -> None:
    upload(testapp, name="f17", is_public=True, disk_format="raw", container_format="bare")
    brief, detailed = (testapp.get(path).json["images"] for path in ("/images", "/v1/images/detail"))
    assert [facts(image) for image in brief] == [facts(image) for image in detailed]
