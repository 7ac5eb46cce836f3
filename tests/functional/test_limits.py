"""The cap and the quotas: 413 with the setting's name, before the body is read where that can be known.

How owners' quotas count, whatever comes at once, the conformance suite of the catalogue says.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from webtest import TestApp

from conftest import Installation, install
from default_catalogue import sql_catalogue_only
from factories import (
    ALICE,
    CHUNKED,
    data_headers,
    detail,
    error_of,
    meta,
    reserve,
    stored,
    upload,
    wire,
)
from pyrimage.stores.transfer import CHUNK
from registries import Registry

Installer = Callable[..., Installation]

CAP = 3 * CHUNK + 5
KEEP = {"x-glance-registry-purge-props": "false"}


class Source(io.BytesIO):
    """A body of so many bytes that notes how many were taken of it."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))

    @property
    def taken(self) -> int:
        return self.tell()


def send(client: TestApp, method: str, path: str, body: Source, headers: dict[str, str], **expected: Any) -> Any:
    """Send a body chunked, or with a Content-Length if ``headers`` announce that."""
    environ = {} if "Content-Length" in headers else dict(CHUNKED)
    return client.request(path, method=method, body_file=body, headers=headers, environ=environ, **expected)


def refuse(client: TestApp, method: str, path: str, headers: dict[str, str], size: int = 5) -> str:
    """Send a body that must be refused before a byte of it is read; return what is told."""
    body = Source(size)
    message = error_of(send(client, method, path, body, headers, status=413))
    assert body.taken == 0
    return message


def with_length(size: int) -> dict[str, str]:
    return {**data_headers(), "Content-Length": str(size)}


def with_size(size: int) -> dict[str, str]:
    return data_headers(size=size)


def chunked(size: int) -> dict[str, str]:
    return data_headers()


@pytest.fixture(scope="class")
def class_installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = install(tmp_path_factory.mktemp("limited"), **request.cls.SETTINGS)
    yield made
    made.engine.dispose()


@pytest.fixture
def limited(class_installation: Installation) -> Iterator[Installation]:
    """An installation with the settings of the test's class, empty."""
    yield class_installation
    class_installation.empty()


Announce = Callable[[int], dict[str, str]]
known = pytest.mark.parametrize("announce", [with_length, with_size])
Target = Callable[[TestApp], tuple[str, str]]


@pytest.fixture(params=["POST", "PUT"])
def target(request: pytest.FixtureRequest) -> Target:
    """Give method and path of an upload; that of a PUT is a queued image."""
    return lambda client: ("PUT", reserve(client)) if request.param == "PUT" else ("POST", "/v1/images")


class TestCap:
    """``pyrimage.image_size_cap``."""

    SETTINGS: ClassVar = {"image_size_cap": str(CAP)}

    @known
    def test_data_announced_beyond_the_cap_is_refused_before_a_byte_is_read(
        self, limited: Installation, target: Target, announce: Announce
    ) -> None:
        """S34."""
        client = limited.client()
        method, path = target(client)
        before = stored(limited)
        message = f"The image would have {CAP + 1} bytes; {CAP} are accepted (pyrimage.image_size_cap)."
        assert refuse(client, method, path, announce(CAP + 1), CAP + 1) == message
        assert error_of(client.request(path, method=method, headers=meta(size=CAP + 1), status=413)) == message
        assert stored(limited) == before

    def test_data_beyond_the_cap_is_stopped_within_one_chunk(self, limited: Installation, target: Target) -> None:
        """S34."""
        client, body = limited.client(), Source(20 * CHUNK)
        method, path = target(client)
        message = error_of(send(client, method, path, body, data_headers(), status=413))
        assert message == f"More bytes came than the {CAP} that are accepted (pyrimage.image_size_cap)."
        assert CAP < body.taken <= CAP + CHUNK
        rows = stored(limited)
        assert [rows[name] for name in ("stored", "claims", "image_locations")] == [[], [], []]
        assert len(rows["images"]) == (method == "PUT")
        if method == "PUT":
            image = detail(client, path)
            assert (image["status"], image["last_error"]) == ("queued", message)
        for announce in (with_length, with_size, chunked):  # just the cap is accepted
            method, path = target(client)
            assert send(client, method, path, Source(CAP), announce(CAP)).json["image"]["size"] == CAP

    def test_what_is_larger_than_a_cap_that_was_lowered_can_be_changed_and_not_filled(
        self, install_with: Installer
    ) -> None:
        """S34."""
        big = install_with()
        active, queued = upload(big.client(), bytes(CAP + 1)), reserve(big.client(), size=CAP + 1)
        small = install_with(image_size_cap=str(CAP), **big.shared).client()
        refuse(small, "PUT", queued, data_headers(), CAP + 1)
        for path in (active, queued):
            small.put(path, headers=meta(name="new", size=CAP + 1), status=200)
        assert len(small.get(active).body) == CAP + 1


@pytest.mark.parametrize("cap", ["0", "1TB"])
def test_data_beyond_the_announced_size_is_cut_off_at_its_first_byte(
    install_with: Installer, target: Target, cap: str
) -> None:
    """S35."""
    made = install_with(image_size_cap=cap)
    client = made.client()
    for size in (1, CHUNK - 1, CHUNK, 2 * CHUNK + 7):
        method, path = target(client)
        body = Source(20 * CHUNK)
        send(client, method, path, body, data_headers(size=size), status=400)
        assert body.taken == size + 1
        assert made.stored_keys() == []


class TestProperties:
    """``pyrimage.image_property_quota``."""

    SETTINGS: ClassVar = {"image_property_quota": "2"}
    MESSAGE = "The image would have 3 properties; 2 are accepted (pyrimage.image_property_quota)."

    def test_too_many_are_refused_before_the_body_is_read(self, limited: Installation) -> None:
        """S38: those that stay are counted, those that go are not."""
        client = limited.client()
        path = reserve(client, properties={"a": "", "b": ""})
        before = stored(limited)
        for method, where, count in (("POST", "/v1/images", "abc"), ("PUT", path, "c")):
            headers = meta(properties=dict.fromkeys(count, ""))
            assert refuse(client, method, where, {**data_headers(), **headers}) == self.MESSAGE
            answer = client.request(where, method=method, headers={**KEEP, **headers}, status=413)
            assert error_of(answer) == self.MESSAGE
        assert stored(limited) == before
        client.put(path, headers=meta(properties={"c": "", "d": ""}), status=200)
        client.put(path, headers={**KEEP, **meta(properties={"c": "1", "d": "2"})}, status=200)
        assert detail(client, path)["properties"] == {"c": "1", "d": "2"}

    def test_what_an_image_has_beyond_a_quota_that_was_lowered_it_may_keep(self, install_with: Installer) -> None:
        rich = install_with()
        path = reserve(rich.client(), properties={"a": "", "b": "", "c": ""})
        client = install_with(image_property_quota="1", **rich.shared).client()
        client.put(path, headers=meta(properties={"a": "1", "b": ""}), status=200)
        client.put(path, headers=meta(properties={"a": "", "d": ""}), status=413)


ROOM = 16_384
FITS, TOO_MUCH = "v" * (ROOM - 1), "v" * ROOM  # as the value of a key of one letter
TOO_LARGE = "The image's properties would have 16385 bytes; 16384 are accepted (pyrimage.image_property_bytes)."


class TestPropertyBytes:
    """``pyrimage.image_property_bytes``: 16 KiB of keys and values unless it is set."""

    @pytest.mark.parametrize("character", ["v", "\u00e4", "\U0001f600"], ids=ascii)
    def test_they_are_bytes_of_utf_8(self, testapp: TestApp, character: str) -> None:
        text = wire(character * ((ROOM - 3) // len(character.encode())))
        text += "x" * (ROOM - 1 - len(text))
        assert error_of(testapp.post("/v1/images", headers=meta(properties={"a": text + "x"}), status=413)) == TOO_LARGE
        testapp.post("/v1/images", headers=meta(properties={"a": text}), status=201)

    def test_those_that_stay_count_those_that_go_do_not_and_data_is_not_read(
        self, testapp: TestApp, installation: Installation
    ) -> None:
        path = reserve(testapp, properties={"a": FITS})
        before = stored(installation)
        for method, where, properties in (("POST", "/v1/images", {"a": TOO_MUCH}), ("PUT", path, {"b": ""})):
            assert refuse(testapp, method, where, data_headers(properties=properties)) == TOO_LARGE
        assert error_of(testapp.put(path, headers={**KEEP, **meta(properties={"b": ""})}, status=413)) == TOO_LARGE
        assert stored(installation) == before
        testapp.put(path, headers=meta(properties={"b": FITS}), status=200)
        testapp.put(path, headers={**KEEP, **meta(name="f18")}, status=200)

    def test_what_others_may_have_added_is_read_only_where_it_counts(
        self, testapp: TestApp, statements: list[str]
    ) -> None:
        path = reserve(testapp, properties={"a": "1"})

        def reads(headers: dict[str, str]) -> int:
            statements.clear()
            testapp.put(path, headers=headers, status=200)
            return sum(statement.startswith("SELECT image_properties") for statement in statements)

        assert reads(meta(properties={"a": "2", "b": "3"})) == 0
        assert reads({**KEEP, **meta(name="f17")}) == 0
        assert reads({**KEEP, **meta(properties={"b": "4"})}) == 1

    def test_the_registry_has_the_same_limit(self, registry: Registry) -> None:
        path = f"/images/{registry.add(properties={'a': FITS})['id']}"
        requests = [("PUT", path, {"a": TOO_MUCH}), ("PUT", path, {"b": ""}), ("POST", "/images", {"a": TOO_MUCH})]
        for method, where, sent in requests:
            assert error_of(registry.ask(method, where, {"image": {"properties": sent}}, 413)) == TOO_LARGE
        purge = {"x-glance-registry-purge-props": "true"}
        registry.ask("PUT", path, {"image": {"properties": {"b": FITS}}}, 200, purge)


class TestImages:
    """``pyrimage.user_image_quota``."""

    SETTINGS: ClassVar = {"user_image_quota": "2"}
    MESSAGE = "The owner would have 3 images; 2 are accepted (pyrimage.user_image_quota)."

    def test_one_image_more_is_refused_before_its_body_is_read(self, limited: Installation) -> None:
        """S38."""
        client = limited.client(ALICE)
        path = reserve(client)
        client.post("/v1/images", headers=meta(size=0), status=201)
        before = stored(limited)
        for announce in (with_length, with_size, chunked):
            assert refuse(client, "POST", "/v1/images", announce(5)) == self.MESSAGE
        for fields in ({}, {"size": 0}, {"size": 1000}, {"id": "mine"}):
            assert error_of(client.post("/v1/images", headers=meta(**fields), status=413)) == self.MESSAGE
        assert stored(limited) == before
        client.put(path, b"bytes", headers=data_headers(), status=200)  # those that are there can be filled,
        client.put(path, headers=meta(name="new"), status=200)  # changed
        client.delete(path)  # and leave their places to others
        reserve(client)
        client.post("/v1/images", headers=meta(), status=413)


class TestStorage:
    """``pyrimage.user_storage_quota``: ALICE may have a chunk and five bytes, and has five."""

    SETTINGS: ClassVar = {"user_storage_quota": str(CHUNK + 5)}
    # Not how many bytes the owner has: all who see the image see its last_error.
    MESSAGE = (
        f"The owner's images, uploads under way included, would have more than the {CHUNK + 5} bytes "
        "that are accepted (pyrimage.user_storage_quota)."
    )

    @pytest.fixture(autouse=True)
    def five_bytes(self, limited: Installation) -> None:
        upload(limited.client(ALICE), bytes(5))

    @known
    def test_one_byte_more_is_refused_before_a_byte_is_read(
        self, limited: Installation, target: Target, announce: Announce
    ) -> None:
        """S36."""
        client = limited.client(ALICE)
        method, path = target(client)
        before = stored(limited)
        assert refuse(client, method, path, announce(CHUNK + 1), CHUNK + 1) == self.MESSAGE
        assert stored(limited) == before

    def test_data_of_unknown_length_is_stopped_within_one_chunk(self, limited: Installation, target: Target) -> None:
        """S36."""
        client, body = limited.client(ALICE), Source(20 * CHUNK)
        method, path = target(client)
        before = stored(limited)
        assert error_of(send(client, method, path, body, data_headers(), status=413)) == self.MESSAGE
        assert body.taken == 2 * CHUNK
        if method == "PUT":
            image = detail(client, path)
            assert (image["status"], image["last_error"]) == ("queued", self.MESSAGE)
            send(client, "PUT", path, Source(CHUNK), data_headers(), status=200)
        else:
            assert {**stored(limited), "owners": []} == {**before, "owners": []}


@sql_catalogue_only
def test_without_a_quota_no_statement_is_spent_on_it(testapp: TestApp, statements: list[str]) -> None:
    properties = {"a": ""}
    path = reserve(testapp, properties=properties)
    counts = [len(statements)]
    for ask in (
        lambda: upload(testapp, properties=properties),
        lambda: send(testapp, "POST", "/v1/images", Source(5), data_headers()),
        lambda: testapp.put(path, headers=meta(owner="tenant-a", properties={"b": ""})),
        lambda: testapp.put(path, b"bytes", headers=data_headers()),
    ):
        before = len(statements)
        ask()
        counts.append(len(statements) - before)
    assert counts == [3, 6, 5, 4, 6]
    assert not [text for text in statements if "owners" in text or "count(" in text or "sum(" in text]
