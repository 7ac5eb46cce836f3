"""What travels in header values and property keys, in either spelling, and comes back as it was sent.

How each dialect spells its answers is printed, and compared, in docs/rest-api.md.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from factories import add_row, data_headers, error_of, image_headers, insert_rows, meta, stored, upload, wire
from pyrimage.models import PropertyRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Installation

BOTH = ["/images", "/v1/images"]
GLANCECLIENT = {"User-Agent": "python-glanceclient"}


def round_trip(app: TestApp, collection: str, headers: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Reserve an image with these headers; return what HEAD and the detailed list say of it."""
    made = app.post(collection, headers=headers, status=201).json["image"]
    [listed] = app.get(f"{collection}/detail?is_public=None").json["images"]
    return image_headers(app.head(f"{collection}/{made['id']}")), listed


@pytest.mark.parametrize(
    "value",
    [
        "Fedora für Übermütige, 雲のイメージ 🐧",
        """a, b; "c, \\"d", 'e', f=g""",
        "100%41 %zz %",
        "<script>alert(1)</script>&amp;",
        "a   b",
        ",",
        "None",
    ],
)
@pytest.mark.parametrize("collection", BOTH)
def test_values_come_back_as_they_were_sent(collection: str, value: str, testapp: TestApp) -> None:
    properties = {"p": wire(value), "empty": ""}
    headers, listed = round_trip(testapp, collection, meta(name=wire(value), properties=properties))
    assert (headers["name"], headers["property-p"], headers["property-empty"]) == (value, value, "")
    assert (listed["name"], listed["properties"]) == (value, {"p": value, "empty": ""})


def test_json_is_not_escaped(testapp: TestApp) -> None:
    """Else a page would have twice and three times the bytes that its properties may have."""
    testapp.post("/v1/images", headers=meta(is_public=True, properties={"a": wire("\u96f2\U0001f600")}), status=201)
    assert "\u96f2\U0001f600".encode() in testapp.get("/v1/images/detail").body


def test_kibibytes_and_thousands_of_properties_come_back(
    testapp: TestApp, install_with: "Callable[..., Installation]"
) -> None:
    """The guide: there is no limit on their number."""
    for properties in (
        {"k": "v" * 16_000},
        {f"key_{number}": f"value {number} ".ljust(100, ".") for number in range(80)},
    ):
        headers, listed = round_trip(testapp, "/v1/images", meta(name="n" * 255, properties=properties))
        assert listed["properties"] == properties
        assert {f"property-{key}": value for key, value in properties.items()}.items() <= headers.items()
        testapp.delete(f"/v1/images/{listed['id']}")
    more = {f"k{number}": str(number) for number in range(10_000)}
    unlimited = install_with(image_property_bytes="0").client()
    assert round_trip(unlimited, "/v1/images", meta(properties=more))[1]["properties"] == more


# Names


@pytest.mark.parametrize("collection", [*BOTH, "/v1.0/images", "/v1.1/images"])
@pytest.mark.parametrize("separator", ["-", "_"])
def test_fields_are_taken_in_both_spellings(separator: str, collection: str, testapp: TestApp) -> None:
    fields: dict[str, Any] = {
        "disk_format": "qcow2",
        "container_format": "bare",
        "is_public": True,
        "min_disk": 2,
        "min_ram": 256,
    }
    headers = {f"x-image-meta-{name.replace('_', separator)}": str(value) for name, value in fields.items()}
    shown, listed = round_trip(testapp, collection, {"X-Image-Meta-NAME": "f17", **headers})
    assert {name: listed[name] for name in fields} == fields
    assert shown["disk-format" if collection == "/images" else "disk_format"] == "qcow2"
    assert shown["uri"] == listed["uri"] == f"http://localhost:80{collection}/{listed['id']}"


# What Glance 16 takes as headers of an image beside the sources of data; any other is 400 there.
GLANCE_TAKES = {
    *("size", "is_public", "disk_format", "container_format", "name", "status", "uri", "checksum", "created_at"),
    *("updated_at", "deleted_at", "min_ram", "min_disk", "owner", "id", "protected", "deleted", "virtual_size"),
}


def test_a_glance_takes_every_field_of_the_list_as_a_header(testapp: TestApp) -> None:
    """That is how images are copied: each field of an image goes to the other server as a header of a POST."""
    fields: dict[str, Any] = {"disk_format": "raw", "container_format": "bare", "is_public": True}
    path = upload(testapp, name="f17", properties={"os-type": "linux"}, **fields)
    [listed] = testapp.get("/v1/images/detail").json["images"]
    properties = listed.pop("properties")
    assert set(listed) <= GLANCE_TAKES
    data = testapp.get(path).body
    testapp.delete(path)
    headers = data_headers(**{**listed, "id": "copied"}, properties=properties)  # to ourselves, as well
    made = testapp.post("/v1/images", data, headers=headers, status=201).json["image"]
    assert {**made, "uri": listed["uri"], "id": listed["id"]} == {**listed, "properties": properties}


@pytest.mark.parametrize(
    ("sent", "stored_as"),
    [
        ("OS-Type", "os_type"),
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
    assert (listed["properties"], headers[f"property-{stored_as}"]) == ({stored_as: "x"}, "x")


def test_a_property_key_has_1_to_255_characters_and_comes_once(testapp: TestApp) -> None:
    for key in ("", "k" * 256):
        message = error_of(testapp.post("/v1/images", headers=meta(properties={key: "x"}), status=400))
        assert "x-image-meta-property- must be followed by a key of 1 to 255" in message
    for one in ("os.type", "os!type"):
        headers = meta(properties={one: "a", "os-type": "b"})
        assert "'os_type'" in error_of(testapp.post("/v1/images", headers=headers, status=400))


def test_only_headers_with_the_prefix_are_read(testapp: TestApp) -> None:
    """S50."""
    others = {"disk-format": "raw", "x-image-disk-format": "raw", "x-meta-disk-format": "raw", "x_image": "raw"}
    assert round_trip(testapp, "/v1/images", others)[1]["disk_format"] is None


# Characters that no header can hold

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


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_are_refused(control: str, testapp: TestApp, installation: "Installation") -> None:
    """S52: raw and as UTF-8; percent-encoded, for the client whose values are decoded; in property keys."""
    for field in ("name", "property-k", "owner", "status", "deleted_at", "uri", "no_such_thing"):
        headers = {f"x-image-meta-{field}": wire(f"a{control}b")}
        message = error_of(testapp.post("/v1/images", headers=headers, status=400))
        assert f"x-image-meta-{field.replace('_', '-')}" in message
    for field, value in (("name", quote(f"a{control}b")), (f"property-{quote(control)}", "x")):
        headers = {**GLANCECLIENT, f"x-image-meta-{field}": value}
        assert "control character" in error_of(testapp.post("/v1/images", headers=headers, status=400))
    assert stored(installation)["images"] == []


@pytest.mark.parametrize("field", ["name", "property-k"])
@pytest.mark.parametrize("raw", ["caf\xe9", "\xff", "\xc3", "\xed\xa0\x80"])
def test_bytes_that_are_not_utf_8_are_refused(raw: str, field: str, testapp: TestApp) -> None:
    message = error_of(testapp.post("/v1/images", headers={f"x-image-meta-{field}": raw}, status=400))
    assert "not UTF-8" in message
    assert field in message.replace("_", "-")


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
    assert ("name" in headers, headers["owner"]) == (False, "tenant")


# The client that percent-encodes


@pytest.mark.parametrize("agent", ["python-glanceclient", "python-glanceclient/4.13.0"])
def test_a_client_that_percent_encodes_is_understood(agent: str, testapp: TestApp) -> None:
    value = "Ubuntu 10.04, für alle"
    encoded = {"x-image-meta-name": quote(f" {value} "), "x-image-meta-property-os%5Ftype": quote(value)}
    sent = {"User-Agent": agent, **encoded, "x-image-meta-disk-format": "%20raw"}
    headers, listed = round_trip(testapp, "/v1/images", sent)
    assert headers["name"] == listed["name"] == value  # blanks around it are cut as HTTP cuts others
    assert (listed["properties"], listed["disk_format"]) == ({"os_type": value}, "raw")


def test_other_clients_values_are_not_decoded(testapp: TestApp) -> None:
    headers = {"User-Agent": "curl/8 (not python-glanceclient)", **meta(name="100%41")}
    assert round_trip(testapp, "/v1/images", headers)[1]["name"] == "100%41"


def test_one_field_in_two_encoded_spellings_is_refused(testapp: TestApp) -> None:
    """S50."""
    headers = {**GLANCECLIENT, "x-image-meta-disk-format": "raw", "x-image-meta-disk%2Dformat": "iso"}
    message = error_of(testapp.post("/v1/images", headers=headers, status=400))
    assert "'x-image-meta-disk-format' was sent twice" in message
