"""python-glanceclient logs in at a real Keystone, and finds the service in its catalogue."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.keystone import Identity
from servers.keystone_accounts import ADMIN, ALICE, BOB, CAROL, User, log_in
from servers.machine import client
from servers.processes import OWNED, RUN_SECONDS
from servers.pyrimage import Server

pytestmark = pytest.mark.system

IMAGE = "6f5b1c8e-0d53-4f0e-9d0c-3f1f6f0b7a17"  # by other ids the command finds nothing

# The command takes a standard input that is there for data.
WITHOUT_STDIN = ("bash", "-c", 'exec "$@" <&-', "-")


@pytest.fixture(scope="module")
def catalogue(identity_service: Identity, server: Server) -> Iterator[str]:
    """The region of the catalogue that has the server; return its name."""
    url, session, region = identity_service.url, log_in(identity_service.url, ADMIN), "images"
    session.put(f"{url}/regions/{region}", json={"region": {}})
    service = {"service": {"type": "image", "name": "pyrimage"}}
    made = session.post(f"{url}/services", json=service).json()["service"]["id"]
    for interface in ("public", "internal", "admin"):
        endpoint = {"interface": interface, "region_id": region, "url": server.url, "service_id": made}
        session.post(f"{url}/endpoints", json={"endpoint": endpoint})
    yield region
    session.delete(f"{url}/services/{made}")
    session.delete(f"{url}/regions/{region}")


class Glance:
    """The command, as a user of Keystone runs it."""

    def __init__(self, identity: Identity, region: str) -> None:
        self._url, self._region, self._program = identity.url, region, client("glance")

    def __call__(self, user: User, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        login = {
            "OS_AUTH_URL": self._url,
            "OS_USERNAME": user.name,
            "OS_PASSWORD": user.password,
            "OS_PROJECT_NAME": user.project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": self._region,
        }
        command = [*OWNED, *WITHOUT_STDIN, self._program, "--os-image-api-version", "1", *arguments]
        environment = {**os.environ, **login, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )


def test_glance_works_with_the_users_of_keystone(
    catalogue: str, identity_service: Identity, server: Server, tmp_path: Path
) -> None:
    glance, data = Glance(identity_service, catalogue), tmp_path / "disk.img"
    data.write_bytes(bytes(range(256)) * 4096)
    create = ("image-create", "--id", IMAGE, "--disk-format", "raw", "--container-format", "bare", "--file", data)
    made = glance(ALICE, *create)
    assert made.returncode == 0, made.stderr
    (row,) = server.sql("SELECT status, owner FROM images WHERE id = ?", IMAGE)
    assert row == ("active", log_in(identity_service.url, ALICE).get_project_id())
    back = tmp_path / "back.img"
    assert glance(CAROL, "image-download", IMAGE, "--file", back).returncode == 0
    assert back.read_bytes() == data.read_bytes()
    assert IMAGE in glance(CAROL, "image-list").stdout
    assert "your role in the project is reader" in glance(CAROL, "image-delete", IMAGE).stdout
    assert IMAGE not in glance(BOB, "image-list").stdout
    assert glance(BOB, "image-show", IMAGE).returncode == 1
    assert glance(ALICE, "image-delete", IMAGE).returncode == 0
