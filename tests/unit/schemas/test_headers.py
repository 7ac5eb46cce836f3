"""Any text in headers of images, ids and names, on its way in and out; and Content-Length."""

from collections.abc import Callable
from urllib.parse import quote

import colander
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_image, wire
from pyrimage.api.v1.schemas.dialect import GUIDE, WIRE, Dialect
from pyrimage.api.v1.schemas.headers import read_headers
from pyrimage.catalogue.records import utcnow
from pyrimage.errors import Invalid
from pyrimage.web.bodies import content_length, has_body
from pyrimage.web.fields import CONTROL, IMAGE_ID_FORM, HeaderType, is_member_id
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


def fields_of(headers: dict[str, str]) -> dict[str, str]:
    found = read_headers(Request.blank("/", headers=headers))
    assert found.problems == []
    return found.fields


@given(TEXTS)
def test_any_text_arrives_as_it_was_sent_and_goes_out_as_it_is(text: str) -> None:
    assert fields_of({"x-image-meta-name": wire(text)}) == {"name": text}
    sent = dict(WIRE.headers(make_image(properties={"k": text}), "http://localhost/images/a", None))
    assert sent["x-image-meta-property-k"] == wire(text)


@given(TEXTS)
def test_any_text_of_a_client_that_percent_encodes_arrives(text: str) -> None:
    headers = {"User-Agent": "python-glanceclient", "x-image-meta-name": quote(text)}
    assert fields_of(headers) == {"name": text.strip(" ")}


@given(st.binary(max_size=20))
def test_no_bytes_are_taken_for_text_that_they_are_not(data: bytes) -> None:
    """S52."""
    headers = read_headers(Request.blank("/", headers={"x-image-meta-name": data.decode("latin-1")}))
    assert bool(headers.problems) != (headers.fields.get("name", "").encode() == data and "name" in headers.fields)


@given(st.text(), st.text())
def test_no_stored_text_breaks_the_headers(key: str, value: str) -> None:
    """S52."""
    image = make_image(name=value, owner=value, properties={key: value})
    for name, sent in WIRE.headers(image, "http://localhost/images/a", None):
        assert not set(name + sent) & set("\r\n\0")
        assert name.isascii()
        sent.encode("latin-1")


NAMES = {"id", "uri", "name", "size", "checksum", "sha256", "status", "protected", "deleted", "owner", "location"}


@pytest.mark.parametrize(("dialect", "separator"), [(GUIDE, "-"), (WIRE, "_")])
def test_an_image_is_told_by_these_headers(dialect: Dialect, separator: str) -> None:
    texts = dict.fromkeys(("name", "checksum", "sha256", "owner", "disk_format", "container_format", "last_error"), "x")
    image = make_image(**texts, deleted_at=utcnow(), properties={"k": "v"})
    times = {"created_at", "updated_at", "deleted_at"}
    spelled = {
        f"{one}{separator}{two}"
        for one, two in (("disk", "format"), ("container", "format"), ("is", "public"), ("min", "disk"), ("min", "ram"))
    }
    told = {name.removeprefix("x-image-meta-") for name, _ in dialect.headers(image, "http://localhost/", "file:///x")}
    assert told == NAMES | times | spelled | {"property-k"}


@given(st.characters())
def test_control_characters_are_those_of_unicode(character: str) -> None:
    """S52."""
    is_control = ord(character) < 32 or 127 <= ord(character) < 160
    assert bool(CONTROL.search(f"a{character}b")) == is_control


@given(st.text())
def test_no_id_leaves_its_place_in_a_path_or_a_header(text: str) -> None:
    """S26."""
    if IMAGE_ID_FORM.fullmatch(text):
        assert text.isascii()
        assert text.strip("./\\ ") != ""
        assert not set(text) & set("/\\%:@?#\0\r\n \t")


@pytest.mark.parametrize("text", ["0", "...", ".a", "a@@", "a b", "%2f", "f\xfcr", "\U0001f600", "\xe9" * 255])
def test_what_a_path_can_hold_can_be_a_member(text: str) -> None:
    assert is_member_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", "@@a", "a/b", "a\\b", "a\nb", "a\x85", "\ud800", "n" * 256], ids=ascii)
def test_what_no_path_can_hold_is_no_member_s4(text: str) -> None:
    """S4: it could not remove itself."""
    assert not is_member_id(text)


def test_a_type_must_say_how_it_reads() -> None:
    with pytest.raises(NotImplementedError):
        colander.SchemaNode(HeaderType()).deserialize("x")


@pytest.mark.parametrize(
    ("text", "length"), [("", None), ("0" * 40, 0), ("0" * 40 + "5", 5), ("9" * 5000, int("9" * 30))]
)
def test_a_length_may_have_any_number_of_digits(text: str, length: int | None, make_request: MakeRequest) -> None:
    request = make_request(CONTENT_LENGTH=text)
    assert (content_length(request), has_body(request)) == (length, bool(length))


@pytest.mark.parametrize("length", ["-5", "+5", " 5", "5 ", "0x5", "5.0", "\u0663", "5,5", "5\n"])
def test_a_length_that_is_no_number_is_refused(length: str, make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="Content-Length"):
        has_body(make_request(CONTENT_LENGTH=length))
