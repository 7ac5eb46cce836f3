"""Who lets the Swift store in, what others may see of its container, and what it tells of its secrets."""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote
from urllib.request import urlopen

import pytest

import containers
from containers import MEBIBYTE, TestContainer
from origins import certified
from pyrimage.errors import BlobDamaged, Invalid, StoreUnavailable
from pyrimage.stores.interfaces import ListedStore, LocationStore, RedirectingStore
from pyrimage.stores.swift import SwiftStoreFactory
from pyrimage.stores.swift.store import SwiftStore, make_store
from pyrimage.stores.testing import IMAGE_ID, pattern, read_all
from servers import swift
from servers.keystone import Identity
from servers.keystone_accounts import CAROL
from servers.processes import free_port
from servers.swift import Cluster

pytestmark = pytest.mark.system

SIZE = 2 * MEBIBYTE + 5
DATA = pattern(SIZE)
TEMP_URL_KEY = "a key for temporary URLs"
WRONG_KEY = "of nobody at all"


@pytest.fixture
def container(swift_cluster: Cluster) -> TestContainer:
    return containers.static(swift_cluster)


@pytest.fixture
def store(container: TestContainer) -> SwiftStore:
    return container.create().store()


def put(store: SwiftStore, data: bytes = DATA) -> str:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, len(data))
    writer.write(data)
    writer.finish()
    return key


# -- the container


@pytest.mark.parametrize(
    "use",
    [
        SwiftStore.check,
        put,
        lambda store: store.open_reader(store.new_key(IMAGE_ID), 5),
        lambda store: store.delete(store.new_key(IMAGE_ID)),
        lambda store: list(store.blobs()),
    ],
    ids=["check", "put", "open_reader", "delete", "blobs"],
)
def test_missing_container_makes_the_store_unavailable_and_is_named_in_the_log(
    container: TestContainer, caplog: pytest.LogCaptureFixture, use: Callable[[SwiftStore], object]
) -> None:
    with pytest.raises(StoreUnavailable):
        use(container.store())
    assert f"Swift has no container '{container.name}'" in caplog.text


def test_first_upload_makes_the_container_where_it_may(container: TestContainer) -> None:
    store = container.store(swift_store_create_container_on_put=True)
    store.check()
    assert list(store.blobs()) == []
    store.open_writer(store.new_key(IMAGE_ID), 5).discard()
    key = put(store)
    assert read_all(store, key, SIZE) == DATA


def test_nobody_else_may_read_the_container(container: TestContainer) -> None:
    """S27."""
    put(container.store(swift_store_create_container_on_put=True))
    assert [name for name in container.head() if name in ("x-container-read", "x-container-write")] == []


def test_blobs_and_segments_are_listed_by_their_key(store: SwiftStore, container: TestContainer) -> None:
    assert isinstance(store, ListedStore)
    container.put("notes.txt", b"somebody else's")
    blob, unfinished = put(store), store.new_key(IMAGE_ID)
    store.open_writer(unfinished, SIZE).write(DATA)
    store.open_writer(store.new_key(IMAGE_ID), 5).write(b"bytes")
    container.put(f"{unfinished}/00000001", b"left behind")
    assert {each.key for each in store.blobs()} == {blob, unfinished}


# -- users


@pytest.mark.parametrize(
    "settings",
    [
        {"swift_store_key": WRONG_KEY},
        {"swift_store_user": "test:nobody"},
        {"swift_store_user": swift.OTHER},
        {"swift_store_auth_version": "3", "swift_store_user": "project:user"},
        {"swift_store_auth_address": f"http://127.0.0.1:{free_port()}/auth/v1.0"},
    ],
    ids=["key", "user", "no rights", "version", "nobody there"],
)
def test_user_who_is_not_let_in_makes_the_store_unavailable(
    container: TestContainer, settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    container.create()
    with pytest.raises(StoreUnavailable) as caught:
        container.store(**settings).check()
    assert "has no container" not in caplog.text
    assert_secret(caplog, [caught.value], [swift.KEY, WRONG_KEY])


@pytest.mark.parametrize(
    "settings",
    [
        {"swift_store_key": WRONG_KEY},
        {"swift_store_user": "tenant-b:alice"},
        {"swift_store_user_domain_name": "Other"},
        {"swift_store_region": "RegionTwo"},
    ],
    ids=["password", "project", "domain", "region"],
)
def test_keystone_that_does_not_let_the_user_in_is_explained(
    swift_cluster: Cluster,
    identity_service: Identity,
    settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    container = containers.with_keystone(swift_cluster, identity_service.url)
    with pytest.raises(StoreUnavailable) as caught:
        container.store(**settings).check()
    assert "swift_store_" in caplog.text
    assert_secret(caplog, [caught.value], [WRONG_KEY])


def test_user_who_may_only_read_can_do_that(swift_cluster: Cluster, identity_service: Identity) -> None:
    owned = containers.with_keystone(swift_cluster, identity_service.url).create()
    key = put(owned.store())
    reading = containers.with_keystone(swift_cluster, identity_service.url, CAROL, name=owned.name).store()
    reading.check()
    assert read_all(reading, key, SIZE) == DATA
    with pytest.raises(StoreUnavailable):
        put(reading)
    with pytest.raises(StoreUnavailable):
        reading.delete(key)
    assert read_all(reading, key, SIZE) == DATA


def test_old_blobs_are_readable_with_a_new_user(swift_cluster: Cluster, identity_service: Identity) -> None:
    """S45."""
    container = containers.with_keystone(swift_cluster, identity_service.url).create()
    key = put(container.store())
    assert container.user not in container.store().url(key)
    renewed = container.store(swift_store_user="tenant-a:boss", swift_store_key="pw")
    assert read_all(renewed, key, SIZE) == DATA


class _Swift(BaseHTTPRequestHandler):
    """Lets everybody in, and has every container."""

    users: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.users.append(self.headers["X-Auth-User"])
        self.send_response(200)
        self.send_header("X-Storage-Url", f"https://127.0.0.1:{self.server.server_port}/v1/account")  # type: ignore[attr-defined]
        self.send_header("X-Auth-Token", "token")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(204)
        self.end_headers()


def test_key_does_not_go_where_a_redirect_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """S24."""
    monkeypatch.setattr(_Swift, "users", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Swift) as elsewhere:

        class Redirecting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{elsewhere.server_port}/auth/v1.0")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
            for each in (server, elsewhere):
                threading.Thread(target=each.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/auth/v1.0"
            settings = SwiftStoreFactory(
                swift_store_auth_address=address, swift_store_user="test:tester", swift_store_key=swift.KEY
            )
            with pytest.raises(StoreUnavailable):
                make_store("swift", settings).check()
            assert _Swift.users == []
            server.shutdown()
            elsewhere.shutdown()


@pytest.mark.parametrize(
    ("name", "days", "is_good"), [("127.0.0.1", 2, True), ("127.0.0.1", 0, False), ("x", 2, False)]
)
def test_certificate_must_be_one_that_we_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, is_good: bool
) -> None:
    """S47."""
    monkeypatch.setattr(_Swift, "users", [])
    certificate, context = certified(tmp_path, name, days)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Swift) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = SwiftStoreFactory(
            swift_store_auth_address=f"https://127.0.0.1:{server.server_port}/auth/v1.0",
            swift_store_user="test:tester",
            swift_store_key=swift.KEY,
        )
        with pytest.raises(StoreUnavailable):
            make_store("swift", settings).check()
        trusting = make_store("swift", dataclasses.replace(settings, swift_store_cacert=certificate))
        with contextlib.nullcontext() if is_good else pytest.raises(StoreUnavailable):
            trusting.check()
        assert _Swift.users == ["test:tester"] * is_good
        server.shutdown()


# -- registered bytes


@pytest.fixture
def other(swift_cluster: Cluster) -> TestContainer:
    """Another container of the same account."""
    return containers.static(swift_cluster).create()


def register(store: SwiftStore, container: TestContainer, name: str) -> str:
    assert isinstance(store, LocationStore)
    address = container.auth_url.partition("://")[2]
    key = store.register(f"swift+http://{address}/{container.name}/{quote(name)}")
    assert key is not None
    assert not store.is_key(key)
    return key


@pytest.mark.parametrize("name", ["disk.img", "a folder/disk 1.img", "ünï?#%2F.img"])
def test_registered_bytes_are_read_where_they_lie(store: SwiftStore, other: TestContainer, name: str) -> None:
    other.put(name, b"registered")
    key = register(store, other, name)
    assert store.stat(key) == 10
    assert read_all(store, key, 10, 2, 5) == b"giste"
    assert store.register(store.url(key)) == key


def test_registered_bytes_are_never_removed(store: SwiftStore, other: TestContainer) -> None:
    """S20."""
    other.put("disk.img", b"registered")
    with pytest.raises(BlobDamaged):
        store.delete(register(store, other, "disk.img"))
    assert other.contents() == ["disk.img"]


def test_missing_object_cannot_be_registered(store: SwiftStore, other: TestContainer) -> None:
    with pytest.raises(Invalid):
        store.stat(register(store, other, "disk.img"))


@pytest.mark.parametrize("header", ["X-Symlink-Target", "X-Object-Manifest"])
def test_object_that_leads_into_our_container_cannot_be_registered(
    store: SwiftStore, container: TestContainer, other: TestContainer, header: str
) -> None:
    """S20."""
    key = put(store, b"private")
    other.put("link", b"", {header: f"{container.name}/{key}"})
    link = register(store, other, "link")
    with pytest.raises(Invalid):
        store.stat(link)
    with pytest.raises(BlobDamaged):
        store.open_reader(link, 7)


# -- temporary URLs


def test_blob_can_be_read_with_a_temporary_url(container: TestContainer) -> None:
    container.create(X_Container_Meta_Temp_URL_Key=TEMP_URL_KEY)
    store = container.store(swift_store_temp_url_key=TEMP_URL_KEY)
    assert isinstance(store, RedirectingStore)
    disposition = "attachment; filename=\"_.img\"; filename*=UTF-8''%C3%BC%20%22.img"
    url = store.temporary_url(put(store), 60, disposition)
    assert url is not None
    with urlopen(url, timeout=60) as answer:  # noqa: S310
        assert answer.read() == DATA
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["Content-Disposition"].endswith("filename*=UTF-8''%C3%BC%20%22.img")


def test_there_are_no_temporary_urls_without_their_key(store: SwiftStore) -> None:
    assert store.temporary_url(put(store, b"bytes"), 60, "attachment") is None


# -- secrets


@pytest.mark.parametrize("version", ["1", "3"])
def test_secrets_are_nowhere_in_the_log(
    swift_cluster: Cluster, identity_service: Identity, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S42, S44, S46."""
    caplog.set_level(logging.DEBUG)
    container = containers.static(swift_cluster)
    if version == "3":
        container = containers.with_keystone(swift_cluster, identity_service.url)
    container.create(X_Container_Meta_Temp_URL_Key=TEMP_URL_KEY)
    store = container.store(swift_store_temp_url_key=TEMP_URL_KEY)
    store.check()
    key = put(store)
    assert read_all(store, key, SIZE) == DATA
    url = store.temporary_url(key, 60, "attachment")
    errors: list[BaseException] = []
    for use in (
        lambda: store.open_reader(store.new_key(IMAGE_ID), 5),
        lambda: store.open_reader(key, 5),
        lambda: put(container.store(swift_store_container="missing")),
        lambda: container.store(swift_store_key=WRONG_KEY).check(),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
            use()
        errors.append(caught.value)
        logging.getLogger("pyrimage").warning("it failed", exc_info=caught.value)
    account = store.container.account
    things = [*errors, store, account, account.login, account.login.access(), store.container, container.settings()]
    secrets = [account.login.access().token, TEMP_URL_KEY, WRONG_KEY, str(url).partition("?")[2]]
    if len(container.key) > 4:  # "pw" is part of other words
        secrets.append(container.key)
    assert "PUT" in caplog.text
    assert_secret(caplog, things, secrets)


def assert_secret(caplog: pytest.LogCaptureFixture, things: Sequence[object], secrets: Sequence[str]) -> None:
    """Look for secrets, and for the beginnings of them, in the log, and in what things say of themselves."""
    shown = [caplog.text, *map(repr, things), *map(str, things)]
    assert [secret for secret in secrets for text in shown if secret[:10] in text] == []
