"""The table of v1, "Listing", asked of both lists in both dialects."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from factories import image_row, insert_rows
from pyrimage.models import Base, MemberRow, PropertyRow
from tables import Case, Step, Table, ask, case, cases_of, check, check_listed, tell

if TYPE_CHECKING:
    from conftest import Installation

COLLECTIONS = ("/v1/images", "/images")
LISTS = (*COLLECTIONS, "/v1/images/detail", "/images/detail")
NOON = datetime.fromisoformat("2020-01-01T12:00:00")

# From the newest to the oldest. The first four are public and alive.
IMAGES: dict[str, dict[str, Any]] = {
    "a": {"name": "f17", "status": "active", "container_format": "bare", "disk_format": "qcow2", "size": 100},
    "b": {"name": "F17", "container_format": "ovf", "disk_format": "raw", "size": 200, "min_ram": 5, "min_disk": 2},
    "c": {"name": "a:b", "status": "active", "container_format": "bare", "disk_format": "iso", "size": 300},
    "d": {"min_ram": 6, "min_disk": 3, "protected": True},
    "own": {"is_public": False},
    "shared": {"is_public": False, "owner": "tenant-c"},
    "foreign": {"is_public": False, "owner": "tenant-d"},
    "ownerless": {"is_public": False, "owner": ""},
    "killed": {"status": "killed"},
    "deleted": {"status": "deleted", "deleted": True},
}
PUBLIC = ["a", "b", "c", "d"]
# Minutes after 13 o'clock, where that is not the creation.
UPDATED = {"a": 0, "d": 1, "c": 2, "b": 3, "killed": 4, "deleted": 5}
PROPERTIES = {"a": {"os": "linux", "arch": "x86"}, "b": {"os": "Linux", "arch": "x86"}, "c": {"os": "linux"}}


def images(installation: "Installation") -> str:
    """Write the images; Bob's project is a member of one."""
    rows: list[Base] = []
    for age, (image_id, columns) in enumerate(IMAGES.items()):
        created, minutes = NOON - timedelta(minutes=age), UPDATED.get(image_id)
        updated = created if minutes is None else NOON + timedelta(hours=1, minutes=minutes)
        deleted_at = updated if columns.get("deleted") else None
        times = {"created_at": created, "updated_at": updated, "deleted_at": deleted_at}
        rows.append(image_row(**{"id": image_id, "owner": "tenant-a", "is_public": True, **times, **columns}))
    for image_id, pairs in PROPERTIES.items():
        rows += [PropertyRow(image_id=image_id, key=key, value=value) for key, value in pairs.items()]
    insert_rows(installation, *rows, MemberRow(image_id="shared", member="tenant-b", can_share=False))
    return "a"


def thirty(installation: "Installation") -> str:
    times = [NOON - timedelta(minutes=age) for age in range(30)]
    insert_rows(installation, *(image_row(id=f"i{n:02}", is_public=True, created_at=t) for n, t in enumerate(times)))
    return "i00"


def shows(query: str, *listed: str, by: str = "nobody") -> Step:
    """Ask for a list of exactly these."""
    return ask(f"GET ?{query}", 200, by=by, listed=list(listed))


def rows(*steps: Step, there: Callable[["Installation"], str] = images, **settings: str) -> Case:
    return case(there, *steps, settings=settings or None, below=LISTS)


def refused(*queries: str) -> Case:
    """Ask in vain; the message names the parameter."""
    return rows(*(ask(f"GET ?{query}", 400, by="nobody", says=query.partition("=")[0]) for query in queries))


def paged(*steps: Step) -> Case:
    return case(images, *steps, below=COLLECTIONS)


# Ties by the creation, then the id, in the same direction; no name and no format count as the empty text.
SORTED = {
    "name": ["d", "b", "c", "a"],
    "status": ["c", "a", "d", "b"],
    "container_format": ["d", "c", "a", "b"],
    "disk_format": ["d", "c", "a", "b"],
    "size": ["d", "a", "b", "c"],
    "id": ["a", "b", "c", "d"],
    "created_at": ["d", "c", "b", "a"],
    "updated_at": ["a", "d", "c", "b"],
}

PARAMETERS = {
    "name: equality": rows(shows("name=f17", "a"), shows("name=f1"), shows("name=", "d")),
    "name: a colon is no operator": rows(shows("name=a:b", "c"), shows("name=in:f17")),
    "status: equality": rows(shows("status=queued", "b", "d"), shows("status=active", "a", "c"), shows("status=x")),
    "container_format: equality": rows(shows("container_format=bare", "a", "c"), shows("container_format=", "d")),
    "disk_format: equality": rows(shows("disk_format=raw", "b"), shows("disk_format=vmdk")),
    "there is no filter on checksum, owner or id": rows(shows("checksum=x&owner=x&id=x", *PUBLIC)),
    "min_ram: equality (not >=)": rows(shows("min_ram=5", "b"), shows("min_ram=0", "a", "c"), shows("min_ram=4")),
    "min_disk: equality (not >=)": rows(shows("min_disk=2", "b"), shows("min_disk=0", "a", "c"), shows("min_disk=1")),
    "min_ram: negative or not a number: 400": refused("min_ram=-1", "min_ram=x", "min_ram="),
    "min_disk: negative or not a number: 400": refused("min_disk=-1", "min_disk=x", "min_disk="),
    "size_min: inclusive": rows(shows("size_min=200", "b", "c"), shows("size_min=201", "c")),
    "size_max: inclusive": rows(shows("size_max=100", "a", "d"), shows("size_max=99", "d")),
    "size_min and size_max": rows(shows("size_min=100&size_max=200", "a", "b"), shows("size_min=2&size_max=1")),
    "size_min: negative or not a number: 400": refused("size_min=-1", "size_min=x", "size_min="),
    "size_max: negative or not a number: 400": refused("size_max=-1", "size_max=1.5", "size_max="),
    "protected: true false 1 0 any case": rows(
        *(shows(f"protected={word}", "d") for word in ("true", "True", "TRUE", "1")),
        *(shows(f"protected={word}", "a", "b", "c") for word in ("false", "False", "FALSE", "0")),
    ),
    "protected: else 400": refused("protected=maybe", "protected=yes", "protected=none", "protected="),
    "is_public: the same plus none": rows(
        *(shows(f"is_public={word}", *PUBLIC, by="admin") for word in ("true", "True", "1")),
        *(
            shows(f"is_public={word}", "own", "shared", "foreign", "ownerless", by="admin")
            for word in ("false", "FALSE", "0")
        ),
        *(
            shows(f"is_public={word}", *PUBLIC, "own", "shared", "foreign", "ownerless", by="admin")
            for word in ("none", "None")
        ),
    ),
    "is_public: else 400": refused("is_public=maybe", "is_public=yes", "is_public="),
    "is_public: only an admin's value counts, others' is ignored": rows(
        *(shows(f"is_public={word}", *PUBLIC, "own", by="owner") for word in ("true", "false", "none"))
    ),
    "property-<key>: live property with exactly this value": rows(
        shows("property-os=linux", "a", "c"), shows("property-os=lin"), shows("property-os="), shows("property-x=linux")
    ),
    "property-<key>: several must all hold": rows(
        shows("property-os=linux&property-arch=x86", "a"), shows("property-os=linux&property-arch=arm")
    ),
    "property-<key>: the value is case-sensitive": rows(shows("property-os=Linux", "b"), shows("property-os=LINUX")),
    "property-<key>: the key is folded as a header's is": rows(
        shows("property-OS=linux", "a", "c"),
        shows("property-os-=linux"),
        ask("GET ?property-os=linux&property-OS=Linux", 400, by="nobody", says="property-<key>"),
    ),
    "changes-since: strictly later than updated_at, includes deleted and killed images": rows(
        shows("changes-since=2020-01-01T13:01:00", "b", "c", "killed", "deleted"),
        shows("changes-since=2020-01-01T13:00:59.999999", "b", "c", "d", "killed", "deleted"),
        shows("changes-since=2020-01-01T13:05:00"),
    ),
    "changes-since: ISO 8601 date or time, any offset, compared after conversion to UTC": rows(
        shows("changes-since=2020-01-01", *PUBLIC, "killed", "deleted"),
        *(
            shows(f"changes-since={moment}", "killed", "deleted")
            for moment in (
                *("2020-01-01T13:03:00Z", "2020-01-01T13:03:00%2B00:00", "2020-01-01%2013:03:00"),
                *("2020-01-01T15:03:00%2B02:00", "2020-01-01T18:33:00%2B0530", "2020-01-01T08:03:00-05:00"),
            )
        ),
    ),
    "changes-since: unparsable or empty: 400": refused("changes-since=yesterday", "changes-since="),
    "deleted: on the API it does nothing": rows(
        *(shows(f"deleted={word}", *PUBLIC, by=by) for word in ("true", "false", "x") for by in ("nobody", "admin"))
    ),
    **{
        f"sort_key, sort_dir: {key}": rows(
            shows(f"sort_key={key}&sort_dir=asc", *order),
            shows(f"sort_key={key}&sort_dir=desc", *reversed(order)),
            shows(f"sort_key={key}", *reversed(order)),
        )
        for key, order in SORTED.items()
    },
    "sort_key: default created_at": rows(shows("", *PUBLIC), shows("sort_dir=asc", *reversed(PUBLIC))),
    "sort_key: else 400": refused("sort_key=owner", "sort_key=ID", "sort_key="),
    "sort_dir: else 400": refused("sort_dir=up", "sort_dir="),
    "limit: integer >= 0": rows(shows("limit=2", "a", "b"), shows("limit=4", *PUBLIC), shows("limit=5", *PUBLIC)),
    "limit: default limit_param_default 25": rows(shows("", *(f"i{n:02}" for n in range(25))), there=thirty),
    "limit: another limit_param_default": rows(shows("", "a", "b"), limit_param_default="2"),
    "limit: above api_limit_max cut": rows(
        *(shows(f"limit={limit}", "a", "b", "c") for limit in ("4", "1001", "9" * 40)), api_limit_max="3"
    ),
    "limit: negative or not a number 400": refused("limit=-1", "limit=x", "limit=1.5", "limit="),
    "limit: 0 gives an empty list": rows(shows("limit=0")),
    "marker: id of the last image of the previous page": rows(
        shows("limit=2", "a", "b"),
        shows("limit=2&marker=b", "c", "d"),
        shows("limit=2&marker=d"),
        shows("marker=c&sort_key=status&sort_dir=asc", "a", "d", "b"),
        shows("marker=a&sort_key=status&sort_dir=desc", "c"),
    ),
    "marker: unknown: 400": refused("marker=none", "marker=-1", "marker=../x"),
    "marker: invisible: 400": refused("marker=own", "marker=foreign"),
    "marker: deleted markers are accepted": rows(
        shows("changes-since=2020-01-01&marker=killed", "deleted"), shows("changes-since=2020-01-01&marker=deleted")
    ),
    "unknown parameters are ignored": rows(shows("nothing=x&Name=f17&sort-key=size", *PUBLIC)),
}
PARAMETERS_OTHERWISE = {
    "name: case by the database's collation": "Text compares byte by byte on every database.",
    "name: Q reads text before a colon as an operator": "Plain equality is meant.",
    "deleted: admin only, boolean": "A filter of the registry alone, as in Glance.",
    "marker: (D) not an integer or (Q) not UUID-like: 400": "Ids have another form; an unknown one is 400.",
    "marker: deleted ones only when deleted images are listed": (
        "Any image that the caller could have seen is a marker, so that paging goes on after a deletion."
    ),
}

PROSE = {
    "ties are broken by created_at then id in the same direction": rows(
        shows("sort_key=container_format&sort_dir=asc&container_format=bare", "c", "a"),
        shows("sort_key=container_format&sort_dir=desc&container_format=bare", "a", "c"),
    ),
    "paging is by comparison with the marker's values, so it survives insertions": paged(
        shows("limit=2", "a", "b"),
        tell("POST ", 201, {"name": "new", "id": "new", "is_public": True}),
        shows("limit=2&marker=b", "c", "d"),
        ask("DELETE /b", 200),
        shows("limit=2&marker=b", "c", "d"),
    ),
    "a null sort value counts as the empty string, or 0": rows(
        shows("sort_key=name&sort_dir=asc&limit=1", "d"), shows("sort_key=name&sort_dir=asc&marker=d", "b", "c", "a")
    ),
    "no total, no next link": rows(ask("GET ?name=x", 200, gives={"images": []})),
    "killed images are left out unless deleted ones are asked for; queued ones are listed": rows(
        shows("status=killed"),
        shows("status=killed&changes-since=2020-01-01", "killed"),
        shows("status=queued", "b", "d"),
    ),
    "an ordinary caller sees public images, own images, images shared with the caller": rows(
        shows("", *PUBLIC, "own", by="owner"),
        shows("", *PUBLIC, "shared", by="member"),
        shows("", *PUBLIC, "shared", by="stranger"),
        shows("", *PUBLIC),
    ),
    "an admin sees by default the same as a user of that tenant": rows(
        shows("", *PUBLIC, "own", by="tenant's admin"), shows("", *PUBLIC, by="admin")
    ),
    "is_public=None everything; is_public=False all non-public": rows(
        shows("is_public=None", *PUBLIC, "own", "shared", "foreign", "ownerless", by="tenant's admin"),
        shows("is_public=False", "own", "shared", "foreign", "ownerless", by="tenant's admin"),
    ),
    "ownerless non-public images appear only in an admin's is_public=None or False list": paged(
        *(shows("min_ram=0&size_max=0&name=", "own", by=by) for by in ("owner", "tenant's admin")),
        *(ask("HEAD /ownerless", 404, by=by) for by in ("owner", "member", "nobody")),
        ask("HEAD /ownerless", 200, by="admin"),
    ),
    "with authentication off the default list is public images only": rows(
        shows("", *PUBLIC, by="local"),
        shows("is_public=none", *PUBLIC, "own", "shared", "foreign", "ownerless", by="local"),
    ),
}
PROSE_OTHERWISE = {
    "ownerless non-public images can be read by anyone who knows the id": "By administrators alone (S10).",
}
PROSE_ELSEWHERE = {
    "glanceclient pages by 20 over /images/detail": (
        "system/test_glanceclient.py::test_list_pages_through_more_than_one_page"
    )
}

TABLES = {
    "parameters": Table(PARAMETERS, PARAMETERS_OTHERWISE),
    "beside them": Table(PROSE, PROSE_OTHERWISE, PROSE_ELSEWHERE),
}


@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])
