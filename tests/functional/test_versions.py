"""The version list, and the absolute URLs that the service gives of itself."""

import re
import socket
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ALICE, BOB, NOBODY, error_of, id_of, meta, reserve, stored, upload, wire

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


V1 = "application/vnd.openstack.images-v1"
OTHERS = [
    "application/vnd.openstack.images-v2",
    "application/vnd.openstack.images-v1.2",
    "application/vnd.openstack.images-v10",
    "application/vnd.openstack.images-va.1",
    "application/vnd.openstack.compute-v1",
]
NAMES = ["v1", "v1.0", "v1.1"]
UNKNOWN = ["v1.2", "v10", "v2", "v1.a", "v0", "v3"]
BELOW = ["", "/", "/images", "/images/", "/images/detail"]

# Every row of "Versions": path, Accept, status, and what the answer holds. Glance's 300 for a version that it does not
# know, and for any path without a version, are decided otherwise: an unknown version is 404 and names the known ones
# (300 for a mistyped version is a quirk not to copy), a path without version is the guide's or 404. "v1.a",
# which Diablo took for v1, is unknown. "va.1" looks like no version at all, so it is a path like any other.
ROWS: list[tuple[str, str | None, int, str]] = [
    ("/", None, 300, "versions"),
    ("/no/such/path", None, 404, "error"),
    ("/va.1/images", None, 404, "error"),
    ("/images", None, 200, "guide"),
    ("/images/detail", None, 200, "guide"),
    ("/versions", None, 200, "versions"),
    *((f"/{name}{path}", None, 200, "wire") for name in NAMES for path in BELOW if path),
    *((f"/{name}{path}", None, 404, "error") for name in UNKNOWN for path in BELOW[:3]),
    *((path, V1 + minor, 200, "wire") for minor in ("", ".0", ".1") for path in ("/", *BELOW[2:])),
    *((f"/{name}{path}", accept, 200, "wire") for name in NAMES for path in BELOW[1:3] for accept in (V1, *OTHERS)),
    *((f"/{name}/images", accept, 404, "error") for name in UNKNOWN for accept in (V1, OTHERS[0])),
    *((path, other, 300, "versions") for other in OTHERS for path in ("/", *BELOW[2:], "/images/x", "/no/such/path")),
    *(("/versions", accept, 200, "versions") for accept in (V1, *OTHERS)),
    *(("/healthcheck", accept, 200, "OK") for accept in (V1, *OTHERS)),
    *((f"/{name}", accept, 302, "") for name in NAMES for accept in (None, V1, OTHERS[0])),
    *((f"/{name}/versions", accept, 404, "error") for name in NAMES for accept in (None, V1)),
    ("/no/such/path", V1, 404, "error"),
]


@pytest.mark.parametrize(("path", "accept", "status", "holds"), ROWS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_way_to_name_a_version(
    method: str, path: str, accept: str | None, status: int, holds: str, testapp: TestApp
) -> None:
    reserve(testapp, name="f17", is_public=True, id="f17", container_format="bare")
    headers = {} if accept is None else {"Accept": accept}
    answer = testapp.request(path, method=method, headers=headers, status=status)
    if method == "HEAD":
        assert answer.body == b""
    else:
        assert holding(answer) == holds


def holding(answer: Any) -> str:
    """Return what an answer holds: the word of its JSON, and for images the dialect they are spelled in."""
    if not answer.headers["Content-Type"].startswith("application/json"):
        return str(answer.text)
    word: str = next(iter(answer.json))
    if word != "images":
        return word
    (image,) = answer.json["images"]
    return "wire" if image["uri"].startswith("http://localhost:80/v1") else "guide"


@pytest.mark.parametrize("accept", [V1, V1 + ".0", V1 + ".1", f"{V1}, */*;q=0.1", f"{V1}, application/json"])
def test_accept_speaks_the_wire_s_dialect_on_every_path_of_the_guide(accept: str, testapp: TestApp) -> None:
    headers = {"Accept": accept}
    made = testapp.post("/images", headers={**headers, **meta(disk_format="raw")}, status=201)  # needs no name
    path = f"/images/{made.json['image']['id']}"
    assert made.headers["Location"] == f"http://localhost:80/v1{path}"
    for answer in (made, testapp.head(path, headers=headers), testapp.put(path, headers=headers)):
        assert answer.headers["x-image-meta-uri"] == f"http://localhost:80/v1{path}"
        assert answer.headers["x-image-meta-disk_format"] == "raw"
        assert "T" in answer.headers["x-image-meta-created_at"]
    assert testapp.get("/images/detail?is_public=None", headers=headers).json["images"][0]["deleted_at"] is None
    refused = testapp.post("/images", b"bytes", headers={**headers, **meta()}, content_type="text/plain", status=400)
    assert "Content-Type" in error_of(refused)
    testapp.delete(path, headers=headers, status=200)


@pytest.mark.parametrize("accept", ["*/*", "application/json", f"{V1};q=0.1, application/json", f"{V1};q=0"])
def test_accept_of_other_things_speaks_the_guide_s_dialect(accept: str, testapp: TestApp) -> None:
    made = testapp.post("/images", headers={"Accept": accept, **meta(name="f17", disk_format="raw")})
    assert made.headers["x-image-meta-disk-format"] == "raw"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_is_asked_of_an_unknown_version_is_not_done(
    method: str, testapp: TestApp, installation: "Installation"
) -> None:
    path = reserve(testapp, name="f17").removeprefix("/v1")
    before = stored(installation)
    for place in (path, "/images", "/images/detail"):
        answer = testapp.request(place, method=method, headers={"Accept": OTHERS[0], **meta(name="x")}, status=300)
        assert answer.json == versions("http://localhost:80")
    assert stored(installation) == before


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


# The list at /v1/


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("query", ["", "?limit=1", "?is_public=None&name=f17", "?name=none"])
def test_a_version_is_the_brief_list(query: str, name: str, testapp: TestApp) -> None:
    for image in ("f17", "f18"):
        reserve(testapp, name=image, is_public=True)
    answer = testapp.get(f"/{name}/{query}")
    assert answer.json == testapp.get(f"/{name}/images{query}").json
    assert answer.headers["Content-Type"].startswith("application/json")


def test_a_version_s_list_is_read_as_every_list(testapp: TestApp) -> None:
    assert "limit" in error_of(testapp.get("/v1/?limit=x", status=400))


def test_a_version_s_list_shows_what_the_caller_may_see(installation: "Installation") -> None:
    """S55."""
    reserve(installation.client(ALICE), name="private", id="private")
    reserve(installation.client(ALICE), name="public", id="public", is_public=True)
    seen = {who: installation.client(who).get("/v1/").json["images"] for who in (ALICE, BOB, NOBODY)}
    assert {image["id"] for image in seen[ALICE]} == {"private", "public"}
    assert [image["id"] for image in seen[BOB]] == [image["id"] for image in seen[NOBODY]] == ["public"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("limit=1&is_public=None", "?limit=1&is_public=None"),
        ("name=a%20b%2Fc+d&x=//evil.example", "?name=a%20b%2Fc+d&x=//evil.example"),
        ("?", "??"),
        (wire("name=für"), "?name=f%C3%BCr"),
        ("x=\r\nSet-Cookie: a=b", "?x=%0D%0ASet-Cookie:%20a=b"),
        ('x=<script>"', "?x=%3Cscript%3E%22"),
        ("\xff\x00#", "?%FF%00%23"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_version_without_slash_leads_to_the_one_with(
    method: str, query: str, kept: str, name: str, testapp: TestApp
) -> None:
    """S51."""
    answer = testapp.request(f"/{name}", method=method, environ={"QUERY_STRING": query}, status=302)
    assert answer.headers["Location"] == f"http://localhost:80/{name}/{kept}"
    assert answer.body == b""


def test_a_version_without_slash_leads_to_the_public_endpoint(install_with: Install) -> None:
    """S51."""
    app = install_with(public_endpoint=ENDPOINT, allow_anonymous="true").client(HTTP_HOST="evil.example")
    assert app.get("/v1?limit=1", status=302).headers["Location"] == f"{ENDPOINT}/v1/?limit=1"


def test_a_version_without_slash_leads_to_where_the_application_is_mounted(installation: "Installation") -> None:
    app = installation.client(HTTP_HOST="localhost", SCRIPT_NAME="/glance")
    assert app.get("/v1", status=302).headers["Location"] == "http://localhost/glance/v1/"


# Absolute URLs


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
        app.get("/", status=400),
        app.get("/v1", status=400),
        app.get("/images", headers={"Accept": OTHERS[0]}, status=400),
        app.get("/images", status=400),
        app.post("/v1/images", headers=meta(name="f17"), status=400),
    ):
        assert "Host" in error_of(answer)
        assert "Location" not in answer.headers


@pytest.mark.parametrize("host", ["localhost:", "[::1]:", "localhost:9292"])
def test_a_host_may_have_a_port_or_an_empty_one(host: str, installation: "Installation") -> None:
    assert installation.client(HTTP_HOST=host).get("/versions").json == versions(f"http://{host}")


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


@pytest.mark.parametrize("path", ["/", "/versions", "/v1", "/v1/", "/healthcheck", "/no/such/path", "/v9", "/images/x"])
@pytest.mark.parametrize("accept", ["*/*", "text/plain", V1, OTHERS[0]])
def test_no_page_beside_the_images_tells_of_them_or_of_the_machine(
    accept: str, path: str, installation: "Installation"
) -> None:
    """S55."""
    upload(installation.client(ALICE), b"bytes", name="hidden-name", id="hidden-id", owner="tenant-a")
    answer = installation.client(NOBODY).get(path, headers={"Accept": accept}, expect_errors=True)
    text = f"{answer.headers!r} {answer.text}"
    secrets = ("hidden", "tenant", str(installation.datadir), "file:", socket.gethostname(), "0.0.0.0", "sqlite")
    assert [secret for secret in secrets if secret in text] == []


def test_there_is_no_place_for_files_beside_the_images(testapp: TestApp) -> None:
    """S53: a view of static files that took a NUL byte for a name's end."""
    for path in ("/static/x", "/static/\x00", "/favicon.ico", "/robots.txt", "/docs/index.html", "/..%00/etc/passwd"):
        testapp.request("/", environ={"PATH_INFO": path}, status=404)


@pytest.mark.parametrize(("name", "floor"), [("pyramid", "2.0.2"), ("webob", "1.8.11")])
def test_releases_that_are_known_to_be_holed_are_not_installed(name: str, floor: str) -> None:
    """S51 and S53."""
    (requirement,) = (line for line in metadata.requires("pyrimage") or () if re.match(rf"{name}\b", line.lower()))
    assert f">={floor}" in requirement
