"""The Swift store behind a network that breaks, with tokens that end, and where there is no room.

An upload goes on where that is possible; one that fails leaves nothing behind.
"""

from collections.abc import Iterator

import pytest
import requests

import containers
from containers import MEBIBYTE, TestContainer
from pyrimage.errors import StoreFull, StoreUnavailable
from pyrimage.stores.swift import login
from pyrimage.stores.swift.store import SwiftStore
from pyrimage.stores.swift.writer import SwiftWriter
from pyrimage.stores.testing import IMAGE_ID, pattern, read_all
from servers.fault_proxy import FaultProxy
from servers.keystone import Identity
from servers.swift import Cluster

pytestmark = pytest.mark.system

SIZE = 3 * MEBIBYTE + 5
DATA = pattern(SIZE)


@pytest.fixture(params=["static", "dynamic"])
def container(request: pytest.FixtureRequest, swift_cluster: Cluster) -> Iterator[TestContainer]:
    """A container of the test's own, in which it must leave nothing."""
    made: TestContainer = getattr(containers, request.param)(swift_cluster).create()
    yield made
    assert made.contents() == []


@pytest.fixture
def proxy(container: TestContainer) -> Iterator[FaultProxy]:
    with FaultProxy(container.port) as made:
        yield made


@pytest.fixture
def store(container: TestContainer, proxy: FaultProxy) -> SwiftStore:
    """A store that reaches Swift, and logs in, through the proxy."""
    store = container.store(swift_store_auth_address=container.auth_url.replace(str(container.port), str(proxy.port)))
    assert store.container.limits.max_file_size  # it has logged in, and knows the cluster
    return store


def cut(proxy: FaultProxy, *, up: int | None = None, down: int | None = None, count: int | None = 1) -> None:
    """Break the open connections, and the next ones after so many bytes to Swift, or to us."""
    proxy.reset_up, proxy.reset_down, proxy.count = up, down, count
    proxy.reset()


def send(writer: SwiftWriter, data: bytes) -> None:
    writer.write(data)
    writer.finish()


def put(store: SwiftStore) -> str:
    key = store.new_key(IMAGE_ID)
    send(store.open_writer(key, SIZE), DATA)
    return key


@pytest.mark.parametrize("at", [0, 1, 300_000, MEBIBYTE])
def test_upload_goes_on_after_a_connection_broke_in_a_segment(store: SwiftStore, proxy: FaultProxy, at: int) -> None:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, SIZE)
    writer.write(DATA[:MEBIBYTE])
    cut(proxy, up=at)
    writer.write(DATA[MEBIBYTE:])
    writer.finish()
    assert proxy.count == 0
    assert read_all(store, key, SIZE) == DATA
    store.delete(key)


@pytest.mark.parametrize("answered", [False, True])
def test_upload_ends_well_though_its_last_request_or_the_answer_was_lost(
    store: SwiftStore, proxy: FaultProxy, answered: bool
) -> None:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, SIZE)
    writer.write(DATA)
    writer._sender.finish()  # every segment is there
    cut(proxy, **({"down": 1} if answered else {"up": 50}))
    writer.finish()
    assert proxy.count == 0
    assert read_all(store, key, SIZE) == DATA
    store.delete(key)


@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("when", ["written", "finished"])
def test_upload_that_cannot_go_on_leaves_nothing(store: SwiftStore, proxy: FaultProxy, size: int, when: str) -> None:
    writer = store.open_writer(store.new_key(IMAGE_ID), size)
    writer.write(DATA[:size])
    if when == "finished":
        writer.finish()
    proxy.down()
    with pytest.raises(StoreUnavailable):
        writer.finish() if when == "written" else writer.discard()
    proxy.up()
    writer.discard()


def test_server_that_is_silent_is_given_up(
    store: SwiftStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "READ_SECONDS", 0.2)
    proxy.reset()
    writer = store.open_writer(store.new_key(IMAGE_ID), SIZE)
    proxy.hang = True
    with pytest.raises(StoreUnavailable):
        send(writer, DATA)
    proxy.hang = False
    monkeypatch.undo()
    proxy.reset()
    writer.discard()


@pytest.mark.parametrize("at", [1, 500, MEBIBYTE, SIZE])
def test_download_goes_on_where_its_connection_broke(store: SwiftStore, proxy: FaultProxy, at: int) -> None:
    key = put(store)
    cut(proxy, down=at, count=2)
    assert read_all(store, key, SIZE) == DATA
    assert proxy.count == 0
    store.delete(key)


@pytest.mark.parametrize("kept", [0, 1, SIZE // 2, SIZE - MEBIBYTE])
def test_download_that_cannot_go_on_never_ends_like_a_whole_one(
    store: SwiftStore, proxy: FaultProxy, kept: int
) -> None:
    """S16."""
    key = put(store)
    with store.open_reader(key, SIZE) as reader:
        assert len(reader.read(kept)) <= kept
        proxy.down()
        with pytest.raises(OSError, match="stored bytes end early"):
            reader.read(-1)
    proxy.up()
    store.delete(key)


def test_download_does_not_go_on_with_other_bytes(
    container: TestContainer, store: SwiftStore, proxy: FaultProxy
) -> None:
    """S13."""
    key = put(store)
    with store.open_reader(key, SIZE) as reader:
        reader.read(10)
        container.put(f"{key}/00000002", bytes(MEBIBYTE))
        proxy.reset()
        with pytest.raises(OSError, match="stored bytes end early"):
            reader.read(-1)
    store.delete(key)


@pytest.mark.parametrize("fault", [{"up": 50}, {"down": 1}], ids=["request", "answer"])
def test_deletion_goes_on_after_a_connection_broke(store: SwiftStore, proxy: FaultProxy, fault: dict[str, int]) -> None:
    key = put(store)
    cut(proxy, **fault)
    store.delete(key)
    assert proxy.count == 0


def test_deletion_that_fails_can_be_repeated(store: SwiftStore, proxy: FaultProxy) -> None:
    key = put(store)
    proxy.down()
    with pytest.raises(StoreUnavailable):
        store.delete(key)
    proxy.up()
    store.delete(key)


@pytest.mark.parametrize("size", [MEBIBYTE, SIZE])
def test_upload_beyond_a_quota_leaves_nothing(swift_cluster: Cluster, size: int) -> None:
    container = containers.static(swift_cluster).create(X_Container_Meta_Quota_Bytes=str(MEBIBYTE - 1))
    store = container.store()
    writer = store.open_writer(store.new_key(IMAGE_ID), size)
    with pytest.raises(StoreFull):
        send(writer, DATA[:size])
    writer.discard()
    assert container.contents() == []


def test_upload_and_download_outlive_their_token(swift_cluster: Cluster, identity_service: Identity) -> None:
    container = containers.with_keystone(swift_cluster, identity_service.url).create()
    store = container.store()
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, SIZE)
    writer.write(DATA[: 2 * MEBIBYTE])
    revoke(store, identity_service)
    writer.write(DATA[2 * MEBIBYTE :])
    writer.finish()
    revoke(store, identity_service)
    assert read_all(store, key, SIZE) == DATA
    revoke(store, identity_service)
    store.delete(key)
    assert container.contents() == []


def revoke(store: SwiftStore, identity: Identity) -> None:
    """Revoke the store's token at Keystone, as when a password was changed."""
    token = store.container.account.login.access().token
    both = {"X-Auth-Token": token, "X-Subject-Token": token}
    requests.delete(f"{identity.url}/auth/tokens", headers=both, timeout=60).raise_for_status()
