"""Requests that a registry does not understand: fields, bodies, methods and paths, each refused by its place."""

from typing import TYPE_CHECKING, Any

import pytest

from factories import error_of, stored
from registries import Registry

if TYPE_CHECKING:
    from conftest import Installation


# JSON is read as JSON

NO_TEXT: list[Any] = [5, True, 1.5, [], {}]
NO_NUMBER: list[Any] = ["5", True, 1.0, -1, 2**63, [], {}]
NO_FLAG: list[Any] = ["true", 1, 0, [], {}]
NO_TIME: list[Any] = ["yesterday", 5, "1899-12-31T23:59:59", True]
NO_PROPERTIES: list[Any] = ["x", None, [], 5, {"a": None}, {"a": 5}, {"a": {}}, {"a": True}]


BAD_FIELDS: list[tuple[str, Any]] = [
    *((name, value) for name in ("name", "owner", "status", "disk_format", "checksum", "id") for value in NO_TEXT),
    *((name, value) for name in ("size", "min_disk", "min_ram") for value in NO_NUMBER),
    *((name, value) for name in ("is_public", "protected") for value in NO_FLAG),
    *((name, value) for name in ("created_at", "updated_at", "activated_at") for value in NO_TIME),
    *(("properties", value) for value in NO_PROPERTIES),
    *(("properties", {key: "x"}) for key in ("", "A", "a-b", "\u00e9", "a\n", "a" * 256)),
    *(("name", value) for value in ("a\nb", "\x00", "\x7f", "\ud800", "x" * 256)),
    *(("properties", {"a": value}) for value in ("a\r\nb", "\x00", "\udfff")),
    *(("id", value) for value in ("detail", "a/b", "-1", "x" * 65, "a b")),
    *(("checksum", "5" * 31), ("sha256", "g" * 64), ("min_ram", 2**31)),
    *(("disk_format", "floppy"), ("container_format", "box"), ("color", "red"), ("store", "file"), ("uid", None)),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_field_of_another_form_is_refused_by_its_place(
    field: str, value: Any, registry: Registry, installation: "Installation"
) -> None:
    before = stored(installation)
    message = error_of(registry.ask("POST", "/images", {"image": {field: value}}, 400))
    assert "body.image." in message
    assert field in message
    assert stored(installation) == before


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"image": []}', b'{"image": null}', b'{"image": "x"}'])
def test_a_body_without_an_image_is_refused(body: bytes, registry: Registry) -> None:
    assert "body" in error_of(registry.ask("POST", "/images", body, 400))


def test_all_that_is_wrong_is_told_at_once(registry: Registry) -> None:
    image = {"size": "5", "is_public": 1, "disk_format": "floppy", "color": "red", "properties": {"A": "x"}}
    message = error_of(registry.ask("POST", "/images", {"image": image, "blob": {"size": "x"}}, 400))
    named = ("image.size", "image.is_public", "image.disk_format", "color", "properties", "blob.size", "blob.claim")
    assert [each for each in named if each not in message] == []


def test_formats_that_do_not_go_together_are_refused(registry: Registry) -> None:
    message = error_of(
        registry.ask("POST", "/images", {"image": {"disk_format": "ami", "container_format": "bare"}}, 400)
    )
    assert "body.image.disk_format, body.image.container_format: aki, ari and ami" in message
    assert registry.add(disk_format="ami")["container_format"] == "ami"


def test_a_body_of_more_than_a_mebibyte_is_refused(registry: Registry) -> None:
    assert "1048576 bytes" in error_of(registry.ask("POST", "/images", b" " * (2**20 + 1), 413))


# Methods and paths


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        *(("/", "GET, HEAD"), ("/images", "GET, HEAD, POST"), ("/images/detail", "GET, HEAD")),
        *(("/images/f17", "GET, HEAD, PUT, DELETE"), ("/images/f17/members", "GET, HEAD, PUT")),
        *(("/images/f17/members/tenant-b", "PUT, DELETE"), ("/shared-images/tenant-b", "GET, HEAD")),
        *((f"/claims/{name}", "POST") for name in ("begin", "reserve", "renew", "end", "expired", "seize")),
        *((f"/claims/{name}", "POST") for name in ("is_located", "garbage", "forget_garbage")),
        ("/healthcheck", "GET, HEAD"),
    ],
)
def test_another_method_is_405_with_those_that_are(path: str, methods: str, registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("PATCH", path, status=405)
    assert answer.headers["Allow"] == methods
    assert error_of(answer)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images", "/versions", "/claims", "/claims/", "/claims/x", "/claims/garbage/", "/claims/garbage/x"),
        *("/images/f17/x", "/images/f17/", "/x", "//", "/shared-images", f"/shared-images/{'x' * 256}"),
        *(
            f"/images/f17/members/{'x' * 256}",
            "/images/f17/file",
            "/images/f17/file/x",
            "/images/f17/members/tenant-b/x",
            "/images/detail/",
            "/images/detail/x",
        ),
    ],
)
def test_another_path_is_404(path: str, registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("GET", path, status=404)
    assert error_of(answer)
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_an_error_names_its_kind_for_the_api_server(registry: Registry) -> None:
    registry.add(id="f17")
    answer = registry.ask("POST", "/images", {"image": {"id": "f17"}}, 409)
    assert answer.headers["X-Pyrimage-Error"] == "ImageExists"


def test_an_api_names_no_kind_of_error(installation: "Installation") -> None:
    assert "X-Pyrimage-Error" not in installation.client().get("/v1/images?limit=x", status=400).headers
