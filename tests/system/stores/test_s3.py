"""The S3 store over two real services: SeaweedFS, and Swift's S3 API, which takes parts of any size."""

import pytest

from buckets import TestBucket
from pyrimage.stores.s3.store import S3Store
from pyrimage.stores.testing import ListingConformance, PartedStoreConformance

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def stores() -> dict[str, S3Store]:
    """Those that were made: boto3 takes long over a client."""
    return {}


class S3StoreConformance(PartedStoreConformance, ListingConformance):
    bucket: TestBucket

    def leftovers(self) -> list[str]:
        return self.bucket.contents()


class TestOnSeaweedFS(S3StoreConformance):
    @pytest.fixture
    def store(self, seaweedfs_bucket: TestBucket, stores: dict[str, S3Store]) -> S3Store:
        self.bucket, self.part_size = seaweedfs_bucket, seaweedfs_bucket.part_size
        return stores.setdefault("seaweedfs", seaweedfs_bucket.store())


class TestOnSwift(S3StoreConformance):
    @pytest.fixture
    def store(self, swift_bucket: TestBucket, stores: dict[str, S3Store]) -> S3Store:
        self.bucket, self.part_size = swift_bucket, swift_bucket.part_size
        return stores.setdefault("swift", swift_bucket.store())
