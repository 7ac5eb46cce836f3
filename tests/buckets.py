"""Buckets of real S3 services, stores in them, and all that lies there."""

import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from pyrimage.stores.s3 import S3StoreFactory
from pyrimage.stores.s3.store import S3Store
from servers.seaweedfs import Keys

MEBIBYTE = 2**20


@dataclass(frozen=True)
class TestBucket:
    """A bucket of its own at the service with this URL; it need not be there."""

    __test__ = False

    url: str
    keys: Keys
    part_size: int  # bytes; the least that the service takes, or more
    name: str = field(default_factory=lambda: f"images-{uuid.uuid4()}")

    @cached_property
    def client(self) -> Any:
        """A client that fails at once."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.keys.key,
            aws_secret_access_key=self.keys.secret,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def create(self) -> "TestBucket":
        self.client.create_bucket(Bucket=self.name)
        return self

    def settings(self, **settings: Any) -> S3StoreFactory:
        defaults = {
            "s3_store_host": self.url,
            "s3_store_bucket": self.name,
            "s3_store_access_key": self.keys.key,
            "s3_store_secret_key": self.keys.secret,
            "s3_store_bucket_url_format": "path",
        }
        return S3StoreFactory(**{**defaults, **settings})

    def store(self, **settings: Any) -> S3Store:
        return S3Store("s3", self.settings(**settings), part_size=self.part_size)

    def contents(self) -> list[str]:
        """Name every object, and every upload that is under way."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", ())
        uploads = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        return [each["Key"] for each in found] + [f"{each['Key']}, upload {each['UploadId']}" for each in uploads]
