from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import wire
from pyrimage.api.v1.schemas.headers import header_name, read_headers
from pyrimage.errors import Invalid
from pyrimage.web.bodies import content_length, has_body
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]
GLANCECLIENT = {"User-Agent": "python-glanceclient"}


def fields_of(request: Request) -> dict[str, str]:
    headers = read_headers(request)
    assert headers.problems == []
    return headers.fields


@pytest.mark.parametrize("name", ["x-image-meta-disk-format", "X-IMAGE-META-DISK_FORMAT", "x_image_meta_disk_format"])
def test_a_field_is_named_in_lower_case_with_underscores(name: str, make_request: MakeRequest) -> None:
    assert fields_of(make_request(headers={name: "Raw"})) == {"disk_format": "Raw"}


def test_headers_without_the_prefix_are_not_read(make_request: MakeRequest) -> None:
    assert fields_of(make_request(headers={"Name": "x", "x-image-name": "x", "x-glance-name": "x"})) == {}


def test_properties_are_no_fields(make_request: MakeRequest) -> None:
    headers = read_headers(make_request(headers={"x-image-meta-property-OS.Type": "x", "x-image-meta-property": "y"}))
    assert (headers.fields, headers.properties, headers.problems) == ({"property": "y"}, {"os_type": "x"}, [])


@pytest.mark.parametrize("uri", ["http://host/x", ""])
def test_copy_from_is_a_problem(uri: str, make_request: MakeRequest) -> None:
    [problem] = read_headers(make_request(headers={"x-glance-api-copy-from": uri})).problems
    assert "x-glance-api-copy-from" in problem


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"x-image-meta-name": "\xff"}, "x-image-meta-name is not UTF-8"),
        ({"x-image-meta-\xff": "x"}, "is not UTF-8"),
        ({"x-image-meta-name": "a\nb"}, "'x-image-meta-name' holds a control character"),
        ({"x-image-meta-property-k": "\x00"}, "'x-image-meta-property-k' holds a control character"),
        ({"x-image-meta-property-": "x"}, "1 to 255 characters"),
        ({f"x-image-meta-property-{'k' * 256}": "x"}, "1 to 255 characters"),
        ({"x-image-meta-property-a-b": "x", "x-image-meta-property-a.b": "x"}, "the one key 'a_b'"),
        ({**GLANCECLIENT, "x-image-meta-min-ram": "1", "x-image-meta-min%2Dram": "1"}, "-min-ram' was sent twice"),
        ({**GLANCECLIENT, "x-image-meta-name": "%ff"}, "x-image-meta-name is not UTF-8"),
        ({**GLANCECLIENT, "x-image-meta-name": "%0A"}, "'x-image-meta-name' holds a control character"),
    ],
)
def test_what_is_wrong_with_names_and_characters(headers: dict[str, str], says: str, make_request: MakeRequest) -> None:
    [problem] = read_headers(make_request(headers=headers)).problems
    assert says in problem


def test_problems_are_collected(make_request: MakeRequest) -> None:
    headers = {"x-image-meta-name": "\n", "x-image-meta-owner": "\xff", "x-image-meta-property-": "x"}
    assert len(read_headers(make_request(headers=headers)).problems) == 3


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_arrives_as_it_was_sent(text: str) -> None:
    assert fields_of(Request.blank("/", headers={"x-image-meta-name": wire(text)})) == {"name": text}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_of_a_client_that_percent_encodes_arrives(text: str) -> None:
    headers = {**GLANCECLIENT, "x-image-meta-name": quote(text)}
    assert fields_of(Request.blank("/", headers=headers)) == {"name": text.strip(" ")}


@given(st.binary(max_size=20))
def test_no_bytes_are_taken_for_text_that_they_are_not(data: bytes) -> None:
    """S52."""
    headers = read_headers(Request.blank("/", headers={"x-image-meta-name": data.decode("latin-1")}))
    assert bool(headers.problems) != (headers.fields.get("name", "").encode() == data and "name" in headers.fields)


@pytest.mark.parametrize(
    ("field", "header"),
    [
        ("name", "x-image-meta-name"),
        ("disk_format", "x-image-meta-disk-format"),
        ("property_os_type", "x-image-meta-property-os-type"),
    ],
)
def test_a_message_names_the_header(field: str, header: str) -> None:
    assert header_name(field) == header


@pytest.mark.parametrize(
    ("environ", "length", "body"),
    [
        ({}, None, False),
        ({"CONTENT_LENGTH": ""}, None, False),
        ({"CONTENT_LENGTH": "0"}, 0, False),
        ({"CONTENT_LENGTH": "5"}, 5, True),
        ({"CONTENT_LENGTH": "0" * 40}, 0, False),
        ({"CONTENT_LENGTH": "0" * 40 + "5"}, 5, True),
        ({"pyrimage.chunked": True}, None, True),
        ({"CONTENT_LENGTH": "0", "pyrimage.chunked": True}, 0, True),
    ],
)
def test_a_body_is_there_if_it_has_bytes_or_chunks(
    environ: dict[str, Any], length: int | None, body: bool, make_request: MakeRequest
) -> None:
    request = make_request(**environ)
    assert (content_length(request), has_body(request)) == (length, body)


@pytest.mark.parametrize("length", ["-5", "+5", " 5", "5 ", "0x5", "5.0", "five", "٣", "5,5", "5\n"])
def test_a_length_that_is_no_number_is_refused(length: str, make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="Content-Length"):
        has_body(make_request(CONTENT_LENGTH=length))


def test_an_absurd_length_is_still_too_large(make_request: MakeRequest) -> None:
    assert (content_length(make_request(CONTENT_LENGTH="9" * 5000)) or 0) > 2**63
