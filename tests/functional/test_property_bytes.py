"""``pyrimage.image_property_bytes``: 16 KiB of keys and values unless it is set, by whichever request they come."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestApp

from conftest import Installation
from factories import data_headers, error_of, image_headers, meta, reserve, send_chunked, stored, wire
from registries import Registry

Installer = Callable[..., Installation]

ROOM = 16_384
FITS, TOO_MUCH = "v" * (ROOM - 1), "v" * ROOM  # as the value of a key of one letter
MESSAGE = "The image's properties would have 16385 bytes; 16384 are accepted (pyrimage.image_property_bytes)."
KEEP = {"x-glance-registry-purge-props": "false"}


@pytest.mark.parametrize("character", ["v", "\u00e4", "\U0001f600"], ids=ascii)
def test_they_are_bytes_of_utf_8(testapp: TestApp, installation: Installation, character: str) -> None:
    text = wire(character * ((ROOM - 3) // len(character.encode())))
    text += "x" * (ROOM - 1 - len(text))
    before = stored(installation)
    refused = testapp.post("/v1/images", headers=meta(properties={"a": text + "x"}), status=413)
    assert error_of(refused) == MESSAGE
    assert stored(installation) == before
    testapp.post("/v1/images", headers=meta(properties={"a": text}), status=201)


def test_keys_and_all_properties_together_count(testapp: TestApp) -> None:
    many = {f"key_{number:03}": "v" * 1017 for number in range(16)}
    testapp.post("/v1/images", headers=meta(properties=many), status=201)
    testapp.post("/v1/images", headers=meta(properties={**many, "x": ""}), status=413)


def test_data_is_refused_before_it_is_read(testapp: TestApp) -> None:
    path = reserve(testapp, properties={"a": FITS})
    for method, target, properties in (("POST", "/v1/images", {"a": TOO_MUCH}), ("PUT", path, {"b": ""})):
        body = io.BytesIO(b"bytes")
        headers = data_headers(properties=properties)
        answer = testapp.request(
            target, method=method, body_file=body, headers=headers, environ={"pyrimage.chunked": True}, status=413
        )
        assert error_of(answer) == MESSAGE
        assert body.tell() == 0
    send_chunked(testapp, "PUT", path, b"bytes", data_headers(properties={"a": "x"}), status=200)


def test_those_that_stay_count_and_those_that_go_do_not(testapp: TestApp, installation: Installation) -> None:
    path = reserve(testapp, properties={"a": FITS})
    before = stored(installation)
    assert error_of(testapp.put(path, headers={**KEEP, **meta(properties={"b": ""})}, status=413)) == MESSAGE
    assert stored(installation) == before
    testapp.put(path, headers=meta(properties={"b": FITS}), status=200)
    testapp.put(path, headers={**KEEP, **meta(name="f18")}, status=200)


def test_an_image_that_has_more_can_be_changed_and_does_not_grow(install_with: Installer) -> None:
    rich = install_with(image_property_bytes="0")
    path = reserve(rich.client(), properties={"a": "v" * 50_000, "b": "v" * 50_000})
    client = install_with(**rich.shared).client()
    echo = {f"x-image-meta-{name}": text for name, text in image_headers(client.head(path)).items()}
    client.put(path, headers={**echo, "x-image-meta-name": "new"}, status=200)
    client.put(path, headers={**KEEP, **meta(properties={"a": "v" * 49_999, "c": ""})}, status=200)
    for purge in ({}, KEEP):
        grown: dict[str, Any] = {"a": "v" * 50_000, "b": "v" * 50_000, "c": "x"}
        refused = client.put(path, headers={**purge, **meta(properties=grown)}, status=413)
        assert "16384 are accepted (pyrimage.image_property_bytes)" in error_of(refused)
    client.put(path, headers=meta(properties={"a": "v" * 50_000}), status=200)
    client.put(path, b"bytes", headers=data_headers(properties={"a": "x"}), status=200)


def test_what_others_may_have_added_is_read_only_where_it_counts(testapp: TestApp, statements: list[str]) -> None:
    path = reserve(testapp, properties={"a": "1"})

    def reads(headers: dict[str, str], status: int = 200) -> int:
        statements.clear()
        testapp.put(path, headers=headers, status=status)
        return sum(statement.startswith("SELECT image_properties") for statement in statements)

    assert reads(meta(properties={"a": "2", "b": "3"})) == 0
    assert reads({**KEEP, **meta(name="f17")}) == 0
    assert reads({**KEEP, **meta(properties={"b": "4"})}) == 1


def test_the_registry_has_the_same_limit(registry: Registry) -> None:
    made = registry.add(properties={"a": FITS})
    for sent in ({"a": TOO_MUCH}, {"b": ""}):
        refused = registry.ask("PUT", f"/images/{made['id']}", {"image": {"properties": sent}}, 413)
        assert error_of(refused) == MESSAGE
    refused = registry.ask("POST", "/images", {"image": {"properties": {"a": TOO_MUCH}}}, 413)
    assert error_of(refused) == MESSAGE
    purge = {"x-glance-registry-purge-props": "true"}
    registry.ask("PUT", f"/images/{made['id']}", {"image": {"properties": {"b": FITS}}}, 200, purge)
