"""What no client of the tests sends of Range, If-Range, If-None-Match, If-Match and Accept."""

import contextlib
from collections.abc import Callable
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
OTHER = "d41d8cd98f00b204e9800998ecf8427e"
V1 = "application/vnd.openstack.images-v1"
V2 = "application/vnd.openstack.images-v2"


def image_of(size: int = 10, checksum: str | None = TAG) -> Image:
    return make_image(status=Status.ACTIVE, size=size, checksum=checksum)


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


@pytest.mark.parametrize("asked", ["BYTES=3-5", "bytes=3-5,", "bytes=, 3-5 ,\t", "bytes=0000000003-0000000005"])
def test_a_range_may_be_spelled_so(asked: str, make_request: MakeRequest) -> None:
    assert read_range(make_request(HTTP_RANGE=asked), image_of()) == ByteRange(3, 3)


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=0-1,junk", "xbytes=0-1", "bytes=--1", "bytes=+1-2", "bytes =0-1", "bytes=0 - 1", "bytes=1_0-"),
        *("bytes=\xb2-", "bytes=\u0663-", "bytes=0-1\n", "bytes=1.5-2", "bytes=" + "9" * 41 + "-"),
    ],
)
def test_what_is_not_one_range_asks_for_the_whole(asked: str, make_request: MakeRequest) -> None:
    """S54."""
    assert read_range(make_request(HTTP_RANGE=asked), image_of()) is None


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        (f'W/"x",\tW/"{TAG}"', True),
        (f'"a,b", {TAG}', True),
        (f', ,"{TAG}",,', True),
        (f'"*", {TAG}', True),
        *((asked, False) for asked in (f'w/"{TAG}"', f'"W/{TAG}"', f'"{TAG}', f'"a,{TAG},b"', f'W/"a, {TAG}, b"')),
        *((asked, False) for asked in (f"*, {OTHER}", f'"{TAG} "', TAG.upper(), "None", '"None"', "")),
    ],
)
def test_any_tag_of_a_list_counts_as_a_whole(asked: str, known: bool, make_request: MakeRequest) -> None:
    """S54: there may be commas between quotation marks."""
    assert is_known(make_request(HTTP_IF_NONE_MATCH=asked), image_of()) is known
    assert not is_known(make_request(HTTP_IF_NONE_MATCH=asked), image_of(checksum=None))


@pytest.mark.parametrize("expected", ["None", '"None"', "", '""'])
def test_an_image_without_tag_is_never_the_one_that_is_meant(expected: str, make_request: MakeRequest) -> None:
    request = make_request(headers={"Range": "bytes=3-5", "If-Range": expected})
    assert read_range(request, image_of(checksum=None)) is None


@pytest.mark.parametrize(
    ("accept", "dialect"),
    [
        (V1.upper(), WIRE),
        (f"{V1} ; q=0.5", WIRE),
        (f"*/*, {V1}", WIRE),  # as welcome, but named
        (f"{V1}.1;q=0.9, {V1};q=0.1, */*;q=0.8", WIRE),
        (f"{V1};q=0, */*", GUIDE),
        (f"{V1}, */*;q=0", WIRE),
        (f"{V2}, {V1};q=0.1", WIRE),  # the best of what is here
        (f"{V2}, */*;q=0.1", GUIDE),
        (f"{V2}, */*;q=0", None),
        (f"{V2};q=0", GUIDE),
        (f"{V1}+json", None),
        (f"{V1}, no media type", GUIDE),  # none that could be read
        (f'text/plain;x="{V2}"', GUIDE),
    ],
)
def test_accept_names_the_dialect(accept: str, dialect: Dialect | None, make_request: MakeRequest) -> None:
    assert read_accept(make_request(headers={"Accept": accept})) is dialect


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
