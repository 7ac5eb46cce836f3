"""A real S3: SeaweedFS, which refuses wrong digests, small parts, wrong keys and expired URLs as AWS does.

::

    with seaweedfs.serving(tmp_path) as s3:
        boto3.client("s3", endpoint_url=s3.url, aws_access_key_id=OWNER.key, aws_secret_access_key=OWNER.secret)
"""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from servers.machine import environment
from servers.processes import RUN_SECONDS, free_port, spawned, wait_for_port, wait_until


class Keys(NamedTuple):
    """What somebody signs requests with."""

    key: str
    secret: str


OWNER, READER = Keys("testkey", "testsecret"), Keys("readkey", "readsecret")

RIGHTS = {OWNER: ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}

# Each has a port for HTTP and one for gRPC: the defaults are fixed, and could be taken.
PARTS = ("s3", "filer", "volume", "master")

OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-filer",
    "-s3",
    "-s3.iam=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=512",
    "-volume.max=1000",  # a bucket takes seven; by default there are as many as full ones would fit on the disk
    "-volume.minFreeSpacePercent=0",
)

# Go otherwise lets its heap double before it collects garbage: 800 MB after as much data.
MEMORY = {"GOMEMLIMIT": "150MiB"}


@dataclass(frozen=True)
class S3:
    """Where SeaweedFS is.

    url: S3's endpoint, path addressing. directory: its log is there, ``seaweedfs.log``.
    """

    url: str
    directory: Path


@contextmanager
def serving(directory: Path) -> Iterator[S3]:
    """Run SeaweedFS below a directory."""
    ports = {f"{part}.port{protocol}": free_port() for part in PARTS for protocol in ("", ".grpc")}
    data, rights, log = directory / "data", directory / "s3.json", directory / "seaweedfs.log"
    data.mkdir()
    rights.write_text(json.dumps({"identities": _identities()}), encoding="utf-8")
    command = [
        str(environment("seaweedfs") / "bin/weed"),
        "-logtostderr",
        "server",
        f"-dir={data}",
        f"-s3.config={rights}",
        *OPTIONS,
        *(f"-{option}={port}" for option, port in ports.items()),
    ]
    port = ports["s3.port"]
    try:
        # It takes 15 s over a SIGTERM.
        with spawned(*command, log=log, environment=MEMORY, stop=signal.SIGKILL) as process:
            wait_for_port(process, port, log)
            wait_until(lambda: _is_healthy(port), RUN_SECONDS, log.read_text)
            yield S3(f"http://127.0.0.1:{port}", directory)
    finally:
        for number in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                left.unlink()


def _identities() -> list[dict[str, object]]:
    return [
        {"name": keys.key, "credentials": [{"accessKey": keys.key, "secretKey": keys.secret}], "actions": actions}
        for keys, actions in RIGHTS.items()
    ]


def _is_healthy(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=RUN_SECONDS)) as client:
        try:
            client.request("GET", "/healthz")
            return client.getresponse().status == 200
        except OSError:
            return False
