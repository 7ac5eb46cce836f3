"""Every way to serve: our server and plain waitress, by pserve and by waitress-serve, from either sample."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import OCTETS, error_of, md5
from servers.pyrimage import Server

pytestmark = pytest.mark.system

HYPHENS = {
    "Content-Type": OCTETS,
    "x-image-meta-name": "f17",
    "x-image-meta-disk-format": "qcow2",
    "x-image-meta-container-format": "bare",
    "x-image-meta-property-os-type": "linux",
}


@pytest.fixture(params=["egg:pyrimage#server", "egg:waitress#main", "waitress-serve", "pyrimage.ini in ."])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind, started as its documentation says."""
    made = Server(tmp_path, server={"use": request.param} if request.param.startswith("egg:") else {})
    call = (f"--listen=127.0.0.1:{made.port}", "--call", "pyrimage.app:from_config")
    try:
        if request.param.startswith("egg:"):
            made.start()
        elif request.param == "waitress-serve":
            made.ini = made.ini.rename(tmp_path / "other.ini")
            made.start("waitress-serve", *call, PYRIMAGE_CONFIG=str(made.ini))
        else:
            made.start("waitress-serve", *call)
        yield made
    finally:
        made.stop()
        print(made.log()[-5000:])


def test_hyphen_callers_of_this_machine_are_served(server: Server) -> None:
    """A forwarding header only our server can tell: waitress takes it away."""
    for path in ("/images", "/v1/images"):
        made = server.request("POST", path, b"bytes", HYPHENS)
        assert (made.status, made.image["checksum"]) == (201, md5(b"bytes"))
        assert (made.image["disk_format"], made.image["properties"]) == ("qcow2", {"os_type": "linux"})
        place = f"{path}/{made.image['id']}"
        assert server.request("GET", place).body == b"bytes"
        assert server.request("PUT", place, headers={"x-image-meta-min-ram": "5"}).image["min_ram"] == 5
        assert server.request("DELETE", place).status == 200
    assert server.files() == []
    missing = server.request("GET", "/images/none")
    assert (missing.status, bool(error_of(missing))) == (404, True)
    assert missing.headers["x-openstack-request-id"].startswith("req-")
    refused = server.request("GET", "/images", headers={"Host": "rebound.example.org"})
    assert (refused.status, "pyrimage.allow_anonymous" in error_of(refused)) == (403, True)
