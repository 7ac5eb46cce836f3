"""An image with as many properties as production.ini lets it have can be read by clients that stop at 100 lines."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers, error_of, meta
from servers.processes import RUN_SECONDS
from servers.pyrimage import Server

pytestmark = pytest.mark.system

LINES = 100  # of a header, the empty one at its end included, are what Python's http.client and python-requests read
PROPERTIES = {f"{number:02}" + "k" * 48: "v" * 206 for number in range(64)}  # 16 KiB
FIELDS = {
    "name": "n" * 255,
    "disk_format": "raw",
    "container_format": "bare",
    "owner": "tenant-a",
    "is_public": True,
    "protected": True,
    "min_disk": 1,
    "min_ram": 1,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("server")
    with Server(directory, sample="production", main={"pyrimage.auto_migrate": "true"}) as running:
        yield running


def ask(server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> list[str]:
    """Ask with Python's own client; return the names of the answer's properties."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=RUN_SECONDS)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    assert answer.status < 300, answer.read()
    names = [name.lower() for name in answer.headers]
    assert len(names) + 3 <= LINES  # with the empty line, and one or two that a proxy adds, such as Via
    answer.read()
    connection.close()
    return [name.rpartition("-property-")[2] for name in names if "-property-" in name]


@pytest.mark.parametrize("collection", ["/images", "/v1/images"])
def test_every_answer_about_an_image_has_no_more_lines_than_clients_read(server: Server, collection: str) -> None:
    image = f"{collection}/{collection.count('/')}"
    headers = data_headers(id=image.rpartition("/")[2], **FIELDS, properties=PROPERTIES)
    keys = list(PROPERTIES)
    assert ask(server, "POST", collection, headers, b"bytes") == keys
    assert ask(server, "PUT", image, meta(properties=PROPERTIES)) == keys
    for method in ("HEAD", "GET"):
        assert sorted(ask(server, method, image, {})) == keys
    assert sorted(ask(server, "GET", image, {"Range": "bytes=1-2"})) == keys


def test_one_property_more_is_refused(server: Server) -> None:
    refused = server.request("POST", "/v1/images", headers=meta(properties={**PROPERTIES, "one_more": ""}))
    assert (refused.status, "pyrimage.image_property_quota" in error_of(refused)) == (413, True)
