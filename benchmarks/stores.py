"""Compare stores on a network with what the clients of their services do by themselves. See README.md."""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from boto3.s3.transfer import TransferConfig
from swiftclient import client
from swiftclient.service import SwiftService, SwiftUploadObject

import containers
from buckets import MEBIBYTE, TestBucket
from containers import TestContainer
from pyrimage.stores import Store
from pyrimage.stores.interfaces import Buffer
from pyrimage.stores.transfer import CHUNK, copy
from servers import seaweedfs
from servers import swift as swift_server
from servers.machine import memory_directory

from .harness import Figure, row, spread
from .transfers import make_file

AIM = "0.85 or more"
PART_SIZE = 8 * MEBIBYTE
SEGMENT_SIZE = 32 * MEBIBYTE


class Seconds(NamedTuple):
    """How long a transfer took, by the clock and of this process' processors."""

    wall: float
    cpu: float


class Contender(NamedTuple):
    """Somebody who uploads a file, and downloads it again."""

    upload: Callable[[Path], str]  # returns the key
    download: Callable[[str, int], None]
    delete: Callable[[str], None]


class HashingFile:
    """A file whose bytes are hashed as our uploads are: with md5 and sha256, both at the same time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digests = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._pool = ThreadPoolExecutor(len(self._digests))

    def read(self, size: int = -1) -> bytes:
        return self._hashed(self._file.read(size))

    def write(self, data: bytes) -> int:
        return self._file.write(self._hashed(data))

    def _hashed(self, data: bytes) -> bytes:
        list(self._pool.map(lambda digest: digest.update(data), self._digests))
        return data

    def __enter__(self) -> "HashingFile":
        return self

    def __exit__(self, *reason: object) -> None:
        self._pool.shutdown()


class Nowhere:
    """A writer that keeps nothing."""

    def write(self, data: Buffer) -> None:
        """Forget it."""

    def finish(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


def ours(store: Store) -> Contender:
    """Upload and download as the service does."""

    def upload(path: Path) -> str:
        key = store.new_key("benchmark")
        writer = store.open_writer(key, path.stat().st_size)
        with path.open("rb", buffering=0) as file:
            copy(file, writer, path.stat().st_size)
        writer.finish()
        return key

    def download(key: str, size: int) -> None:
        with store.open_reader(key, size) as reader:
            copy(reader, Nowhere(), size)

    return Contender(upload, download, store.delete)


def boto3s(bucket: TestBucket) -> Contender:
    """Let boto3 do it, in parts of our size, and with its own defaults for all else."""
    config = TransferConfig(multipart_threshold=bucket.part_size, multipart_chunksize=bucket.part_size)
    client = bucket.client

    def upload(path: Path) -> str:
        with path.open("rb") as file, HashingFile(file) as hashing:
            client.upload_fileobj(hashing, bucket.name, "benchmark", Config=config)
        return "benchmark"

    def download(key: str, size: int) -> None:
        with Path(os.devnull).open("wb") as file, HashingFile(file) as hashing:
            client.download_fileobj(bucket.name, key, hashing, Config=config)

    return Contender(upload, download, lambda key: client.delete_object(Bucket=bucket.name, Key=key))


@contextmanager
def s3(directory: Path) -> Iterator[tuple[Contender, Contender]]:
    """Give ours and boto3, over SeaweedFS."""
    with seaweedfs.serving(directory) as service:
        bucket = TestBucket(service.url, seaweedfs.OWNER, PART_SIZE).create()
        yield ours(bucket.store()), boto3s(bucket)


def swiftclients(container: TestContainer) -> Contender:
    """Let swiftclient do it: its service uploads the same segments, and compares their digests as ours does."""
    options = {
        "auth": container.auth_url,
        "user": container.user,
        "key": container.key,
        "auth_version": "1",
        "use_slo": True,
        "segment_size": SEGMENT_SIZE,
        "segment_container": container.name,
    }
    connection = client.Connection(container.auth_url, container.user, container.key)

    def upload(path: Path) -> str:
        with path.open("rb") as file, HashingFile(file) as hashing, SwiftService(options=options) as service:
            for done in service.upload(container.name, [SwiftUploadObject(hashing, object_name="benchmark")]):
                if not done["success"]:
                    raise done["error"]
        return "benchmark"

    def download(key: str, size: int) -> None:
        with Path(os.devnull).open("wb") as file, HashingFile(file) as hashing:
            for data in connection.get_object(container.name, key, resp_chunk_size=CHUNK)[1]:
                hashing.write(data)

    def delete(key: str) -> None:
        connection.delete_object(container.name, key, query_string="multipart-manifest=delete")

    return Contender(upload, download, delete)


@contextmanager
def swift(directory: Path) -> Iterator[tuple[Contender, Contender]]:
    """Give ours and swiftclient, over Swift."""
    with memory_directory() as memory, swift_server.serving(memory, max_file_size=SEGMENT_SIZE) as cluster:
        container = containers.static(cluster).create()
        sizes = dict.fromkeys(("swift_store_large_object_size", "swift_store_large_object_chunk_size"), 32)
        yield ours(container.store(**sizes)), swiftclients(container)


SERVICES = {"S3 (SeaweedFS)": s3, "Swift": swift}


def measured(step: Callable[[], object]) -> Seconds:
    """Run a step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def transfer(contender: Contender, path: Path) -> list[Seconds]:
    """Measure an upload of a file, and its download."""
    keys: list[str] = []
    upload = measured(lambda: keys.append(contender.upload(path)))
    download = measured(lambda: contender.download(keys[0], path.stat().st_size))
    contender.delete(keys[0])
    return [upload, download]


def compare(service: str, path: Path, rounds: int, directory: Path) -> list[Figure]:
    """Let both transfer the file in turn; print seconds, and return our shares of their speed."""
    mine, theirs = list[list[Seconds]](), list[list[Seconds]]()
    with SERVICES[service](directory) as (store, client):
        for _ in range(rounds):
            mine.append(transfer(store, path))
            theirs.append(transfer(client, path))
    figures = []
    for place, what in enumerate(("upload", "download")):
        walls = [[each[place].wall for each in took] for took in (mine, theirs)]
        cpus = [[each[place].cpu for each in took] for took in (mine, theirs)]
        for name, wall, cpu in zip(("ours", "its client"), walls, cpus, strict=True):
            print(row(f"{service}, {what}, {name}", f"{spread(wall)} s", f"{spread(cpu)} s CPU"))
        figures.append(Figure(f"{service}, {what}", AIM, spread([b / a for a, b in zip(*walls, strict=True)])))
    return figures


def main() -> None:
    """Print one table of all services."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-") as name:
        path = make_file(Path(name, "image"), options.mib)
        figures = []
        for number, service in enumerate(SERVICES):
            directory = Path(name, str(number))
            directory.mkdir()
            figures += compare(service, path, options.rounds, directory)
    for figure in figures:
        print(row(*figure))


if __name__ == "__main__":
    main()
