"""The cap and the quotas: 413 with the setting's name, before the body is read where that can be known."""

import io
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from webtest import TestApp

from conftest import Installation, install
from factories import ADMIN, ALICE, BOB, CHUNKED, data_headers, detail, error_of, md5, meta, reserve, stored, upload
from pyrimage.catalogue.records import EMPTY
from pyrimage.stores.transfer import CHUNK

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


KNOWN = [with_length, with_size]
WAYS = [*KNOWN, chunked]


@pytest.fixture(params=["POST", "PUT"])
def target(request: pytest.FixtureRequest) -> Callable[[TestApp], tuple[str, str]]:
    """Give method and path of an upload; that of a PUT is a queued image."""
    return lambda client: ("PUT", reserve(client)) if request.param == "PUT" else ("POST", "/v1/images")


Target = Callable[[TestApp], tuple[str, str]]


class TestCap:
    """``pyrimage.image_size_cap``."""

    SETTINGS: ClassVar = {"image_size_cap": str(CAP)}

    @pytest.mark.parametrize("announce", KNOWN)
    def test_data_announced_beyond_the_cap_is_refused_before_a_byte_is_read(
        self, limited: Installation, target: Target, announce: Callable[[int], dict[str, str]]
    ) -> None:
        """S34."""
        client, body = limited.client(), Source(CAP + 1)
        method, path = target(client)
        before = stored(limited)
        answer = send(client, method, path, body, announce(CAP + 1), status=413)
        message = f"The image would have {CAP + 1} bytes; {CAP} are accepted (pyrimage.image_size_cap)."
        assert error_of(answer) == message
        assert body.taken == 0
        assert stored(limited) == before

    def test_data_that_a_reservation_announced_is_refused_before_a_byte_is_read_if_the_cap_was_lowered(
        self, install_with: Installer
    ) -> None:
        """S34."""
        big = install_with()
        path, body = reserve(big.client(), size=CAP + 1), Source(CAP + 1)
        small = install_with(image_size_cap=str(CAP), **big.shared)
        send(small.client(), "PUT", path, body, data_headers(), status=413)
        assert body.taken == 0
        small.client().put(path, headers=meta(name="new", size=CAP + 1), status=200)

    def test_data_beyond_the_cap_is_stopped_within_one_chunk(self, limited: Installation, target: Target) -> None:
        """S34."""
        client, body = limited.client(), Source(20 * CHUNK)
        method, path = target(client)
        message = error_of(send(client, method, path, body, data_headers(), status=413))
        assert message == f"More bytes came than the {CAP} that are accepted (pyrimage.image_size_cap)."
        assert CAP < body.taken <= CAP + CHUNK
        rows = stored(limited)
        assert [rows[name] for name in ("files", "claims", "image_locations")] == [[], [], []]
        if method == "POST":
            assert rows["images"] == []
        else:
            image = detail(client, path)
            assert (image["status"], image["last_error"]) == ("queued", message)
            send(client, "PUT", path, Source(CAP), data_headers(), status=200)

    @pytest.mark.parametrize("announce", WAYS)
    def test_data_of_just_the_cap_is_accepted(
        self, limited: Installation, target: Target, announce: Callable[[int], dict[str, str]]
    ) -> None:
        client = limited.client()
        method, path = target(client)
        assert send(client, method, path, Source(CAP), announce(CAP)).json["image"]["size"] == CAP

    def test_a_reservation_that_could_never_be_filled_is_refused(self, limited: Installation) -> None:
        client = limited.client()
        path = reserve(client, size=CAP)
        before = stored(limited)
        for method, place in (("POST", "/v1/images"), ("PUT", path)):
            answer = client.request(place, method=method, headers=meta(size=CAP + 1), status=413)
            assert "pyrimage.image_size_cap" in error_of(answer)
        assert stored(limited) == before

    def test_an_image_that_is_larger_than_a_cap_that_was_lowered_can_be_changed(self, install_with: Installer) -> None:
        big = install_with()
        path = upload(big.client(), bytes(CAP + 1))
        url = {"sqlalchemy.url": str(big.engine.url), "filesystem_store_datadir": str(big.datadir)}
        small = install_with(image_size_cap=str(CAP), **url).client()
        small.put(path, headers=meta(name="new", size=CAP + 1), status=200)
        assert len(small.get(path).body) == CAP + 1


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
        assert made.blobs_on_disk() == []


class TestProperties:
    """``pyrimage.image_property_quota``."""

    SETTINGS: ClassVar = {"image_property_quota": "2"}
    MESSAGE = "The image would have 3 properties; 2 are accepted (pyrimage.image_property_quota)."

    @pytest.mark.parametrize("has_data", [True, False])
    def test_too_many_are_refused_before_the_body_is_read(self, limited: Installation, has_data: bool) -> None:
        """S38."""
        client, body = limited.client(), Source(5)
        upload(client, properties={"a": "", "b": ""})
        before = stored(limited)
        headers = meta(properties={"a": "", "b": "", "c": ""})
        if has_data:
            answer = send(client, "POST", "/v1/images", body, {**data_headers(), **headers}, status=413)
        else:
            answer = client.post("/v1/images", headers=headers, status=413)
        assert error_of(answer) == self.MESSAGE
        assert body.taken == 0
        assert stored(limited) == before

    @pytest.mark.parametrize("has_data", [True, False])
    def test_those_that_stay_are_counted(self, limited: Installation, has_data: bool) -> None:
        """S38."""
        client, body = limited.client(), Source(5)
        path = reserve(client, properties={"a": "", "b": ""})
        before = stored(limited)
        headers = meta(properties={"c": ""})
        if has_data:
            answer = send(client, "PUT", path, body, {**data_headers(), **headers}, status=413)
        else:
            answer = client.put(path, headers={**KEEP, **headers}, status=413)
        assert error_of(answer) == self.MESSAGE
        assert body.taken == 0
        assert stored(limited) == before

    def test_those_that_go_are_not_counted(self, limited: Installation) -> None:
        client = limited.client()
        path = reserve(client, properties={"a": "", "b": ""})
        client.put(path, headers=meta(properties={"c": "", "d": ""}), status=200)
        client.put(path, headers={**KEEP, **meta(properties={"c": "1", "d": "2"})}, status=200)
        assert detail(client, path)["properties"] == {"c": "1", "d": "2"}

    def test_an_image_that_has_more_than_a_quota_that_was_lowered_can_be_changed(self, install_with: Installer) -> None:
        rich = install_with()
        path = reserve(rich.client(), properties={"a": "", "b": "", "c": ""})
        client = install_with(image_property_quota="1", **rich.shared).client()
        client.put(path, headers={**KEEP, **meta(name="new", properties={"a": "1"})}, status=200)
        client.put(path, headers=meta(properties={"a": "1", "b": ""}), status=200)
        assert error_of(client.put(path, headers=meta(properties={"a": "", "d": ""}), status=413))


class TestImages:
    """``pyrimage.user_image_quota``."""

    SETTINGS: ClassVar = {"user_image_quota": "2"}
    MESSAGE = "The owner would have 3 images; 2 are accepted (pyrimage.user_image_quota)."

    @pytest.mark.parametrize("announce", WAYS)
    def test_one_image_more_is_refused_before_its_body_is_read(
        self, limited: Installation, announce: Callable[[int], dict[str, str]]
    ) -> None:
        """S38."""
        client, body = limited.client(ALICE), Source(5)
        reserve(client)
        upload(client)
        before = stored(limited)
        answer = send(client, "POST", "/v1/images", body, announce(5), status=413)
        assert error_of(answer) == self.MESSAGE
        assert body.taken == 0
        assert stored(limited) == before

    @pytest.mark.parametrize("fields", [{}, {"size": 0}, {"size": 1000}, {"id": "mine"}], ids=str)
    def test_one_image_without_data_more_is_refused(self, limited: Installation, fields: dict[str, Any]) -> None:
        """S38."""
        client = limited.client(ALICE)
        reserve(client)
        client.post("/v1/images", headers=meta(size=0), status=201)
        before = stored(limited)
        assert error_of(client.post("/v1/images", headers=meta(**fields), status=413)) == self.MESSAGE
        assert stored(limited) == before

    def test_every_owner_has_a_quota_of_its_own_and_what_has_no_owner_has_one(self, limited: Installation) -> None:
        for client in (limited.client(ALICE), limited.client(BOB), limited.client()):
            reserve(client)
            reserve(client)
            client.post("/v1/images", headers=meta(), status=413)
        reserve(limited.client(ADMIN), owner="tenant-c")

    def test_a_deleted_image_leaves_its_place_to_another(self, limited: Installation) -> None:
        client = limited.client(ALICE)
        path = upload(client)
        reserve(client)
        client.delete(path)
        reserve(client)
        client.post("/v1/images", headers=meta(), status=413)

    def test_a_full_quota_does_not_keep_an_image_from_its_data_and_changes(self, limited: Installation) -> None:
        client = limited.client(ALICE)
        reserve(client)
        path = reserve(client)
        client.put(path, b"bytes", headers=data_headers(), status=200)
        client.put(path, headers=meta(name="new"), status=200)

    @pytest.mark.parametrize("has_data", [True, False])
    def test_an_image_is_not_given_to_an_owner_who_has_enough(self, limited: Installation, has_data: bool) -> None:
        for _ in range(2):
            reserve(limited.client(ALICE))
        path, admin, body = reserve(limited.client(BOB)), limited.client(ADMIN), Source(5)
        before, fields = stored(limited), {"owner": "tenant-a"}
        if has_data:
            answer = send(admin, "PUT", path, body, data_headers(**fields), status=413)
        else:
            answer = admin.put(path, headers=meta(**fields), status=413)
        assert error_of(answer) == self.MESSAGE
        assert body.taken == 0
        assert stored(limited) == before
        admin.put(path, headers=meta(owner="tenant-c"), status=200)


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

    @pytest.mark.parametrize("announce", KNOWN)
    def test_one_byte_more_is_refused_before_a_byte_is_read(
        self, limited: Installation, target: Target, announce: Callable[[int], dict[str, str]]
    ) -> None:
        """S36."""
        client, body = limited.client(ALICE), Source(CHUNK + 1)
        method, path = target(client)
        before = stored(limited)
        answer = send(client, method, path, body, announce(CHUNK + 1), status=413)
        assert error_of(answer) == self.MESSAGE
        assert body.taken == 0
        assert stored(limited) == before

    def test_data_of_unknown_length_is_stopped_within_one_chunk(self, limited: Installation, target: Target) -> None:
        """S36."""
        client, body = limited.client(ALICE), Source(20 * CHUNK)
        method, path = target(client)
        before = stored(limited)
        message = error_of(send(client, method, path, body, data_headers(), status=413))
        assert message == self.MESSAGE
        assert body.taken == 2 * CHUNK
        if method == "PUT":
            image = detail(client, path)
            assert (image["status"], image["last_error"]) == ("queued", message)
            send(client, "PUT", path, Source(CHUNK), data_headers(), status=200)
        else:
            assert {**stored(limited), "owners": []} == {**before, "owners": []}

    @pytest.mark.parametrize("announce", WAYS)
    def test_data_that_just_fits_is_accepted(
        self, limited: Installation, target: Target, announce: Callable[[int], dict[str, str]]
    ) -> None:
        client = limited.client(ALICE)
        method, path = target(client)
        image = send(client, method, path, Source(CHUNK), announce(CHUNK)).json["image"]
        assert (image["size"], image["checksum"]) == (CHUNK, md5(bytes(CHUNK)))
        reserve(client)
        client.post("/v1/images", b"x", headers=data_headers(), status=413)
        path = send(client, "POST", "/v1/images", Source(0), data_headers(), status=201).headers["Location"]
        assert client.head(path).headers["x-image-meta-checksum"] == EMPTY.checksum

    def test_an_announcement_is_not_counted(self, limited: Installation) -> None:
        client = limited.client(ALICE)
        reserve(client, size=100 * CHUNK)
        upload(client, bytes(CHUNK))

    @pytest.mark.parametrize("announce", WAYS)
    def test_a_deleted_image_leaves_its_bytes_to_others(
        self, limited: Installation, announce: Callable[[int], dict[str, str]]
    ) -> None:
        """S36."""
        client = limited.client(ALICE)
        path = upload(client, bytes(CHUNK))
        client.delete(path)
        send(client, "POST", "/v1/images", Source(CHUNK), announce(CHUNK), status=201)

    def test_an_image_is_not_given_to_an_owner_who_has_no_room(self, limited: Installation) -> None:
        path, admin = upload(limited.client(BOB), bytes(CHUNK + 1)), limited.client(ADMIN)
        answer = admin.put(path, headers=meta(owner="tenant-a"), status=413)
        assert "pyrimage.user_storage_quota" in error_of(answer)
        assert detail(admin, path)["owner"] == "tenant-b"
        admin.put(path, headers=meta(owner="tenant-c"), status=200)


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
