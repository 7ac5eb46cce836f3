"""The version list, and the absolute URLs that the service gives of itself."""

import re
import socket
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ALICE, BOB, NOBODY, error_of, meta, reserve, stored, upload, wire

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


VENDOR = "application/vnd.openstack"
V1 = f"{VENDOR}.images-v1"
OTHERS = [f"{VENDOR}.images-{name}" for name in ("v2", "v1.2", "v10", "va.1")] + [f"{VENDOR}.compute-v1"]

# Path, Accept, status, and what the answer holds: a word of its JSON, or the dialect in which it spells images.
# A version in the path counts, whatever Accept says. How Accept is read: unit/schemas/test_conditions.py.
ROWS: list[tuple[str, str | None, int, str]] = [
    ("/", None, 300, "versions"),
    ("/images", None, 200, "guide"),
    ("/images/detail", "application/json", 200, "guide"),
    ("/images", f"{V1};q=0.1, application/json", 200, "guide"),
    ("/images", f"{V1};q=0", 200, "guide"),
    ("/images", f"{V1}, */*;q=0.1", 200, "wire"),
    ("/v1/images", OTHERS[0], 200, "wire"),
    ("/v1.0/", None, 200, "wire"),
    ("/v1.1/images/detail", V1, 200, "wire"),
    ("/v1", OTHERS[0], 302, ""),
    ("/v1/versions", V1, 404, "error"),
    ("/v2/images", V1, 404, "error"),
    ("/v1.2/images", None, 404, "error"),
    ("/va.1/images", None, 404, "error"),
    ("/no/such/path", V1, 404, "error"),
    ("/versions", OTHERS[0], 200, "versions"),
    ("/healthcheck", OTHERS[0], 200, "OK"),
    *((path, V1 + minor, 200, "wire") for minor in ("", ".0", ".1") for path in ("/", "/images", "/images/detail")),
    *((path, other, 300, "versions") for other in OTHERS for path in ("/", "/images", "/images/x", "/no/such/path")),
]


@pytest.mark.parametrize(("path", "accept", "status", "holds"), ROWS)
def test_each_way_to_name_a_version(path: str, accept: str | None, status: int, holds: str, testapp: TestApp) -> None:
    reserve(testapp, is_public=True)
    headers = {} if accept is None else {"Accept": accept}
    answer = testapp.get(path, headers=headers, status=status)
    assert testapp.head(path, headers=headers, status=status).body == b""
    if not answer.headers["Content-Type"].startswith("application/json"):
        assert answer.text == holds
    elif holds in ("guide", "wire"):
        (image,) = answer.json["images"]
        assert image["uri"].startswith("http://localhost:80/v1") is (holds == "wire")
    else:
        assert next(iter(answer.json)) == holds


def test_accept_speaks_the_wire_s_dialect_on_every_path_of_the_guide(testapp: TestApp) -> None:
    headers = {"Accept": V1}
    made = testapp.post("/images", headers={**headers, **meta(disk_format="raw")}, status=201)  # needs no name
    path = f"/images/{made.json['image']['id']}"
    assert made.headers["Location"] == f"http://localhost:80/v1{path}"
    for answer in (made, testapp.head(path, headers=headers), testapp.put(path, headers=headers)):
        assert answer.headers["x-image-meta-uri"] == f"http://localhost:80/v1{path}"
        assert answer.headers["x-image-meta-disk_format"] == "raw"
        assert "T" in answer.headers["x-image-meta-created_at"]
    testapp.delete(path, headers=headers, status=200)


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


def test_a_version_s_list_is_that_of_its_images(installation: "Installation") -> None:
    """S55."""
    app = installation.client(ALICE)
    for image, is_public in (("private", False), ("public", True)):
        reserve(app, name=image, id=image, is_public=is_public)
    for query in ("", "?limit=1", "?name=none"):
        assert app.get(f"/v1/{query}").json == app.get(f"/v1/images{query}").json
    for caller in (BOB, NOBODY):
        assert [image["id"] for image in installation.client(caller).get("/v1/").json["images"]] == ["public"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("name=a%20b%2Fc+d&x=//evil.example", "?name=a%20b%2Fc+d&x=//evil.example"),
        ("?", "??"),
        (wire("name=für"), "?name=f%C3%BCr"),
        ("x=\r\nSet-Cookie: a=b", "?x=%0D%0ASet-Cookie:%20a=b"),
        ('x=<script>"', "?x=%3Cscript%3E%22"),
        ("\xff\x00#", "?%FF%00%23"),
    ],
)
def test_a_version_without_slash_leads_to_the_one_with(query: str, kept: str, testapp: TestApp) -> None:
    """S51."""
    for name in ("v1", "v1.0"):
        answer = testapp.request(f"/{name}", environ={"QUERY_STRING": query}, status=302)
        assert answer.headers["Location"] == f"http://localhost:80/{name}/{kept}"
        assert answer.body == b""


# Absolute URLs


def urls(app: TestApp, collection: str = "/images") -> set[str]:
    """Return every URL that answers about one image hold, with its id replaced, and where ``/v1`` leads."""
    made = app.post(collection, headers=meta(name="f17", is_public=True))
    path = f"{collection}/{made.json['image']['id']}"
    listed = [*app.get(collection).json["images"], *app.get(f"{collection}/detail").json["images"]]
    headers = [answer.headers["x-image-meta-uri"] for answer in (made, app.head(path), app.put(path))]
    found = [made.headers["Location"], made.json["image"]["uri"], *headers, *(image["uri"] for image in listed)]
    found += [app.get("/v1").headers["Location"], app.get("/versions").json["versions"][0]["links"][0]["href"]]
    return {url.replace(made.json["image"]["id"], "ID") for url in found}


@pytest.mark.parametrize("collection", ["/images", "/v1/images", "/v1.1/images"])
def test_urls_are_what_the_client_called_us(collection: str, installation: "Installation") -> None:
    environ: dict[str, Any] = {"HTTP_HOST": "[::1]:9292", "wsgi.url_scheme": "https"}
    url = "https://[::1]:9292"
    assert urls(installation.client(**environ), collection) == {f"{url}{collection}/ID", f"{url}/v1/"}
    for host in ("localhost:", "[::1]:", "localhost:9292"):  # there may be a port, or an empty one
        assert installation.client(HTTP_HOST=host).get("/versions").json == versions(f"http://{host}")


def test_urls_hold_the_place_where_the_application_is_mounted(installation: "Installation") -> None:
    app = installation.client(HTTP_HOST="localhost", SCRIPT_NAME=wire("/glance é"))
    url = "http://localhost/glance%20%C3%A9"
    assert urls(app) == {f"{url}/images/ID", f"{url}/v1/"}


@pytest.mark.parametrize("endpoint", [ENDPOINT, ENDPOINT + "/"])
@pytest.mark.parametrize("host", ["evil.example", "//evil.example/"])
def test_public_endpoint_wins_over_the_request(host: str, endpoint: str, install_with: Install) -> None:
    """S51: and a host that is none does no harm beside it."""
    app = install_with(public_endpoint=endpoint, allow_anonymous="true").client(HTTP_HOST=host)
    assert urls(app) == {f"{ENDPOINT}/images/ID", f"{ENDPOINT}/v1/"}
    assert app.get("/versions").json == versions(ENDPOINT)


HOSTS = ["evil.example/", "evil.example/x?", "user@evil.example", "//evil.example", "\tevil.example", "<script>"]
HOSTS += ["a b", "a\tb", "a\\b", "[::1", "a:b", " localhost", "localhost:80:80", "h\xf6st"]


def test_a_host_that_is_none_reaches_no_url(install_with: Install) -> None:
    """S51."""
    installation = install_with(allow_anonymous="true")
    for host in HOSTS:
        app = installation.client(HTTP_HOST=host)
        for path, headers in (
            ("/versions", {}),
            ("/", {}),
            ("/v1", {}),
            ("/images", {"Accept": OTHERS[0]}),
            ("/images", {}),
        ):
            answer = app.get(path, headers=headers, status=400)
            assert "Host" in error_of(answer)
            assert "Location" not in answer.headers
        app.post("/v1/images", headers=meta(name="f17"), status=400)


def test_no_header_of_the_client_reaches_a_url(install_with: Install) -> None:
    """S51."""
    app = install_with(allow_anonymous="true").client(HTTP_HOST="localhost")
    for name in ("X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded", "X-Original-URL", "X-Script-Name"):
        made = app.post("/images", headers={name: "evil.example", **meta(name="f17", uri="http://evil.example/")})
        assert made.headers["Location"] == f"http://localhost/images/{made.json['image']['id']}"


@pytest.mark.parametrize("path", ["/", "/versions", "/v1", "/v1/", "/healthcheck", "/no/such/path", "/v9", "/images/x"])
def test_no_page_beside_the_images_tells_of_them_or_of_the_machine(path: str, installation: "Installation") -> None:
    """S55."""
    upload(installation.client(ALICE), b"bytes", name="hidden-name", id="hidden-id", owner="tenant-a")
    for accept in ("*/*", "text/plain", V1, OTHERS[0]):
        answer = installation.client(NOBODY).get(path, headers={"Accept": accept}, expect_errors=True)
        text = f"{answer.headers!r} {answer.text}"
        secrets = ("hidden", "tenant", str(installation.datadir), "file:", socket.gethostname(), "0.0.0.0", "sqlite")
        assert [secret for secret in secrets if secret in text] == []


@pytest.mark.parametrize(("name", "floor"), [("pyramid", "2.0.2"), ("webob", "1.8.11")])
def test_releases_that_are_known_to_be_holed_are_not_installed(name: str, floor: str) -> None:
    """S51 and S53."""
    (requirement,) = (line for line in metadata.requires("pyrimage") or () if re.match(rf"{name}\b", line.lower()))
    assert f">={floor}" in requirement
