"""The default store of the tests' installations: files, or what PYRIMAGE_TEST_STORE says, s3 or swift.

It has the name ``file`` whatever its kind is, so that tests can name it.
"""

import os
import uuid
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import boto3
import pytest
import swiftclient

from pyrimage.stores import load_settings
from pyrimage.stores.interfaces import ListedStore
from servers import seaweedfs, swift
from servers.seaweedfs import S3
from servers.swift import Cluster

KIND = os.environ.get("PYRIMAGE_TEST_STORE") or "file"

file_store_only = pytest.mark.skipif(KIND != "file", reason="is about files and directories")

SERVICES = {"s3": "s3_server", "swift": "swift_cluster"}  # the fixtures that start what a kind needs


class Place(NamedTuple):
    """A bucket or a container: the ini's keys, and a store there, whose client boto3 takes long to make."""

    keys: dict[str, str]
    store: ListedStore


class Service:
    """The service that the stores of a test run are in; there is none for files.

    Buckets and containers are used again when their test is over, because each costs SeaweedFS most of a second.
    """

    running: S3 | Cluster | None = None
    free: ClassVar[list[Place]] = []
    used: ClassVar[dict[Path, Place]] = {}


def place_in(directory: Path) -> dict[str, str]:
    """Return the ini's keys for a default store in an empty place, for the same directory the same."""
    if Service.running is None:
        return {"pyrimage.filesystem_store_datadir": str(directory / "images")}
    if directory not in Service.used:
        Service.used[directory] = Service.free.pop() if Service.free else _place(new_place(Service.running))
    return Service.used[directory].keys


def give_back(below: Path) -> None:
    """Empty the places of the directories below one, whatever a test made of them, for others to use."""
    for directory in [each for each in Service.used if each.is_relative_to(below)]:
        place = Service.used.pop(directory)
        empty(place.store)
        Service.free.append(place)


def _place(keys: dict[str, str]) -> Place:
    return Place(keys, store_in(keys))


def store_in(place: dict[str, str]) -> ListedStore:
    """Make the store of a place of a service, for the tests' own use."""
    (settings,) = load_settings({"pyrimage.auth": "none", **place}).stores
    store: ListedStore = settings.factory.make(settings.name, settings, lambda asking: "")
    return store


def empty(store: ListedStore) -> None:
    """Remove all that lies in a store, uploads that never ended too."""
    for key in {blob.key for blob in store.blobs()}:
        store.delete(key)


def new_place(service: S3 | Cluster) -> dict[str, str]:
    """Make a bucket or a container; return the ini's keys for a default store in it."""
    name = uuid.uuid4().hex
    return _bucket(service, name) if isinstance(service, S3) else _container(service, name)


def _bucket(service: S3, name: str) -> dict[str, str]:
    key, secret = seaweedfs.OWNER
    client: Any = boto3.client(
        "s3", endpoint_url=service.url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )
    client.create_bucket(Bucket=name)
    client.close()
    return {
        "pyrimage.stores": "file:s3",
        "pyrimage.s3_store_host": service.url,
        "pyrimage.s3_store_bucket": name,
        "pyrimage.s3_store_access_key": key,
        "pyrimage.s3_store_secret_key": secret,
        "pyrimage.s3_store_bucket_url_format": "path",
        "pyrimage.s3_store_large_object_chunk_size": "5",
    }


def _container(service: Cluster, name: str) -> dict[str, str]:
    connection: Any = swiftclient.Connection(service.auth_url, swift.USER, swift.KEY)
    connection.put_container(name)
    connection.close()
    return {
        "pyrimage.stores": "file:swift",
        "pyrimage.swift_store_auth_address": service.auth_url,
        "pyrimage.swift_store_user": swift.USER,
        "pyrimage.swift_store_key": swift.KEY,
        "pyrimage.swift_store_container": name,
        "pyrimage.swift_store_large_object_size": "1",
        "pyrimage.swift_store_large_object_chunk_size": "1",
    }
