"""Containers of a real Swift, stores in them, and all that lies there."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from swiftclient import client

from pyrimage.stores.swift import SwiftStoreFactory
from pyrimage.stores.swift.store import SwiftStore, make_store
from servers import swift
from servers.keystone_accounts import ALICE, User
from servers.swift import Cluster

MEBIBYTE = 2**20  # a segment


@dataclass(frozen=True)
class TestContainer:
    """A container of its own in the account of tempauth's administrator, or of a user of Keystone's."""

    __test__ = False

    cluster: Cluster
    auth_url: str
    user: str = swift.USER
    key: str = field(default=swift.KEY)
    name: str = field(default_factory=lambda: f"images-{uuid.uuid4()}")

    @property
    def port(self) -> int:
        """Of the proxy where its users log in."""
        return urlsplit(self.auth_url).port or 80

    @cached_property
    def access(self) -> tuple[str, str]:
        """The URL of the account, and a token."""
        account = make_store("test", self.settings()).container.account.login.access()
        return account.url, account.token

    def create(self, **headers: str) -> "TestContainer":
        client.put_container(*self.access, self.name, headers={key.replace("_", "-"): headers[key] for key in headers})
        return self

    def settings(self, **settings: Any) -> SwiftStoreFactory:
        defaults = {
            "swift_store_auth_address": self.auth_url,
            "swift_store_user": self.user,
            "swift_store_key": self.key,
            "swift_store_container": self.name,
            "swift_store_large_object_size": 1,
            "swift_store_large_object_chunk_size": 1,
        }
        return SwiftStoreFactory(**{**defaults, **settings})

    def store(self, **settings: Any) -> SwiftStore:
        return make_store("swift", self.settings(**settings))

    def put(self, name: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Put an object, as somebody else would."""
        client.put_object(*self.access, self.name, name, data, headers=dict(headers or {}))

    def head(self, name: str = "") -> dict[str, str]:
        """Return the headers of an object, or of the container."""
        if name:
            return dict(client.head_object(*self.access, self.name, name))
        return dict(client.head_container(*self.access, self.name))

    def contents(self) -> list[str]:
        """Name every object, segments too."""
        _, found = client.get_container(*self.access, self.name)
        return [each["name"] for each in found]


def static(cluster: Cluster) -> TestContainer:
    """Name a container of a cluster that has static large objects."""
    return TestContainer(cluster, cluster.auth_url)


def dynamic(cluster: Cluster) -> TestContainer:
    """Name a container of a cluster that has dynamic large objects only."""
    return TestContainer(cluster, cluster.dynamic_auth_url)


def with_keystone(cluster: Cluster, address: str, user: User = ALICE, **options: str) -> TestContainer:
    """Name a container in the account of a user's project."""
    return TestContainer(cluster, address, f"{user.project}:{user.name}", user.password, **options)
