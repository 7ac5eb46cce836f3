"""The Swift store over a real Swift: with static and with dynamic large objects, and with Keystone."""

import pytest

import containers
from containers import MEBIBYTE, TestContainer
from pyrimage.errors import BlobDamaged, UploadEnded
from pyrimage.stores.interfaces import Buffer, Store
from pyrimage.stores.swift.store import SwiftStore
from pyrimage.stores.swift.writer import SwiftWriter
from pyrimage.stores.testing import IMAGE_ID, ListingConformance, PartedStoreConformance, pattern, read_all
from servers.keystone import Identity
from servers.swift import Cluster

pytestmark = pytest.mark.system

LARGE = 2 * MEBIBYTE + 5


@pytest.fixture
def nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writers wait for each segment: one under way could come after a deletion, and a dead server has none."""

    def write(writer: SwiftWriter, data: Buffer) -> None:
        writer._sender.write(data)
        writer._sender.wait()

    monkeypatch.setattr(SwiftWriter, "write", write)


class _Suite(PartedStoreConformance, ListingConformance):
    """The suite over a container of each test's own."""

    part_size = MEBIBYTE

    @pytest.fixture
    def empty_container(self) -> TestContainer:
        raise NotImplementedError

    @pytest.fixture
    def store(self, empty_container: TestContainer) -> SwiftStore:
        self.container = empty_container
        return empty_container.store()

    def leftovers(self) -> list[str]:
        return self.container.contents()

    @pytest.mark.usefixtures("nothing_under_way")
    @pytest.mark.parametrize("is_finished", [True, False])
    def test_delete_removes_parts_that_a_dead_server_left(self, store: Store, is_finished: bool) -> None:
        super().test_delete_removes_parts_that_a_dead_server_left(store, is_finished)

    @pytest.mark.parametrize(("size", "objects"), [(1, 1), (MEBIBYTE, 1), (MEBIBYTE + 1, 3), (LARGE, 4)])
    def test_large_blob_is_a_manifest_and_segments(self, store: SwiftStore, size: int, objects: int) -> None:
        key = self.put(store, pattern(size))
        assert len(self.container.contents()) == objects
        assert {name.partition("/")[0] for name in self.container.contents()} == {key}

    def test_blob_without_one_of_its_segments_is_damaged(self, store: SwiftStore) -> None:
        """S16."""
        key = self.put(store, pattern(LARGE))
        store.container.delete([f"{key}/00000002"])
        with pytest.raises((BlobDamaged, OSError)):
            read_all(store, key, LARGE)

    def test_blob_that_lost_a_segment_meanwhile_is_not_finished(self, store: SwiftStore) -> None:
        writer = store.open_writer(store.new_key(IMAGE_ID), LARGE)
        writer.write(pattern(LARGE))
        writer._sender.wait()
        store.container.delete([name for name in self.container.contents() if name.endswith("2")])
        with pytest.raises(UploadEnded):
            writer.finish()
        writer.discard()


class TestStaticLargeObjects(_Suite):
    @pytest.fixture
    def empty_container(self, swift_cluster: Cluster) -> TestContainer:
        return containers.static(swift_cluster).create()

    def test_large_blob_is_a_static_large_object(self, store: SwiftStore) -> None:
        assert self.container.head(self.put(store, pattern(LARGE)))["x-static-large-object"] == "True"


class TestDynamicLargeObjects(_Suite):
    @pytest.fixture
    def empty_container(self, swift_cluster: Cluster) -> TestContainer:
        return containers.dynamic(swift_cluster).create()

    def test_large_blob_is_a_dynamic_large_object(self, store: SwiftStore) -> None:
        assert "x-object-manifest" in self.container.head(self.put(store, pattern(LARGE)))


class TestWithKeystone(_Suite):
    @pytest.fixture
    def empty_container(self, swift_cluster: Cluster, identity_service: Identity) -> TestContainer:
        return containers.with_keystone(swift_cluster, identity_service.url).create()
