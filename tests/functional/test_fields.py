"""What each field accepts. What it refuses: test_refusals.py."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import data_headers, detail, error_of, meta, reserve

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]
AMAZON = ["aki", "ari", "ami"]


def made_of(app: TestApp, **fields: Any) -> dict[str, Any]:
    return detail(app, reserve(app, **fields))


@pytest.mark.parametrize("word", ["raw", "iso", "vhd", "vhdx", "vdi", "qcow2", "vmdk", "ploop"])
def test_disk_formats(word: str, testapp: TestApp) -> None:
    assert made_of(testapp, disk_format=word)["disk_format"] == word


@pytest.mark.parametrize("word", ["bare", "ovf", "ova", "docker"])
def test_container_formats(word: str, testapp: TestApp) -> None:
    assert made_of(testapp, container_format=word)["container_format"] == word


@pytest.mark.parametrize("word", AMAZON)
@pytest.mark.parametrize("sent", [["disk_format"], ["container_format"], ["disk_format", "container_format"]])
def test_an_amazon_format_is_both(sent: list[str], word: str, testapp: TestApp) -> None:
    made = made_of(testapp, **dict.fromkeys(sent, word))
    assert (made["disk_format"], made["container_format"]) == (word, word)


@pytest.mark.parametrize("field", ["disk_format", "container_format"])
def test_a_change_to_an_amazon_format_heeds_what_is_stored(field: str, testapp: TestApp) -> None:
    bare, ovf = reserve(testapp), reserve(testapp, disk_format="raw", container_format="ovf")
    assert testapp.put(bare, headers=meta(**{field: "ami"})).json["image"]["container_format"] == "ami"
    message = error_of(testapp.put(ovf, headers=meta(**{field: "ami"}), status=400))
    assert "x-image-meta-disk-format, x-image-meta-container-format" in message


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "1", "yes", "Yes", "y", "t", "on"])
@pytest.mark.parametrize("field", ["is_public", "protected"])
def test_words_for_true(field: str, word: str, testapp: TestApp) -> None:
    assert made_of(testapp, **{field: word})[field] is True


@pytest.mark.parametrize("word", ["false", "False", "FALSE", "0", "no", "No", "n", "f", "off", "None"])
@pytest.mark.parametrize("field", ["is_public", "protected"])
def test_words_for_false(field: str, word: str, testapp: TestApp) -> None:
    assert made_of(testapp, **{field: word})[field] is False


def test_an_image_is_private_and_unprotected_unless_told_otherwise(testapp: TestApp) -> None:
    made = made_of(testapp)
    assert (made["is_public"], made["protected"]) == (False, False)


@pytest.mark.parametrize(("sent", "number"), [("0", 0), ("1", 1), ("007", 7), (str(2**63 - 1), 2**63 - 1)])
def test_sizes(sent: str, number: int, testapp: TestApp) -> None:
    assert testapp.post("/v1/images", headers=meta(size=sent)).json["image"]["size"] == number


@pytest.mark.parametrize("field", ["min_disk", "min_ram"])
@pytest.mark.parametrize("number", [0, 1, 2**31 - 1])
def test_demands_on_the_host(number: int, field: str, testapp: TestApp) -> None:
    assert made_of(testapp, **{field: number})[field] == number


@pytest.mark.parametrize("field", ["name", "owner"])
def test_texts_have_up_to_255_characters(field: str, testapp: TestApp) -> None:
    text = "雲" * 255
    assert made_of(testapp, **{field: text.encode().decode("latin-1")})[field] == text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2001-02-03T04:05:06", "2001-02-03T04:05:06"),
        ("2001-02-03 04:05:06", "2001-02-03T04:05:06"),
        ("2001-02-03T04:05:06.789", "2001-02-03T04:05:06"),
        ("2001-02-03T04:05:06Z", "2001-02-03T04:05:06"),
        ("2001-02-03T04:05:06+02:00", "2001-02-03T02:05:06"),
        ("2001-02-03", "2001-02-03T00:00:00"),
        ("1900-01-01", "1900-01-01T00:00:00"),
    ],
)
def test_times_of_images_that_come_from_elsewhere(sent: str, shown: str, testapp: TestApp) -> None:
    made = made_of(testapp, created_at=sent, updated_at=sent)
    assert (made["created_at"], made["updated_at"]) == (shown, shown)


@pytest.mark.parametrize("image_id", ["a", "0", "A.b_c-D", "a" * 64, "71c675ab-d94f-49cd-a114-e12490b328d9"])
def test_ids_that_the_client_chooses(image_id: str, testapp: TestApp) -> None:
    assert reserve(testapp, id=image_id) == f"/v1/images/{image_id}"


def test_the_one_store_may_be_named(testapp: TestApp) -> None:
    testapp.post("/v1/images", b"bytes", headers=data_headers(store="file"), status=201)
    testapp.put(reserve(testapp), b"bytes", headers=data_headers(store="file"), status=200)


@pytest.mark.parametrize("field", ["status", "deleted", "uri", "virtual_size", "deleted_at", "last_error"])
@pytest.mark.parametrize("value", ["", "None", "5", "True", "anything"])
def test_what_replication_tools_send_along_is_ignored(field: str, value: str, testapp: TestApp) -> None:
    made = made_of(testapp, **{field: value})
    assert (made["status"], made["deleted"], made["deleted_at"], made["last_error"]) == ("queued", False, None, None)


FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.mark.parametrize("fields", [{}, {"disk_format": "raw"}, {"container_format": "bare"}])
def test_formats_may_be_required_with_data(fields: dict[str, str], install_with: Install) -> None:
    installation = install_with(require_formats="true")
    app = installation.client()
    message = error_of(app.post("/v1/images", b"bytes", headers=data_headers(**fields), status=400))
    assert "pyrimage.require_formats" in message
    app.post("/v1/images", headers=meta(size=0, **fields), status=400)
    path = reserve(app, **fields)  # no data yet
    app.put(path, b"bytes", headers=data_headers(), status=400)
    app.put(path, b"bytes", headers=data_headers(**FORMATS), status=200)


def test_formats_that_are_required_may_be_known_already(install_with: Install) -> None:
    app = install_with(require_formats="true").client()
    app.put(reserve(app, **FORMATS), b"bytes", headers=data_headers(), status=200)
    app.put(reserve(app, disk_format="ami"), b"bytes", headers=data_headers(), status=200)
