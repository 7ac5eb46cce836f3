"""What travels in header values and property keys, and comes back as it was sent."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from factories import add_row, data_headers, error_of, image_headers, insert_rows, meta, stored, wire
from pyrimage.models import PropertyRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Installation

BOTH = ["/images", "/v1/images"]
GLANCECLIENT = {"User-Agent": "python-glanceclient"}

VALUES = {
    "utf-8": "Fedora für Übermütige, 雲のイメージ 🐧",
    "commas and quotes": """a, b; "c, \\"d", 'e', f=g""",
    "percent signs": "100%41 %zz %",
    "markup": "<script>alert(1)</script>&amp;",
    "blanks within": "a   b",
    "only a comma": ",",
    "a word of Python's": "None",
}


def round_trip(app: TestApp, collection: str, headers: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Reserve an image with these headers; return what HEAD and the detailed list say of it."""
    made = app.post(collection, headers=headers, status=201).json["image"]
    [listed] = app.get(f"{collection}/detail?is_public=None").json["images"]
    return image_headers(app.head(f"{collection}/{made['id']}")), listed


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("collection", BOTH)
def test_values_come_back_as_they_were_sent(collection: str, value: str, testapp: TestApp) -> None:
    headers, listed = round_trip(testapp, collection, meta(name=wire(value), properties={"p": wire(value)}))
    assert (headers["name"], headers["property-p"]) == (value, value)
    assert (listed["name"], listed["properties"]) == (value, {"p": value})


@pytest.mark.parametrize("collection", BOTH)
def test_an_empty_property_is_kept(collection: str, testapp: TestApp) -> None:
    headers, listed = round_trip(testapp, collection, meta(name="f17", properties={"empty": ""}))
    assert headers["property-empty"] == ""
    assert listed["properties"] == {"empty": ""}


@pytest.mark.parametrize("field", ["checksum", "disk_format", "container_format", "owner", "sha256"])
def test_an_empty_field_is_none(field: str, testapp: TestApp) -> None:
    headers, listed = round_trip(testapp, "/images", meta(name="f17", **{field: ""}))
    assert field.replace("_", "-") not in headers
    assert listed[field] is None


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_an_empty_size_announces_nothing(data: bytes, testapp: TestApp) -> None:
    made = testapp.post("/v1/images", data, headers=data_headers(size=""), status=201).json["image"]
    assert made["status"] == ("active" if data else "queued")


@pytest.mark.parametrize("field", ["size", "min_disk", "min_ram"])
def test_an_empty_number_is_zero(field: str, testapp: TestApp) -> None:
    assert round_trip(testapp, "/v1/images", meta(**{field: ""}))[1][field] == 0


@pytest.mark.parametrize("field", ["is_public", "protected"])
def test_an_empty_flag_is_false(field: str, testapp: TestApp) -> None:
    assert round_trip(testapp, "/v1/images", meta(**{field: ""}))[1][field] is False


def test_eight_kibibytes_of_headers_come_back(testapp: TestApp) -> None:
    properties = {f"key_{number}": f"value {number} ".ljust(100, ".") for number in range(80)}
    headers, listed = round_trip(testapp, "/v1/images", meta(name="n" * 255, properties=properties))
    assert listed["properties"] == properties
    assert {f"property-{key}": value for key, value in properties.items()}.items() <= headers.items()


def test_one_value_of_eight_kibibytes_comes_back(testapp: TestApp) -> None:
    assert round_trip(testapp, "/v1/images", meta(properties={"k": "v" * 8192}))[1]["properties"] == {"k": "v" * 8192}


def test_json_is_not_escaped(testapp: TestApp) -> None:
    """Else a page would have twice and three times the bytes that its properties may have."""
    testapp.post("/v1/images", headers=meta(is_public=True, properties={"a": wire("\u96f2\U0001f600")}), status=201)
    assert "\u96f2\U0001f600".encode() in testapp.get("/v1/images/detail").body


def test_thousands_of_properties_are_accepted(testapp: TestApp, install_with: "Callable[..., Installation]") -> None:
    """The guide: there is no limit on their number."""
    properties = {f"k{number}": "" for number in range(3000)}
    assert round_trip(testapp, "/v1/images", meta(properties=properties))[1]["properties"] == properties
    more = {f"k{number}": str(number) for number in range(10_000)}
    unlimited = install_with(image_property_bytes="0").client()
    assert round_trip(unlimited, "/v1/images", meta(properties=more))[1]["properties"] == more


@pytest.mark.parametrize(
    ("sent", "stored_as"),
    [
        ("OS-Type", "os_type"),
        ("os_type", "os_type"),
        ("a.b", "a_b"),
        ("a!#$&'*+^`|~b", "a___________b"),
        ("1", "1"),
        ("-x", "_x"),
        ("k" * 255, "k" * 255),
        ("property-x", "property_x"),
        ("size", "size"),
    ],
)
def test_a_property_key_is_lower_case_with_underscores_for_punctuation(
    sent: str, stored_as: str, testapp: TestApp
) -> None:
    """As the guide has it: dashes and punctuation are replaced with underscores."""
    headers, listed = round_trip(testapp, "/v1/images", meta(properties={sent: "x"}))
    assert listed["properties"] == {stored_as: "x"}
    assert headers[f"property-{stored_as}"] == "x"


@pytest.mark.parametrize("one", ["os.type", "os!type"])
def test_two_properties_on_one_key_are_refused(one: str, testapp: TestApp, installation: "Installation") -> None:
    headers = meta(name="f17", properties={one: "a", "os-type": "b"})
    assert "'os_type'" in error_of(testapp.post("/v1/images", headers=headers, status=400))
    assert stored(installation)["images"] == []


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_property_key_has_1_to_255_characters(key: str, testapp: TestApp) -> None:
    message = error_of(testapp.post("/v1/images", headers=meta(properties={key: "x"}), status=400))
    assert "x-image-meta-property-" in message
    assert "1 to 255" in message


CONTROLS = [
    "\x00",
    "\x01",
    "\t",
    "\r\n",
    "\n",
    "\r\n folded",
    "\r\nx-image-meta-is-public: true",
    "\x1b[2J",
    "\x7f",
    "\x85",
]


@pytest.mark.parametrize("field", ["name", "property-k", "owner", "status", "deleted_at", "uri", "no_such_thing"])
@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_are_refused(
    control: str, field: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S52: raw and as UTF-8."""
    headers = {f"x-image-meta-{field}": wire(f"a{control}b")}
    message = error_of(testapp.post("/v1/images", headers=headers, status=400))
    assert f"x-image-meta-{field.replace('_', '-')}" in message.replace("_", "-")
    assert stored(installation)["images"] == []


@pytest.mark.parametrize("field", ["name", "property-k"])
@pytest.mark.parametrize("control", CONTROLS)
def test_percent_encoded_control_characters_are_refused(control: str, field: str, testapp: TestApp) -> None:
    """S52: percent-encoded, for the client whose values are decoded."""
    headers = {**GLANCECLIENT, f"x-image-meta-{field}": quote(f"a{control}b")}
    assert "control character" in error_of(testapp.post("/v1/images", headers=headers, status=400))


def test_control_characters_in_an_encoded_name_are_refused(testapp: TestApp) -> None:
    """S52: property keys."""
    headers = {**GLANCECLIENT, "x-image-meta-property-a%0d%0aSet-Cookie:%20b": "x"}
    assert "control character" in error_of(testapp.post("/v1/images", headers=headers, status=400))


@pytest.mark.parametrize("collection", BOTH)
def test_an_old_bad_row_is_sent_without_what_would_break_the_headers(
    collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S52: rows that another hand wrote."""
    image = add_row(installation, name="a\r\nSet-Cookie: x=y", owner="tenant")
    bad = {"good": "x", "value": "a\r\nb: c", "key\r\nSet-Cookie": "x", "a: b": "x", "ключ": "x"}
    insert_rows(installation, *(PropertyRow(image_id=image, key=key, value=value) for key, value in bad.items()))
    answer = testapp.head(f"{collection}/{image}")
    assert "Set-Cookie" not in answer.headers
    headers = image_headers(answer)
    assert {name for name in headers if name.startswith("property-")} == {"property-good"}
    assert "name" not in headers
    assert headers["owner"] == "tenant"


@pytest.mark.parametrize("field", ["name", "property-k"])
@pytest.mark.parametrize("raw", ["caf\xe9", "\xff", "\xc3", "\xed\xa0\x80"])
def test_bytes_that_are_not_utf_8_are_refused(raw: str, field: str, testapp: TestApp) -> None:
    message = error_of(testapp.post("/v1/images", headers={f"x-image-meta-{field}": raw}, status=400))
    assert "not UTF-8" in message
    assert field in message.replace("_", "-")


@pytest.mark.parametrize("agent", ["python-glanceclient", "python-glanceclient/4.13.0"])
def test_a_client_that_percent_encodes_is_understood(agent: str, testapp: TestApp) -> None:
    value = "Ubuntu 10.04, für alle"
    encoded = {"x-image-meta-name": quote(value), "x-image-meta-property-os%5Ftype": quote(value)}
    headers, listed = round_trip(testapp, "/v1/images", {"User-Agent": agent, **encoded})
    assert headers["name"] == listed["name"] == value
    assert listed["properties"] == {"os_type": value}


def test_blanks_around_a_percent_encoded_value_are_cut_as_http_cuts_others(testapp: TestApp) -> None:
    sent = {**GLANCECLIENT, "x-image-meta-name": "%20f17%20", "x-image-meta-disk-format": "%20raw"}
    headers, listed = round_trip(testapp, "/v1/images", sent)
    assert headers["name"] == listed["name"] == "f17"
    assert listed["disk_format"] == "raw"


def test_one_field_in_two_encoded_spellings_is_refused(testapp: TestApp) -> None:
    """S50."""
    headers = {**GLANCECLIENT, "x-image-meta-disk-format": "raw", "x-image-meta-disk%2Dformat": "iso"}
    message = error_of(testapp.post("/v1/images", headers=headers, status=400))
    assert "'x-image-meta-disk-format' was sent twice" in message


def test_other_clients_values_are_not_decoded(testapp: TestApp) -> None:
    headers = {"User-Agent": "curl/8 (not python-glanceclient)", **meta(name="100%41")}
    assert round_trip(testapp, "/v1/images", headers)[1]["name"] == "100%41"


def test_only_headers_with_the_prefix_are_read(testapp: TestApp) -> None:
    """S50."""
    others = {"disk-format": "raw", "x-image-disk-format": "raw", "x-meta-disk-format": "raw", "x_image": "raw"}
    assert round_trip(testapp, "/v1/images", others)[1]["disk_format"] is None
