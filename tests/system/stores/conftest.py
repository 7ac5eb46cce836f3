"""Buckets of real services."""

import pytest

from buckets import MEBIBYTE, TestBucket
from servers import seaweedfs, swift
from servers.seaweedfs import S3, Keys
from servers.swift import Cluster


@pytest.fixture(scope="session")
def seaweedfs_bucket(s3_server: S3) -> TestBucket:
    return TestBucket(s3_server.url, seaweedfs.OWNER, part_size=5 * MEBIBYTE).create()


@pytest.fixture(scope="session")
def swift_bucket(swift_cluster: Cluster) -> TestBucket:
    """A bucket of Swift's S3 API, where parts may be small."""
    return TestBucket(swift_cluster.s3_url, Keys(swift.USER, swift.KEY), part_size=MEBIBYTE).create()
