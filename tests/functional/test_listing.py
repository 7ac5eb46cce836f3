"""Lists over the wire: parameters, defaults and costs.

What a list shows to whom, in what order and page by page, the conformance suites of the catalogue and the state model
say.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ALICE, BOB, add_row, error_of, id_of, image_row, insert_rows, reserve, upload, wire
from pyrimage.catalogue.records import utcnow
from pyrimage.models import Base, MemberRow, PropertyRow

if TYPE_CHECKING:
    from conftest import Installation

LISTS = ["/images", "/images/", "/images/detail", "/v1/images", "/v1/images/detail", "/v1/"]
NOW = utcnow()


def ids(app: TestApp, path: str) -> list[str]:
    return [image["id"] for image in app.get(path).json["images"]]


def add_aged(installation: "Installation", *image_ids: str) -> None:
    """Write public images, from the newest to the oldest."""
    moments = [NOW - timedelta(minutes=age) for age in range(len(image_ids))]
    pairs = zip(image_ids, moments, strict=True)
    insert_rows(
        installation, *(image_row(id=image_id, is_public=True, created_at=moment) for image_id, moment in pairs)
    )


@pytest.mark.parametrize("path", LISTS)
def test_the_25_newest_of_what_is_public_and_alive_are_listed(
    path: str, testapp: TestApp, installation: "Installation"
) -> None:
    assert testapp.get(path).json == {"images": []}
    add_row(installation, id="private")
    add_row(installation, id="killed", is_public=True, status="killed")
    add_row(installation, id="deleted", is_public=True, status="deleted", deleted=True, deleted_at=NOW)
    names = [f"i{age:02}" for age in range(30)]
    add_aged(installation, *names)
    assert ids(testapp, path) == names[:25]
    assert ids(testapp, f"{path}?limit=2&marker=i01") == names[2:4]
    assert testapp.head(path).headers["Content-Length"] == str(len(testapp.get(path).body))


# One image has what is asked for, and is newer than the other, which has nothing.
MATCHING: list[tuple[str, list[str]]] = [
    ("name=f%C3%BCr,%20alle:+x", ["a"]),
    *((query, []) for query in ("name=f%C3%BCr", "name=%25", "status=x", "min_ram=511", "limit=0")),
    ("name=&container_format=&disk_format=&min_disk=0&size_max=4", ["b"]),
    ("status=active&container_format=bare&disk_format=raw&min_ram=512&size_min=5&size_max=5", ["a"]),
    *((f"protected={word}", ["a"]) for word in ("true", "TRUE", "1")),
    *((f"protected={word}", ["b"]) for word in ("False", "0")),
    ("property-OS-Type=a%2Bb:+c&property-arch=", ["a"]),
    ("property-os_type=A%2BB:+C", []),
    ("checksum=x&owner=x&id=x&nothing=x&Limit=x&limit[]=x&deleted=true&&=&", ["a", "b"]),  # which nobody knows
    ("sort_dir=asc", ["b", "a"]),
    ("sort_key=id", ["b", "a"]),
]


@pytest.mark.parametrize(("query", "seen"), MATCHING)
def test_a_list_is_filtered(query: str, seen: list[str], testapp: TestApp) -> None:
    reserve(testapp, id="b", is_public=True, properties={"arch": ""})
    formats = {"disk_format": "raw", "container_format": "bare"}
    properties = {"os_type": "a+b: c", "arch": ""}
    own: dict[str, Any] = {**formats, "min_ram": 512, "min_disk": 1, "protected": True, "properties": properties}
    upload(testapp, id="a", name=wire("für, alle: x"), is_public=True, **own)
    for path in ("/images", "/v1/images/detail"):
        assert ids(testapp, f"{path}?{query}") == seen


def test_of_is_public_only_an_administrators_value_counts(testapp: TestApp, installation: "Installation") -> None:
    owner = installation.client(ALICE)
    public, private = (id_of(upload(owner, name="f17", is_public=is_public)) for is_public in (True, False))
    seen = {("True", "true", "1"): {public}, ("False", "0"): {private}, ("None", "none", "NONE"): {public, private}}
    for words, shown in seen.items():
        for word in words:
            assert set(ids(testapp, f"/images?is_public={word}")) == shown
            assert set(ids(owner, f"/images?is_public={word}")) == {public, private}
            assert set(ids(installation.client(BOB), f"/images?is_public={word}")) == {public}


@pytest.mark.parametrize(
    "moment",
    [
        *("2020-01-01T13:03:00", "2020-01-01T13:03:00Z", "2020-01-01T13:03:00%2B00:00", "2020-01-01%2013:03:00"),
        *("2020-01-01T15:03:00%2B02:00", "2020-01-01T15:03:00+02:00", "2020-01-01T18:33:00%2B0530"),
        *("2020-01-01T08:03:00-05:00", "2020-01-01T13:03:00.000000"),
    ],
)
def test_changes_since_a_moment_are_later_and_include_what_was_deleted(
    moment: str, testapp: TestApp, installation: "Installation"
) -> None:
    times = {"same": "13:03:00", "later": "13:03:00.000001"}
    for image_id, time in times.items():
        add_row(installation, id=image_id, is_public=True, updated_at=utcnow().fromisoformat(f"2020-01-01T{time}"))
    testapp.delete(upload(testapp, id="gone", is_public=True))
    changed = testapp.get(f"/v1/images/detail?changes-since={moment}&sort_key=id").json["images"]
    assert [(image["id"], image["deleted"]) for image in changed] == [("later", False), ("gone", True)]


def test_the_settings_bound_a_page(install_with: Callable[..., "Installation"]) -> None:
    bounded = install_with(limit_param_default="2", api_limit_max="3")
    add_aged(bounded, "a", "b", "c", "d")
    client = bounded.client()
    assert ids(client, "/images") == ["a", "b"]
    for limit in ("4", "1001", "9" * 40):
        assert ids(client, f"/v1/images/detail?limit={limit}") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=x", "limit=-1", "limit=1.5", "limit=1_0", "limit=", "limit=%D9%A3", "sort_key=owner", "sort_key=ID"),
        *(
            "sort_key=",
            "sort_dir=up",
            "sort_dir=",
            "size_min=-1",
            "size_max=1.5",
            "size_max=",
            "min_ram=",
            "min_disk=-1",
        ),
        *("protected=yes", "protected=", "protected=none", "is_public=maybe", "is_public=yes", "is_public="),
        *("changes-since=yesterday", "changes-since=", "property-os=%00", "property-%0D=x", f"status={'s' * 256}"),
        *("marker=none", "marker=../x", "marker=%00", f"marker={'m' * 256}", "name=a%0Ab", f"name={'n' * 256}"),
        *("property-os=x&property-OS=y", "&".join(f"property-{number}=x" for number in range(21))),
    ],
)
def test_a_bad_parameter_is_named(query: str, testapp: TestApp) -> None:
    name = query.partition("=")[0].partition("%")[0]
    for path in LISTS:
        assert ("property-" if name.startswith("property-") else name) in error_of(
            testapp.get(f"{path}?{query}", status=400)
        )


def test_all_bad_parameters_are_named_at_once(testapp: TestApp) -> None:
    message = error_of(testapp.get("/images?limit=x&is_public=maybe&name=%00", status=400))
    assert [name for name in ("limit", "is_public", "name") if name not in message] == []


# Costs


@pytest.mark.parametrize("count", [0, 25])
def test_a_list_costs_two_selects_whatever_its_length(
    count: int, testapp: TestApp, installation: "Installation", statements: list[str]
) -> None:
    add_aged(installation, *(f"i{age}" for age in range(count)))
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
        rows.append(image_row(id=image_id, is_public=why == "public", owner=owner))
        rows.append(PropertyRow(image_id=image_id, key="os", value="x"))
        if why == "shared":
            rows.append(MemberRow(image_id=image_id, member="tenant-b", can_share=False))
    insert_rows(installation, *rows)
    statements.clear()
    found = installation.client(BOB).get(f"/images/detail?{query}").json["images"]
    assert len(found) == (60 if query == "limit=1000" else 3)
    assert [image for image in found if image["properties"] != {"os": "x"}] == []
    assert len([statement for statement in statements if "SELECT" in statement]) == (3 if "marker" in query else 2)
