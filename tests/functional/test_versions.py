"""The version list, and the absolute URLs that the service gives of itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import error_of, id_of, meta, reserve, wire

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]
ENDPOINT = "https://images.example.org/glance"


def versions(url: str) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{url}/v1/"}]
    return {
        "versions": [
            {"id": "v1.1", "status": "CURRENT", "links": links},
            {"id": "v1.0", "status": "SUPPORTED", "links": links},
        ]
    }


@pytest.mark.parametrize(("path", "status"), [("/", 300), ("/versions", 200)])
def test_the_version_list(path: str, status: int, testapp: TestApp) -> None:
    answer = testapp.get(path, status=status)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json == versions("http://localhost:80")


@pytest.mark.parametrize("accept", ["text/plain", "text/html", "application/xml"])
def test_the_version_list_is_json_whatever_is_asked_for(accept: str, testapp: TestApp) -> None:
    assert "versions" in testapp.get("/versions", headers={"Accept": accept}).json


def test_versions_ask_the_database_nothing(testapp: TestApp, statements: list[str]) -> None:
    testapp.get("/", status=300)
    testapp.get("/versions")
    assert statements == []


def urls(app: TestApp, collection: str) -> set[str]:
    """Return every URL that answers about one image hold, with its id replaced."""
    made = app.post(collection, headers=meta(name="f17", is_public=True))
    path = f"{collection}/{made.json['image']['id']}"
    listed = [*app.get(collection).json["images"], *app.get(f"{collection}/detail").json["images"]]
    headers = [answer.headers["x-image-meta-uri"] for answer in (made, app.head(path), app.put(path))]
    found = [made.headers["Location"], made.json["image"]["uri"], *headers, *(image["uri"] for image in listed)]
    return {url.replace(made.json["image"]["id"], "ID") for url in found}


@pytest.mark.parametrize("collection", ["/images", "/v1/images", "/v1.1/images"])
def test_urls_are_what_the_client_called_us(collection: str, installation: "Installation") -> None:
    environ: dict[str, Any] = {"HTTP_HOST": "[::1]:9292", "wsgi.url_scheme": "https"}
    assert urls(installation.client(**environ), collection) == {f"https://[::1]:9292{collection}/ID"}


def test_urls_hold_the_place_where_the_application_is_mounted(installation: "Installation") -> None:
    app = installation.client(HTTP_HOST="localhost", SCRIPT_NAME=wire("/glance é"))
    assert urls(app, "/images") == {"http://localhost/glance%20%C3%A9/images/ID"}


@pytest.mark.parametrize("collection", ["/images", "/v1/images"])
@pytest.mark.parametrize("endpoint", [ENDPOINT, ENDPOINT + "/"])
def test_public_endpoint_wins_over_the_request(endpoint: str, collection: str, install_with: Install) -> None:
    """S51."""
    app = install_with(public_endpoint=endpoint).client(HTTP_HOST="localhost:9292")
    assert urls(app, collection) == {f"{ENDPOINT}{collection}/ID"}
    assert app.get("/versions").json == versions(ENDPOINT)


HOSTS = ["evil.example/", "evil.example/x?", "user@evil.example", "//evil.example", "\tevil.example", "<script>"]


@pytest.mark.parametrize(
    "host", [*HOSTS, "a b", "a\tb", "a\\b", "[::1", "a:b", " localhost", "localhost:80:80", "h\xf6st"]
)
def test_a_host_that_is_none_reaches_no_url(host: str, install_with: Install) -> None:
    """S51."""
    app = install_with(allow_anonymous="true").client(HTTP_HOST=host)
    for answer in (
        app.get("/versions", status=400),
        app.get("/images", status=400),
        app.post("/v1/images", headers=meta(name="f17"), status=400),
    ):
        assert "Host" in error_of(answer)
        assert "Location" not in answer.headers


def test_a_host_that_is_none_does_no_harm_beside_public_endpoint(install_with: Install) -> None:
    """S51."""
    app = install_with(allow_anonymous="true", public_endpoint=ENDPOINT).client(HTTP_HOST="//evil.example/")
    assert urls(app, "/images") == {f"{ENDPOINT}/images/ID"}


@pytest.mark.parametrize("path", ["//evil.example/images", "/\tevil.example", "/ /evil.example", "/\x01evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_path_redirects_elsewhere(method: str, path: str, testapp: TestApp) -> None:
    """S51."""
    answer = testapp.request("/", method=method, environ={"PATH_INFO": path}, headers=meta(name="x"), status=404)
    assert "Location" not in answer.headers


def test_no_header_of_the_client_reaches_a_url(install_with: Install) -> None:
    """S51."""
    app = install_with(allow_anonymous="true").client(HTTP_HOST="localhost")
    for name in ("X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded", "X-Original-URL", "X-Script-Name"):
        made = app.post("/images", headers={name: "evil.example", **meta(name="f17", uri="http://evil.example/")})
        assert made.headers["Location"] == f"http://localhost/images/{made.json['image']['id']}"


def test_an_id_is_one_segment_of_its_url(testapp: TestApp) -> None:
    """S51."""
    path = reserve(testapp, id="a.b_c-d")
    assert testapp.head(path).headers["x-image-meta-uri"] == f"http://localhost:80/v1/images/{id_of(path)}"
