from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from conftest import Installation
from factories import ADMIN, ALICE
from pyrimage.errors import Invalid
from pyrimage.schemas.listing import SORT_KEYS, ListQuery, read_list_query
from pyrimage.web import Request

MakeRequest = Callable[..., Request]

EVENING = datetime(2011, 9, 22, 19, 57, 47)  # noqa: DTZ001 - UTC without zone, as rows hold it


def test_a_list_is_the_callers_own_the_newest_first_and_of_25(make_request: MakeRequest) -> None:
    query = read_list_query(make_request("/images"))
    assert query == ListQuery(limit=25, sort_key="created_at", descending=True, default_scope=True)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("limit=0", {"limit": 0}),
        ("limit=007", {"limit": 7}),
        ("limit=1000", {"limit": 1000}),
        *((f"limit={text}", {"limit": 1000}) for text in ("1001", "9" * 19, "9" * 20, "1" + "0" * 5000)),
        ("limit=7&limit=8", {"limit": 8}),
        ("limit=x&limit=8", {"limit": 8}),
        ("marker=a", {"marker": "a"}),
        ("marker=", {}),
        *((f"sort_key={key}", {"sort_key": key}) for key in SORT_KEYS),
        ("sort_dir=asc", {"descending": False}),
        ("sort_dir=desc", {}),
        ("name=f%C3%BCr+alle", {"name": "für alle"}),
        ("name=a:b", {"name": "a:b"}),
        *((f"{name}=", {name: ""}) for name in ("name", "status", "container_format", "disk_format")),
        ("status=active", {"status": "active"}),
        ("container_format=bare&disk_format=other", {"container_format": "bare", "disk_format": "other"}),
        ("min_ram=0&min_disk=2147483647", {"min_ram": 0, "min_disk": 2**31 - 1}),
        ("size_min=0&size_max=9223372036854775807", {"size_min": 0, "size_max": 2**63 - 1}),
        *((f"protected={word}", {"protected": True}) for word in ("true", "True", "TRUE", "1")),
        *((f"protected={word}", {"protected": False}) for word in ("false", "FALSE", "0")),
        ("is_public=TRUE", {"is_public": True, "default_scope": False}),
        ("is_public=0", {"is_public": False, "default_scope": False}),
        ("is_public=None", {"default_scope": False}),
        ("property-OS-Type=x&property-a.b%20%C3%A9=y", {"properties": (("os_type", "x"), ("a_b__", "y"))}),
        ("property-os=linux&property-OS=linux", {"properties": (("os", "linux"),)}),
        ("property-os=a&property-os=b&property-=", {"properties": (("os", "b"), ("", ""))}),
        (f"property-{'k' * 300}={'v' * 5000}", {"properties": (("k" * 300, "v" * 5000),)}),
        ("nothing=x&Limit=x&deleted=%00&changes_since=x&property=y&property_os=z", {}),
    ],
)
def test_parameters(text: str, fields: dict[str, Any], make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?{text}", identity=ADMIN)) == ListQuery(**fields)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2011-09-22T19:57:47",
            "2011-09-22T19:57:47Z",
            "2011-09-22 19:57:47",
            "20110922T195747",
            "2011-W38-4T19:57:47",
        ),
        *("2011-09-22T21:57:47%2B02:00", "2011-09-22T21:57:47+02:00", "2011-09-22+21:57:47+0200"),
        *("2011-09-22T14:57:47-05:00", "2011-09-23T01:27:47.000000%2B05:30", "2011-09-23T01:27:47.000000+05:30"),
    ],
)
def test_a_moment_may_have_any_offset(text: str, make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?changes-since={text}")).changes_since == EVENING


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2011-09-22", EVENING.replace(hour=0, minute=0, second=0)),
        ("2011-09-22T19:57:47.25", EVENING.replace(microsecond=250_000)),
    ],
)
def test_a_moment_may_be_a_date_or_part_of_a_second(text: str, moment: datetime, make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?changes-since={text}")).changes_since == moment


@pytest.mark.parametrize("word", ["none", "true", "0"])
def test_only_an_administrators_is_public_counts(word: str, make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?is_public={word}", identity=ALICE)) == ListQuery()


@pytest.mark.parametrize(
    ("text", "expected"), [("", 3), ("limit=4", 4), ("limit=5", 5), ("limit=6", 5), ("limit=0", 0)]
)
def test_the_settings_say_how_long_a_page_is(
    text: str, expected: int, make_request: MakeRequest, install_with: Callable[..., Installation]
) -> None:
    request = make_request(f"/images?{text}")
    request.registry = install_with(limit_param_default="3", api_limit_max="5").registry
    assert read_list_query(request).limit == expected


def test_the_default_is_cut_as_well(make_request: MakeRequest, install_with: Callable[..., Installation]) -> None:
    request = make_request("/images")
    request.registry = install_with(api_limit_max="5").registry
    assert read_list_query(request).limit == 5


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        *(
            (f"limit={text}", ["limit must be a whole number, 0 or more"])
            for text in ("", "x", "-1", "%2B1", "1.5", "1_0", "%D9%A3")
        ),
        *(
            ("sort_key=" + text, ["sort_key", "name, status, container_format"])
            for text in ("", "owner", "Name", "name,id", "checksum")
        ),
        *((f"sort_dir={text}", ["sort_dir must be asc or desc"]) for text in ("", "up", "ascending")),
        *((f"{name}=" + "x" * 256, [name]) for name in ("marker", "name", "status", "container_format", "disk_format")),
        *(
            (f"{name}={text}", [f"{name} must be a whole number from 0 to 2147483647"])
            for name in ("min_ram", "min_disk")
            for text in ("", "-1", "x", "1.0", "2147483648")
        ),
        *(
            (f"{name}={text}", [f"{name} must be a whole number from 0 to 9223372036854775807"])
            for name in ("size_min", "size_max")
            for text in ("", "-1", "x", "1e3", "9223372036854775808", "9" * 5000)
        ),
        *((f"protected={text}", ["protected must be true or false"]) for text in ("", "yes", "none", "2")),
        *((f"is_public={text}", ["is_public must be true, false or none"]) for text in ("", "maybe", "yes")),
        *(
            (f"changes-since={text}", ["changes-since must be a time such as"])
            for text in (
                "",
                "x",
                "2011-13-01",
                "1899-12-31",
                "2011-09-22T25:00",
                "1316721467",
                "9999-12-31T23:59:59-14:00",
                "2011-09-22T19:57:47+99:00",
            )
        ),
        *(
            (f"{name}=a%0Ab", [f"'{name}' holds a control character"])
            for name in ("name", "status", "container_format", "disk_format", "marker", "property-os")
        ),
        ("property-a%00b=c", [r"'property-a\x00b' holds a control character"]),
        ("name=%C2%85", ["'name' holds a control character"]),
        ("name=%ff", ["The query string is not UTF-8"]),
        ("&".join(f"property-{number}=x" for number in range(21)), ["property-<key>: at most 20"]),
        ("property-os-type=a&property-OS_Type=b", ["property-<key>: two fall on the one key 'os_type'"]),
    ],
)
@pytest.mark.parametrize("identity", [ADMIN, ALICE], ids=str)
def test_a_bad_parameter_is_named_with_what_is_accepted(
    text: str, problems: list[str], identity: Any, make_request: MakeRequest
) -> None:
    with pytest.raises(Invalid) as caught:
        read_list_query(make_request(f"/images?{text}", identity=identity))
    assert len(caught.value.problems) == 1
    assert [words for words in problems if words not in str(caught.value)] == []


def test_all_bad_parameters_are_named_at_once(make_request: MakeRequest) -> None:
    properties = "&".join(f"property-{number}=%0D" for number in range(21))
    with pytest.raises(Invalid) as caught:
        read_list_query(make_request(f"/images?marker=a%0Ab&limit=1.5&sort_key=x&changes-since=&{properties}"))
    named = ("'marker'", "limit", "sort_key", "changes-since", "'property-20'", "property-<key>")
    assert [name for name in named if name not in str(caught.value)] == []
    assert len(caught.value.problems) == 26


def test_twenty_properties_may_be_asked_for_and_one_of_them_twice(make_request: MakeRequest) -> None:
    text = "&".join(f"property-{number}=x" for number in (*range(20), 0))
    assert len(read_list_query(make_request(f"/images?{text}")).properties) == 20
