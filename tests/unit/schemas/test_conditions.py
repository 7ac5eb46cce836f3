import contextlib
import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from factories import make_image
from pyrimage.api.v1.schemas.conditions import ByteRange, check_preconditions, is_known, read_range
from pyrimage.api.v1.schemas.dialect import GUIDE, WIRE, Dialect, read_accept
from pyrimage.catalogue.records import Image, Status
from pyrimage.errors import PreconditionFailed, RangeNotSatisfiable
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]

TAG = "c2e5db72bd7fd153f53ede5da5a06de3"
V1 = "application/vnd.openstack.images-v1"
V2 = "application/vnd.openstack.images-v2"


def short(text: str) -> str:
    """Name a case, also one of endless text."""
    return text if len(text) <= 60 else f"{text[:20]}... {len(text)}"


def image_of(size: int = 10, checksum: str | None = TAG) -> Image:
    return make_image(status=Status.ACTIVE, size=size, checksum=checksum)


def part_of(request: Request, image: Image) -> tuple[int, int] | None:
    """Return first byte and length, None for the whole image."""
    part = read_range(request, image)
    return None if part is None else (part.offset, part.length)


# Parts


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", (0, 10)),
        ("bytes=0-9", (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-5", (3, 3)),
        ("bytes=9-", (9, 1)),
        ("bytes=9-100", (9, 1)),
        ("bytes=0-18446744073709551616", (0, 10)),
        ("bytes=-1", (9, 1)),
        ("bytes=-10", (0, 10)),
        ("bytes=-11", (0, 10)),
        ("bytes=-18446744073709551616", (0, 10)),
        ("bytes=0000000003-0000000005", (3, 3)),
        ("BYTES=3-5", (3, 3)),
        ("bytes=3-5,", (3, 3)),
        ("bytes=, 3-5 ,\t", (3, 3)),
    ],
)
def test_one_range_is_a_part(asked: str, part: tuple[int, int], make_request: MakeRequest) -> None:
    """S54."""
    assert part_of(make_request(headers={"Range": asked}), image_of()) == part


@pytest.mark.parametrize(
    "asked", ["bytes=10-", "bytes=10-10", "bytes=10-20", "bytes=-0", "bytes=-000", "bytes=18446744073709551616-"]
)
def test_a_range_without_a_byte_is_refused(asked: str, make_request: MakeRequest) -> None:
    """S54."""
    with pytest.raises(RangeNotSatisfiable, match=r"Range: .* 10 bytes") as refused:
        read_range(make_request(headers={"Range": asked}), image_of())
    assert refused.value.size == 10


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=5-2", "bytes=10-9", "bytes=18446744073709551616-18446744073709551615"),  # ends before it begins
        *("bytes=0-1,3-4", "bytes=0-1, 3-4", "bytes=0-0,-1", "bytes=0-1,junk", "bytes=20-,30-"),  # several
        *("lines=0-1", "byte=0-1", "none", "*", "seconds=0-", "=0-1", "xbytes=0-1"),  # other units
        *("", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=--1", "bytes=-1-", "bytes=1", "bytes=+1-2"),
        *("bytes 0-1", "bytes =0-1", "bytes=0 - 1", "bytes=0-1x", "bytes=x-1", "bytes=0x0-0x1", "bytes=1_0-", "0-1"),
        *("bytes=\xb2-", "bytes=\u0663-", "bytes=0-1\n", "bytes=0-1\x00", "bytes=1.5-2", "bytes=0-1;bytes=2-3"),
    ],
)
def test_what_is_not_one_range_asks_for_the_whole(asked: str, make_request: MakeRequest) -> None:
    """S54."""
    assert read_range(make_request(HTTP_RANGE=asked), image_of()) is None


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=" + "9" * 250_000 + "-",
        "bytes=0-" + "9" * 250_000,
        "bytes=-" + "9" * 250_000,
        "bytes=" + "0" * 250_000 + "-1",
        "bytes=" + ",".join(["0-1"] * 10_000),
        "bytes=" + "," * 250_000,
        "bytes=" + ", \t" * 80_000 + "x",
        "bytes=0-1" + ", \t" * 80_000 + "x",
    ],
    ids=short,
)
def test_an_endless_range_asks_for_the_whole(asked: str, make_request: MakeRequest) -> None:
    """S54: no number of any length, and no list of any length, is worked on."""
    assert read_range(make_request(headers={"Range": asked}), image_of()) is None


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-"])
def test_an_empty_image_has_no_parts(asked: str, make_request: MakeRequest) -> None:
    assert read_range(make_request(headers={"Range": asked}), image_of(size=0)) is None


def test_without_a_range_the_whole_is_asked_for(make_request: MakeRequest) -> None:
    assert read_range(make_request(headers={"If-Range": TAG}), image_of()) is None


@given(st.integers(1, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
@example(10, None, 0)
def test_a_part_holds_the_bytes_that_the_range_names(size: int, first: int | None, last: int | None) -> None:
    request = Request.blank(
        "/", headers={"Range": f"bytes={'' if first is None else first}-{'' if last is None else last}"}
    )
    data = list(range(size))
    if first is None:
        named = None if last is None else data[max(size - last, 0) :]
    elif last is None:
        named = data[first:]
    else:
        named = None if last < first else data[first : last + 1]
    if named == []:
        with pytest.raises(RangeNotSatisfiable):
            read_range(request, image_of(size))
    else:
        part = read_range(request, image_of(size))
        assert named == (None if part is None else data[part.offset : part.offset + part.length])


@given(st.text(alphabet='bytes=0123456789-, W/"*\x00\xff', max_size=40), st.integers(1, 2**63 - 1))
def test_no_text_asks_for_bytes_that_are_not_there(text: str, size: int) -> None:
    """S54."""
    request = Request.blank("/", environ={"HTTP_RANGE": text})
    try:
        part = read_range(request, image_of(size)) or ByteRange(0, size)
    except RangeNotSatisfiable:
        return
    assert 0 <= part.offset < part.offset + part.length <= size


# If-Range


@pytest.mark.parametrize("expected", [TAG, f'"{TAG}"'])
def test_a_part_of_these_bytes_is_given(expected: str, make_request: MakeRequest) -> None:
    request = make_request(headers={"Range": "bytes=3-5", "If-Range": expected})
    assert part_of(request, image_of()) == (3, 3)


@pytest.mark.parametrize(
    "expected",
    [
        *(f'W/"{TAG}"', f"W/{TAG}", "*", '"*"', "", '""', '"', f'"{TAG}', f'{TAG}"', TAG.upper(), TAG[:-1], TAG + "0"),
        *(f'"{TAG}", "{TAG}"', f"{TAG}, {TAG}", "None", '"None"', "Sat, 29 Oct 1994 19:43:31 GMT", "9" * 250_000),
    ],
    ids=short,
)
@pytest.mark.parametrize("asked", ["bytes=3-5", "bytes=10-"])
def test_of_other_bytes_the_whole_is_given(asked: str, expected: str, make_request: MakeRequest) -> None:
    """S54: the comparison is strong, of times too."""
    assert read_range(make_request(headers={"Range": asked, "If-Range": expected}), image_of()) is None


@pytest.mark.parametrize("expected", ["None", '"None"', "", '""'])
def test_an_image_without_tag_is_never_the_one_that_is_meant(expected: str, make_request: MakeRequest) -> None:
    request = make_request(headers={"Range": "bytes=3-5", "If-Range": expected})
    assert read_range(request, image_of(checksum=None)) is None


# If-None-Match

OTHER = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    "asked",
    [
        *(TAG, f'"{TAG}"', f'W/"{TAG}"', "*", " * "),
        *(f'"{OTHER}", "{TAG}"', f'"{OTHER}","{TAG}"', f"{OTHER},{TAG}", f"{TAG} , {OTHER}", f'W/"x",\tW/"{TAG}"'),
        *(f'"a,b", {TAG}', f'"{OTHER}", {TAG}, W/"x"', f', ,"{TAG}",,', f'"", "{TAG}"', f'"*", {TAG}'),
        ", ".join([OTHER] * 7000 + [TAG]),
    ],
    ids=short,
)
def test_bytes_whose_tag_is_named_are_known(asked: str, make_request: MakeRequest) -> None:
    """S54: the comparison is weak; any of a list counts."""
    assert is_known(make_request(headers={"If-None-Match": asked}), image_of())


@pytest.mark.parametrize(
    "asked",
    [
        *(OTHER, f'"{OTHER}"', "", '""', '"*"', "W/*", f"{TAG}0", TAG[:-1], TAG.upper(), "None", '"None"'),
        *(f'"{TAG}', f'{TAG}"', f'w/"{TAG}"', f'W/ "{TAG}"', f'"W/{TAG}"', f"'{TAG}'", f"*, {OTHER}", "**"),
        *(f'"a,{TAG},b"', f'"a, {TAG}, b"', f'"{OTHER}, "', f'W/"x,{TAG}"', f'W/"a,{TAG},b"', f'"{TAG} "', f'" {TAG}"'),
        *('"' * 250_000, '",' * 125_000, "," * 250_000, " " * 250_000 + '"', 'W/"' * 80_000, "W/" * 125_000),
        *(", ".join([OTHER] * 7000), '"' + ",x" * 125_000, " ," * 125_000, "\t " * 125_000 + "x"),
    ],
    ids=short,
)
def test_bytes_whose_tag_is_not_named_are_not_known(asked: str, make_request: MakeRequest) -> None:
    """S54."""
    assert not is_known(make_request(HTTP_IF_NONE_MATCH=asked), image_of())


@pytest.mark.parametrize("asked", ["None", '"None"', 'W/"None"', "", '""'])
def test_an_image_without_tag_is_not_known_by_one(asked: str, make_request: MakeRequest) -> None:
    assert not is_known(make_request(headers={"If-None-Match": asked}), image_of(checksum=None))


def test_an_image_without_tag_is_there_all_the_same(make_request: MakeRequest) -> None:
    assert is_known(make_request(headers={"If-None-Match": "*"}), image_of(checksum=None))


def test_without_the_header_nothing_is_known(make_request: MakeRequest) -> None:
    assert not is_known(make_request(), image_of())


# Accept


@pytest.mark.parametrize(
    ("accept", "dialect"),
    [
        (None, GUIDE),
        ("", GUIDE),
        ("*/*", GUIDE),
        ("application/json", GUIDE),
        ("application/*", GUIDE),
        ("application/vnd.example.images-v1", GUIDE),
        (V1, WIRE),
        (f"{V1}.0", WIRE),
        (f"{V1}.1", WIRE),
        (V1.upper(), WIRE),
        (f"{V1};charset=utf-8", WIRE),
        (f"{V1} ; q=0.5", WIRE),
        (f"{V1}, */*", WIRE),  # as welcome, but named
        (f"*/*, {V1}", WIRE),
        (f"{V1}, application/json;q=0.9", WIRE),
        (f"{V1};q=0.5, application/json", GUIDE),
        (f"{V1};q=0.1, {V1}.1;q=0.9, */*;q=0.8", WIRE),
        (f"{V1};q=0", GUIDE),
        (f"{V1};q=0, */*", GUIDE),
        (f"{V1}, */*;q=0", WIRE),
        (V2, None),
        (f"{V1}.2", None),
        (f"{V1}0", None),
        (f"{V1}+json", None),
        (f"{V1}.", None),
        ("application/vnd.openstack.images-v", None),
        ("application/vnd.openstack.compute-v1", None),
        (f"{V2}, {V1};q=0.1", WIRE),  # the best of what is here
        (f"{V2}, */*;q=0.1", GUIDE),
        (f"{V2}, */*;q=0", None),
        (f"{V2};q=0", GUIDE),
        (f"{V1}, no media type", GUIDE),  # none that could be read
        (f"text/{V1}", GUIDE),
        (f'text/plain;x="{V2}"', GUIDE),
    ],
)
def test_accept_names_the_dialect(accept: str | None, dialect: Dialect | None, make_request: MakeRequest) -> None:
    request = make_request(headers={} if accept is None else {"Accept": accept})
    assert read_accept(request) is dialect


@pytest.mark.parametrize(
    "accept",
    [f"{V1}," * 6000, f"{V1}" + ";q=1" * 60_000, V1 + " " * 250_000 + "x", f'{V1};x="' + '\\"' * 100_000],
    ids=short,
)
def test_an_endless_accept_is_read_once(accept: str, make_request: MakeRequest) -> None:
    assert read_accept(make_request(headers={"Accept": accept})) in (GUIDE, WIRE)


# Times


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_a_time_has_three_forms(text: str, make_request: MakeRequest) -> None:
    """Those of RFC 9110, 5.6.7."""
    moment = datetime.fromisoformat("1994-11-06T08:49:37.5")
    image = dataclasses.replace(image_of(), activated_at=moment)
    earlier = dataclasses.replace(image, activated_at=moment - timedelta(seconds=1))
    later = dataclasses.replace(image, activated_at=moment + timedelta(seconds=1))
    same, known = make_request(headers={"Range": "bytes=3-5", "If-Range": text}), {"If-Modified-Since": text}
    assert [part_of(same, each) for each in (earlier, image, later)] == [None, (3, 3), None]
    assert [is_known(make_request(headers=known), each) for each in (earlier, image, later)] == [True, True, False]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "0", "Sun, 06 Nov 9994 08:49:37", "Sun, 06 Nov 9994 08:49:37 +0000", "9994-11-06T08:49:37Z"),
        *("Sun, 31 Feb 9994 08:49:37 GMT", "Sun, 06 Nov 9994 24:49:37 GMT", "Sun, 06 Nov 9994 08:49:37 GMT, x"),
        *(" " * 250_000, "Sun, 06 Nov 9994 08:49:37 GMT" + " " * 250_000, "9" * 250_000),
    ],
    ids=short,
)
def test_what_is_no_time_counts_as_not_sent(text: str, make_request: MakeRequest) -> None:
    assert not is_known(make_request(HTTP_IF_MODIFIED_SINCE=text), image_of())
    check_preconditions(make_request(HTTP_IF_UNMODIFIED_SINCE=text), image_of())


CONDITIONS = ["IF_RANGE", "IF_NONE_MATCH", "IF_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE"]


@given(st.dictionaries(st.sampled_from(["HTTP_RANGE", *(f"HTTP_{name}" for name in CONDITIONS)]), st.text(max_size=60)))
def test_no_header_is_an_error_of_ours(environ: dict[str, Any]) -> None:
    """S54."""
    request = Request.blank("/", environ=environ)
    assert is_known(request, image_of()) in (True, False)
    with contextlib.suppress(RangeNotSatisfiable):
        read_range(request, image_of())
    with contextlib.suppress(PreconditionFailed):
        check_preconditions(request, image_of())
