"""An API server of Glance on our registry, beside one of ours: each serves what the other has, and removes its own."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from factories import data_headers, md5
from servers import glance
from servers.processes import wait_until
from servers.pyrimage import Server

pytestmark = pytest.mark.system

FORMATS = {"x-image-meta-disk-format": "raw", "x-image-meta-container-format": "bare"}
OCTETS = {"Content-Type": "application/octet-stream"}
NOTHING = (204, 200)  # what this Glance answers with today's WebOb where it means the first
DATA = b"0123456789" * 100_000


class Servers(NamedTuple):
    """Glance's API server, with its files in ``images``, and ours, which asks the database itself."""

    glance: Server
    images: Path
    ours: Server

    def status(self, image_id: str) -> str:
        """Return an image's status as Glance shows it."""
        return str(self.glance.request("HEAD", f"/v1/images/{image_id}").headers["x-image-meta-status"])

    def add(self, body: bytes | None = None, status: int = 201, **more: str) -> dict[str, Any]:
        """Make an image at Glance."""
        headers = {**FORMATS, "x-image-meta-is-public": "True", **(OCTETS if body is not None else {})}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        answer = self.glance.request("POST", "/v1/images", body, headers)
        assert answer.status == status, answer.body
        return answer.image if status == 201 else {}

    def files(self) -> list[str]:
        return sorted(path.name for path in self.images.iterdir())


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    ours = Server(tmp_path_factory.mktemp("ours"), main={"pyrimage.allowed_hosts": "127.0.0.1"})
    shared = {
        "sqlalchemy.url": f"sqlite:///{ours.database}",
        "pyrimage.filesystem_store_datadir": str(ours.datadir),
        "pyrimage.allowed_hosts": "127.0.0.1",
    }
    registry = Server(tmp_path_factory.mktemp("registry"), main={"pyrimage.application": "registry", **shared})
    directory = tmp_path_factory.mktemp("glance")
    with ours, registry, glance.serving(directory, registry.port) as port:
        client = copy.copy(registry)
        client.port = port
        yield Servers(client, directory / "images", ours)


def test_what_glance_stores_both_show_and_glance_reads_and_removes(servers: Servers) -> None:
    made = servers.add(DATA, x_image_meta_name="f17", x_image_meta_property_os="linux", x_image_meta_property_none="")
    assert (made["status"], made["size"], made["checksum"]) == ("active", len(DATA), md5(DATA))
    assert made["properties"] == {"os": "linux", "none": ""}
    path = f"/v1/images/{made['id']}"
    assert servers.glance.request("GET", path).body == DATA
    shown = servers.ours.request("HEAD", path).headers
    assert (shown["x-image-meta-status"], shown["x-image-meta-checksum"]) == ("active", md5(DATA))
    assert shown["x-image-meta-location"] == f"file://{servers.images}/{made['id']}"
    assert servers.ours.request("GET", path).status == 503
    assert servers.files() == [made["id"]]
    assert servers.glance.request("DELETE", path).status == 200
    assert servers.files() == []
    assert servers.ours.request("GET", path).status == 404


def test_data_can_come_later(servers: Servers) -> None:
    queued = servers.add(x_image_meta_property_a="b")
    path = f"/v1/images/{queued['id']}"
    assert (queued["status"], servers.ours.request("HEAD", path).headers["x-image-meta-status"]) == ("queued",) * 2
    filled = servers.glance.request("PUT", path, DATA, {**OCTETS, "x-image-meta-property-c": "d"}).image
    assert (filled["status"], filled["properties"]) == ("active", {"a": "b", "c": "d"})
    renamed = servers.glance.request("PUT", path, headers={"x-image-meta-name": "new"}).image
    assert (renamed["name"], renamed["properties"], renamed["size"]) == ("new", {}, len(DATA))
    assert servers.glance.request("PUT", path, DATA, OCTETS).status == 409
    assert servers.glance.request("DELETE", path).status == 200


def test_an_upload_that_fails_is_killed(servers: Servers) -> None:
    servers.add(DATA, 400, x_image_meta_id="11111111-0000-4000-8000-000000000000", x_image_meta_checksum="5" * 32)
    assert servers.status("11111111-0000-4000-8000-000000000000") == "killed"
    assert servers.files() == []


def test_a_location_is_registered_and_both_read_it(servers: Servers) -> None:
    made = servers.add(x_image_meta_location=f"http://127.0.0.1:{servers.ours.port}/healthcheck")
    assert (made["status"], made["size"]) == ("active", 2)
    for server in (servers.glance, servers.ours):
        assert server.request("GET", f"/v1/images/{made['id']}").body == b"OK"
    assert servers.glance.request("DELETE", f"/v1/images/{made['id']}").status == 200


@pytest.mark.parametrize(("path", "status"), [("/healthcheck", "active"), ("/nothing", "killed")])
def test_data_is_copied_after_the_answer(path: str, status: str, servers: Servers) -> None:
    url = f"http://127.0.0.1:{servers.ours.port}{path}"
    made = servers.add(x_glance_api_copy_from=url, x_image_meta_size="2")
    assert made["status"] == "queued"
    wait_until(lambda: servers.status(made["id"]) == status, 60, lambda: servers.status(made["id"]))
    assert servers.glance.request("DELETE", f"/v1/images/{made['id']}").status == 200


def test_glance_lists_shares_and_changes_what_is_ours(servers: Servers) -> None:
    made = servers.ours.request("POST", "/v1/images", DATA, data_headers(name="ours", is_public="true")).image
    path, members = f"/v1/images/{made['id']}", f"/v1/images/{made['id']}/members"
    for listed in ("/v1/images?name=ours", "/v1/images/detail?limit=1&sort_key=name&sort_dir=desc&is_public=None"):
        assert [each["id"] for each in servers.glance.request("GET", listed).json["images"]] == [made["id"]]
    assert servers.glance.request("GET", path).body == DATA  # from the file that the registry names
    assert servers.glance.request("PUT", f"{members}/tenant-b").status in NOTHING
    assert servers.glance.request("GET", members).json == {"members": [{"member_id": "tenant-b", "can_share": False}]}
    shared = {"shared_images": [{"image_id": made["id"], "can_share": False}]}
    assert servers.glance.request("GET", "/v1/shared-images/tenant-b").json == shared
    assert servers.glance.request("DELETE", f"{members}/tenant-b").status in NOTHING
    assert servers.glance.request("GET", "/v1/images?sort_key=color").status == 400
    headers = {**FORMATS, "x-image-meta-id": made["id"]}
    assert servers.glance.request("POST", "/v1/images", headers=headers).status == 409
    assert servers.ours.request("DELETE", path).status == 200
    assert servers.glance.request("DELETE", path).status == 404
