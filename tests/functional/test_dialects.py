"""Two spellings of one API: the guide's below ``/images``, the wire's below ``/v1/images``."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import OCTETS, add_row, data_headers, error_of, id_of, image_headers, md5, meta, sha256, upload

if TYPE_CHECKING:
    from conftest import Installation

WIRES = ["/v1/images", "/v1.0/images", "/v1.1/images"]
BOTH = ["/images", "/v1/images"]

BRIEF = {"id", "uri", "name", "disk_format", "container_format", "size", "checksum"}
DETAIL = BRIEF | {
    *("status", "is_public", "protected", "deleted", "owner", "min_disk", "min_ram"),
    *("created_at", "updated_at", "deleted_at", "properties"),
}
DETAILS = {
    "/images": {*DETAIL, "sha256", "last_error", "location"},
    "/v1/images": {*DETAIL, "virtual_size"},  # Glance's own, and uri
}

# What Glance 16 takes as headers of an image; any other is 400 there.
GLANCE_TAKES = {
    *("location", "size", "is_public", "disk_format", "container_format", "name", "status", "copy_from", "uri"),
    *("checksum", "created_at", "updated_at", "deleted_at", "min_ram", "min_disk", "owner", "store", "id"),
    *("protected", "deleted", "virtual_size"),
}
SOURCES = {"location", "copy_from", "store"}  # of these, an image that is copied has its bytes already
FIELDS: dict[str, Any] = {
    "disk_format": "qcow2",
    "container_format": "bare",
    "is_public": True,
    "min_disk": 2,
    "min_ram": 256,
}
ALWAYS = {"id", "uri", "name", "size", "checksum", "sha256", "status", "protected", "deleted", "location"}
GUIDE_HEADERS = ALWAYS | {
    *("disk-format", "container-format", "is-public", "min-disk", "min-ram"),
    *("created_at", "updated_at", "deleted_at", "property-os_type"),
}
WIRE_HEADERS = ALWAYS | {
    *("disk_format", "container_format", "is_public", "min_disk", "min_ram"),
    *("created_at", "updated_at", "property-os_type"),
}
MOMENT = datetime.fromisoformat("2010-02-03 09:34:01.999999")


@pytest.fixture
def image(testapp: TestApp) -> str:
    """The id of an image that has everything but an owner."""
    return id_of(upload(testapp, name="f17", **FIELDS, properties={"os-type": "linux"}))


@pytest.mark.parametrize(("collection", "names"), [("/images", GUIDE_HEADERS), ("/v1/images", WIRE_HEADERS)])
def test_answers_spell_their_headers_in_the_dialect_of_the_path(
    collection: str, names: set[str], testapp: TestApp, image: str
) -> None:
    path = f"{collection}/{image}"
    for answer in (testapp.head(path), testapp.get(path), testapp.put(path, headers=meta(properties={"os_type": "x"}))):
        assert set(image_headers(answer)) == names


@pytest.mark.parametrize(("collection", "names"), [("/images", GUIDE_HEADERS), ("/v1/images", WIRE_HEADERS)])
def test_a_post_answers_in_the_dialect_of_its_path(collection: str, names: set[str], testapp: TestApp) -> None:
    headers = data_headers(name="f17", **FIELDS, properties={"os-type": "linux"})
    assert set(image_headers(testapp.post(collection, b"bytes", headers=headers))) == names


@pytest.mark.parametrize("collection", WIRES)
def test_every_known_version_is_the_wire(collection: str, testapp: TestApp, image: str) -> None:
    headers = testapp.head(f"{collection}/{image}").headers
    assert headers["x-image-meta-disk_format"] == "qcow2"
    assert headers["x-image-meta-uri"] == f"http://localhost:80{collection}/{image}"


@pytest.mark.parametrize("collection", BOTH)
@pytest.mark.parametrize("separator", ["-", "_"])
def test_request_headers_are_taken_in_both_spellings(separator: str, collection: str, testapp: TestApp) -> None:
    headers = {f"x-image-meta-{name.replace('_', separator)}": str(value) for name, value in FIELDS.items()}
    made = testapp.post(collection, headers={"X-Image-Meta-NAME": "f17", **headers}).json["image"]
    assert {name: made[name] for name in FIELDS} == FIELDS


@pytest.mark.parametrize(
    ("collection", "spelling"), [("/images", "2010-02-03 09:34:01"), ("/v1/images", "2010-02-03T09:34:01")]
)
def test_times_are_spelled_as_the_dialect_has_them(
    collection: str, spelling: str, testapp: TestApp, installation: "Installation"
) -> None:
    image = add_row(
        installation, created_at=MOMENT, updated_at=MOMENT, deleted_at=MOMENT, deleted=True, status="deleted"
    )
    headers = image_headers(testapp.head(f"{collection}/{image}"))
    assert {headers[f"{word}_at"] for word in ("created", "updated", "deleted")} == {spelling}
    assert headers["deleted"] == "True"


@pytest.mark.parametrize(("collection", "spelling"), [("/images", ""), ("/v1/images", None)])
def test_a_deleted_at_that_is_not_there(
    collection: str, spelling: str | None, testapp: TestApp, installation: "Installation"
) -> None:
    path = f"{collection}/{add_row(installation, is_public=True)}"
    assert image_headers(testapp.head(path)).get("deleted_at") == spelling
    assert testapp.get(f"{collection}/detail").json["images"][0]["deleted_at"] == spelling
    assert testapp.put(path).json["image"]["deleted_at"] == spelling


@pytest.mark.parametrize("collection", BOTH)
def test_other_nulls_are_left_out_of_headers_and_null_in_json(
    collection: str, testapp: TestApp, installation: "Installation"
) -> None:
    path = f"{collection}/{add_row(installation)}"
    nulls = {"name", "checksum", "disk_format", "container_format", "owner"}
    nulls |= {"sha256", "last_error"} if collection == "/images" else {"virtual_size"}
    headers = image_headers(testapp.head(path))
    assert not {name.replace("-", "_") for name in headers} & nulls
    image = testapp.put(path).json["image"]
    assert {name for name, value in image.items() if value is None} >= nulls


@pytest.mark.parametrize("collection", BOTH)
def test_the_brief_list_has_the_guides_keys_and_id_and_checksum(collection: str, testapp: TestApp, image: str) -> None:
    [listed] = testapp.get(collection).json["images"]
    assert listed == {
        "id": image,
        "uri": f"http://localhost:80{collection}/{image}",
        "name": "f17",
        "disk_format": "qcow2",
        "container_format": "bare",
        "size": 5,
        "checksum": md5(b"bytes"),
    }


@pytest.mark.parametrize("collection", BOTH)
def test_the_detailed_list_has_everything(collection: str, testapp: TestApp, image: str) -> None:
    [listed] = testapp.get(f"{collection}/detail").json["images"]
    assert set(listed) == DETAILS[collection]
    assert listed["properties"] == {"os_type": "linux"}


@pytest.mark.parametrize("collection", BOTH)
def test_answers_to_changes_have_the_fields_of_the_detailed_list(collection: str, testapp: TestApp) -> None:
    made = testapp.post(collection, b"bytes", headers=data_headers(name="f17"))
    changed = testapp.put(f"{collection}/{made.json['image']['id']}", headers=meta(min_ram=1))
    for answer in (made, changed):
        assert set(answer.json["image"]) == DETAILS[collection]
        assert answer.headers["x-image-meta-sha256"] == sha256(b"bytes")
        assert answer.headers["x-image-meta-location"].startswith("file:///")


def test_a_glance_takes_every_field_of_the_list_as_a_header(testapp: TestApp, image: str) -> None:
    """That is how images are copied: each field of an image goes to the other server as a header of a POST."""
    [listed] = testapp.get("/v1/images/detail").json["images"]
    properties = listed.pop("properties")
    assert set(listed) <= GLANCE_TAKES - SOURCES
    data = testapp.get(f"/v1/images/{image}").body
    testapp.delete(f"/v1/images/{image}")
    copied = {**listed, "id": f"{image}-2"}  # to ourselves, as well
    made = testapp.post("/v1/images", data, headers=data_headers(**copied, properties=properties), status=201)
    assert {**made.json["image"], "uri": listed["uri"], "id": image} == {**listed, "properties": properties}


@pytest.mark.parametrize("collection", BOTH)
def test_json_has_the_types_of_json(collection: str, testapp: TestApp, image: str) -> None:
    [listed] = testapp.get(f"{collection}/detail").json["images"]
    kinds = {name: type(value) for name, value in listed.items()}
    assert {kinds[name] for name in ("size", "min_disk", "min_ram")} == {int}
    assert {kinds[name] for name in ("is_public", "protected", "deleted")} == {bool}


@pytest.mark.parametrize(("collection", "name"), [("/images", "is-public"), ("/v1/images", "is_public")])
def test_truth_is_spelled_with_a_capital_in_headers(collection: str, name: str, testapp: TestApp, image: str) -> None:
    headers = image_headers(testapp.head(f"{collection}/{image}"))
    assert (headers[name], headers["protected"], headers["deleted"]) == ("True", "False", "False")


@pytest.mark.parametrize("collection", BOTH)
def test_uris_are_absolute_and_in_the_dialect_they_were_asked_in(collection: str, testapp: TestApp) -> None:
    made = testapp.post(collection, b"bytes", headers=data_headers(name="f17", is_public=True))
    uri = f"http://localhost:80{collection}/{made.json['image']['id']}"
    assert made.headers["Location"] == made.headers["x-image-meta-uri"] == made.json["image"]["uri"] == uri
    assert [image["uri"] for image in testapp.get(f"{collection}/detail").json["images"]] == [uri]
    assert testapp.get(uri).body == b"bytes"


def test_only_a_post_answers_with_a_location(testapp: TestApp, image: str) -> None:
    path = f"/v1/images/{image}"
    for answer in (testapp.head(path), testapp.get(path), testapp.put(path)):
        assert "Location" not in answer.headers


def test_the_guide_requires_a_name(testapp: TestApp) -> None:
    for headers in ({}, meta(name="")):
        assert error_of(testapp.post("/images", headers=headers, status=400)) == "x-image-meta-name is required."


def test_the_wire_requires_no_name(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", b"bytes", headers=data_headers(), status=201).json["image"]
    assert made["name"] is None


def test_a_change_need_not_repeat_the_name(testapp: TestApp, image: str) -> None:
    assert testapp.put(f"/images/{image}", headers=meta(min_ram=1)).json["image"]["name"] == "f17"


@pytest.mark.parametrize("sent", ["text/plain", "application/x-www-form-urlencoded", "application/json", "x"])
@pytest.mark.parametrize("collection", BOTH)
def test_a_wrong_content_type_is_refused(sent: str, collection: str, testapp: TestApp) -> None:
    headers = {"Content-Type": sent, **meta(name="f17")}
    message = error_of(testapp.post(collection, b"bytes", headers=headers, status=400))
    assert sent in message
    assert OCTETS in message


def without_content_type(app: TestApp, method: str, path: str, **expected: Any) -> Any:
    return app.request(path, method=method, body=b"bytes", headers=meta(name="f17"), **expected)


def test_the_guide_takes_data_without_a_content_type(testapp: TestApp) -> None:
    assert without_content_type(testapp, "POST", "/images", status=201).json["image"]["status"] == "active"


def test_the_wire_requires_a_content_type_with_data(testapp: TestApp) -> None:
    assert "Content-Type" in error_of(without_content_type(testapp, "POST", "/v1/images", status=400))


def test_the_wire_requires_a_content_type_with_data_of_a_put(testapp: TestApp, installation: "Installation") -> None:
    path = f"/v1/images/{add_row(installation)}"
    assert "Content-Type" in error_of(without_content_type(testapp, "PUT", path, status=400))


def test_content_type_may_have_parameters(testapp: TestApp) -> None:
    headers = {**data_headers(name="f17"), "Content-Type": f"{OCTETS}; charset=binary"}
    testapp.post("/v1/images", b"bytes", headers=headers, status=201)


def test_content_type_is_of_no_account_without_data(testapp: TestApp) -> None:
    testapp.post("/v1/images", headers={"Content-Type": "text/plain", **meta(name="f17")}, status=201)


def test_generated_ids_are_random_uuids(testapp: TestApp, image: str) -> None:
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", image)
