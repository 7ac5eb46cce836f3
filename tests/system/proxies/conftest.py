"""What tests of proxies share: nginx and HAProxy, as docs/proxies.md prints them, in front of a real server."""

from collections.abc import Iterator

import pytest

from factories import data_headers
from servers import proxies
from servers.proxies import Proxy
from servers.pyrimage import Server

# No limits of properties: what the page has passes more than production.ini lets in.
UNLIMITED = {"pyrimage.image_property_quota": "-1", "pyrimage.image_property_bytes": "0"}
SETTINGS = {**proxies.settings("app:main"), **UNLIMITED, "pyrimage.auto_migrate": "true"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of production.ini with what the page wants there, and an image whose id is taken."""
    directory = tmp_path_factory.mktemp("server")
    with Server(directory, sample="production", main=SETTINGS, server=proxies.settings("server:main")) as running:
        assert running.request("POST", "/v1/images", b"x", data_headers(id="taken")).status == 201
        yield running


@pytest.fixture(scope="module", params=proxies.KINDS)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Proxy]:
    """A proxy in front of the server. Whatever the tests sent through it, it wrote nothing to disk."""
    with proxies.run(request.param, tmp_path_factory.mktemp(request.param), server.port) as running:
        yield running
        assert "temporary file" not in running.log()  # nginx warns of each


@pytest.fixture(scope="module", params=proxies.KINDS)
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy of its own for a server without ``pyrimage.public_endpoint`` that does not wait long for uploads."""
    directory = tmp_path_factory.mktemp("impatient")
    main = {"pyrimage.allow_anonymous": "true"}
    settings = {**proxies.settings("server:main"), "upload_timeout": "1"}
    with (
        Server(directory, main=main, server=settings) as server,
        proxies.run(request.param, tmp_path_factory.mktemp(request.param), server.port) as running,
    ):
        yield running
