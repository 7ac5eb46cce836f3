"""The URLs that the service gives of itself behind a proxy, over real sockets (waitress' ``trusted_proxy``)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factories import error_of
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

OPEN = {"pyrimage.allow_anonymous": "true"}
TRUSTED = {
    "trusted_proxy": "127.0.0.1",
    "trusted_proxy_headers": "x-forwarded-for x-forwarded-proto x-forwarded-host",
}
FORWARDED = (
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: images.example.org",
)
PUBLIC = "https://images.example.org"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server to which this machine is the proxy."""
    with Server(tmp_path_factory.mktemp("proxied"), main=OPEN, server=TRUSTED) as server:
        yield server


def given_urls(server: Server, *lines: bytes) -> set[str]:
    """Return every URL that the service gives of itself, with an image's id replaced."""
    made = server.ask(b"POST /v1/images", b"x-image-meta-name: f17", *lines)
    path = f"/v1/images/{made.image['id']}".encode()
    versions = [server.ask(b"GET " + place, *lines).json["versions"] for place in (b"/", b"/versions")]
    found: list[Any] = [
        *(link["href"] for listed in versions for version in listed for link in version["links"]),
        *(made.headers["Location"], made.image["uri"], made.headers["x-image-meta-uri"]),
        server.ask(b"HEAD " + path, *lines).headers["x-image-meta-uri"],
        server.ask(b"GET /v1?limit=1", *lines).headers["Location"].replace("?limit=1", ""),
        *(image["uri"] for image in server.ask(b"GET /v1/?is_public=None&limit=1", *lines).json["images"]),
    ]
    server.request("DELETE", path.decode())
    return {url.replace(made.image["id"], "ID") for url in found}


def test_urls_are_those_of_the_proxy(proxied: Server) -> None:
    """S51."""
    assert given_urls(proxied, *FORWARDED) == {f"{PUBLIC}/v1/", f"{PUBLIC}/v1/images/ID"}


def test_urls_hold_the_proxy_s_port(proxied: Server) -> None:
    lines = (*FORWARDED[:2], b"X-Forwarded-Host: images.example.org:8443")
    assert given_urls(proxied, *lines) == {f"{PUBLIC}:8443/v1/", f"{PUBLIC}:8443/v1/images/ID"}


def test_urls_without_a_proxy_are_the_server_s_own(proxied: Server) -> None:
    assert given_urls(proxied) == {"http://localhost/v1/", "http://localhost/v1/images/ID"}


@pytest.mark.parametrize("place", [b"/versions", b"/v1", b"/images"])
def test_forwarded_host_that_is_none_reaches_no_url(proxied: Server, place: bytes) -> None:
    """S51."""
    for host in (b"evil.example/x", b"a@evil.example", b"//evil.example", b"evil.example?", b"a b", b"<x>", b"evil\\x"):
        refused = proxied.ask(b"GET " + place, b"X-Forwarded-Host: " + host)
        assert (refused.status, "Location" in refused.headers) == (400, False)
        assert error_of(refused)


def test_forwarding_headers_of_anybody_else_reach_no_url(tmp_path: Path) -> None:
    """S51: the proxy is another machine."""
    with Server(tmp_path, main=OPEN, server={**TRUSTED, "trusted_proxy": "192.0.2.7"}) as server:
        assert given_urls(server, *FORWARDED) == {"http://localhost/v1/", "http://localhost/v1/images/ID"}


def test_request_without_a_host_is_told_no_name_of_the_machine(proxied: Server) -> None:
    """S55: the name is one that waitress makes up, unless its server_name says which."""
    head, _, body = proxied.exchange(b"GET /versions HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    (link, *_) = Answer.parse(head, body).json["versions"][0]["links"]
    assert link["href"] == f"http://waitress.invalid:{proxied.port}/v1/"
