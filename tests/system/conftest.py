"""Servers for the system tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import keystone, origin, seaweedfs, swift
from servers.keystone import Identity
from servers.machine import environment, installed
from servers.origin import Origin
from servers.pyrimage import Server
from servers.seaweedfs import S3
from servers.shared import shared
from servers.swift import Cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server like ``make serve``'s that a module's tests share: each knows its own images only."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be counted or broken."""
    with Server(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The directory of the test run, the same one in each of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def identity_service(run_directory: Path) -> Iterator[Identity]:
    """A Keystone that all tests share."""
    environment("keystone")
    with shared(keystone.serving, run_directory) as running:
        yield running


@pytest.fixture(scope="session")
def swift_cluster(run_directory: Path, identity_service: Identity) -> Iterator[Cluster]:
    """A Swift that all tests share, in that Keystone's catalogue: each has containers of its own."""
    environment("swift")
    with shared(swift.serving, run_directory, identity_service) as running:
        yield running


@pytest.fixture(scope="session")
def s3_server(run_directory: Path) -> Iterator[S3]:
    """A SeaweedFS that all tests share: each has buckets of its own."""
    environment("seaweedfs")
    with shared(seaweedfs.serving, run_directory) as running:
        yield running


@pytest.fixture(scope="session")
def origin_server(run_directory: Path) -> Iterator[Origin]:
    """A web server that all tests share: each has files of its own."""
    installed("nginx")
    with shared(origin.serving, run_directory) as running:
        yield running
