"""``pyrimage.auth = none``: everybody on this machine is an administrator, and nobody else is answered."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ALICE, data_headers, error_of, meta, reserve, stored, upload

if TYPE_CHECKING:
    from conftest import Installation

ELSEWHERE: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1"}
Install = Callable[..., "Installation"]


def test_a_caller_on_this_machine_is_an_administrator_without_project(testapp: TestApp) -> None:
    made = testapp.post("/v1/images", headers=meta(name="f17", created_at="2001-01-01")).json["image"]
    assert made["created_at"] == "2001-01-01T00:00:00"
    assert made["owner"] is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_a_loopback_peer_is_answered(peer: str, installation: "Installation") -> None:
    installation.client(REMOTE_ADDR=peer).get("/v1/images", status=200)


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1", "", "x"])
def test_a_peer_elsewhere_is_refused(peer: str, installation: "Installation") -> None:
    message = error_of(installation.client(REMOTE_ADDR=peer).get("/v1/images", status=403))
    assert "the request comes from another one" in message


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9292",
        "localhost.",
        "LocalHost.:9292",
        "LocalHost",
        "127.0.0.1",
        "127.0.0.1:9292",
        "127.1.2.3",
        "[::1]",
        "[::1]:9292",
    ],
)
def test_a_loopback_host_is_answered(host: str, installation: "Installation") -> None:
    installation.client(HTTP_HOST=host).get("/v1/images", status=200)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9292", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"),
        *(
            "0.0.0.0",
            "[::]",
            "[2001:db8::1]:80",
            "",
            ":9292",
            "localhost:x",
            "localhost:80:80",
            "localhost,evil.example",
            "localhost..",
            ".localhost",
            "evil.example.",
        ),
        *("evil.example#localhost", "localhost@evil.example", "localhost/", " localhost", "127.1", "2130706433"),
    ],
)
def test_a_host_elsewhere_is_refused(host: str, installation: "Installation") -> None:
    """S51 and DNS rebinding: a page whose name was made to lead here asks under its own name."""
    message = error_of(installation.client(HTTP_HOST=host).get("/v1/images", status=403))
    assert "the Host header does not name it" in message
    assert "pyrimage.allow_anonymous" in message


def test_http_1_0_without_a_host_is_answered_as_localhost(installation: "Installation") -> None:
    """RFC 9112, 3.2: only HTTP/1.1 must name the host, as browsers do."""
    environ = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.0", "SERVER_PORT": "9292"}
    request = installation.client().RequestClass.blank("/v1/", environ=environ)
    del request.environ["HTTP_HOST"]
    assert request.send(installation.wsgi).status_int == 200
    request.path_info = "/versions"
    answer = request.send(installation.wsgi)
    assert answer.json["versions"][0]["links"][0]["href"] == "http://localhost:9292/v1/"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost.evil.example:9292"])
def test_a_web_page_elsewhere_is_refused(origin: str, installation: "Installation") -> None:
    """A page may have a browser on this machine send a simple POST, but not in another page's name."""
    before = stored(installation)
    app = installation.client(HTTP_ORIGIN=origin)
    assert "a web page of another one" in error_of(app.post("/v1/images", headers=meta(name="x"), status=403))
    assert stored(installation) == before


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:3000"])
def test_a_web_page_of_this_machine_is_answered(origin: str, installation: "Installation") -> None:
    installation.client(HTTP_ORIGIN=origin).get("/v1/images", status=200)


@pytest.mark.parametrize(
    "environ",
    [
        {"pyrimage.forwarded": True},  # our server's mark, where waitress removed the header
        *(
            {f"HTTP_{name}": "127.0.0.1"}
            for name in ("FORWARDED", "VIA", "X_REAL_IP", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO")
        ),
        *({f"HTTP_X_FORWARDED_{name}": ""} for name in ("BY", "PORT", "PREFIX", "SERVER", "SSL")),
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_forwarded_request_is_refused(environ: dict[str, Any], installation: "Installation") -> None:
    message = error_of(installation.client(**environ).get("/v1/images", status=403))
    assert "the request was forwarded by a proxy" in message
    assert "pyrimage.allow_anonymous" in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/versions", "/images", "/v1/images/detail", "/v2", "/no/such/path")),
        *(("GET", path) for path in ("/healthcheck/", "/healthcheck/x", "//healthcheck", "/HEALTHCHECK")),
        *(("POST", "/images"), ("OPTIONS", "/images"), ("PUT", "/images/x"), ("DELETE", "/images/x"), ("HEAD", "/")),
    ],
)
def test_a_caller_from_elsewhere_is_refused_everything(method: str, path: str, installation: "Installation") -> None:
    app = installation.client(**ELSEWHERE)
    app.request("/", method=method, environ={**ELSEWHERE, "PATH_INFO": path}, headers=meta(name="x"), status=403)


def test_a_caller_from_elsewhere_changes_nothing(installation: "Installation") -> None:
    path = upload(installation.client(), name="f17", is_public=True)
    before, app = stored(installation), installation.client(**ELSEWHERE)
    app.post("/v1/images", b"bytes", headers=data_headers(name="x"), status=403)
    app.put(path, headers=meta(name="x"), status=403)
    app.delete(path, status=403)
    assert stored(installation) == before


@pytest.mark.parametrize(
    "environ", [{"REMOTE_ADDR": "192.0.2.1"}, {"HTTP_HOST": "evil.example"}, {"pyrimage.forwarded": True}]
)
def test_the_healthcheck_answers_everybody(environ: dict[str, Any], installation: "Installation") -> None:
    app = installation.client(**environ)
    answer = app.get("/healthcheck", status=200)
    assert answer.body == b"OK"
    assert app.head("/healthcheck", status=200).body == b""


def test_the_healthcheck_asks_neither_database_nor_store(testapp: TestApp, statements: list[str]) -> None:
    testapp.get("/healthcheck", status=200)
    assert statements == []


def test_the_healthcheck_knows_no_other_method(installation: "Installation") -> None:
    answer = installation.client(**ELSEWHERE).post("/healthcheck", status=405)
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"HTTP_HOST": "images.example.org"},
        {"pyrimage.forwarded": True, "HTTP_X_FORWARDED_FOR": "192.0.2.1"},
    ],
)
def test_allow_anonymous_makes_everybody_an_administrator(environ: dict[str, Any], install_with: Install) -> None:
    installation = install_with(allow_anonymous="true")
    made = installation.client(**environ).post("/v1/images", headers=meta(owner="tenant"), status=201)
    assert made.json["image"]["owner"] == "tenant"


NAMES = [
    *("X-Roles", "X-Role", "X-User-Id", "X-User", "X-Tenant-Id", "X-Tenant", "X-Project-Id", "X-Owner", "X-Auth-Token"),
    *("X-Identity-Status", "X-Is-Admin-Project", "X-Service-Roles", "X-Service-Identity-Status", "Authorization"),
    *("pyrimage.identity", "Pyrimage-Identity", "pyrimage.refusal"),
]
WORDS = ["admin", "tenant-a", "Confirmed", "True", ""]


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("name", NAMES)
def test_identity_headers_of_the_client_have_no_effect(name: str, separator: str, installation: "Installation") -> None:
    """S8."""
    path = reserve(installation.client(ALICE), name="f17")
    for word in WORDS:
        headers = {name.replace("-", separator): word}
        installation.client(**ELSEWHERE).head(path, headers=headers, status=403)
        made = installation.client().post("/v1/images", headers={**headers, **meta(owner="x")}, status=201)
        assert made.json["image"]["owner"] == "x"


def test_identity_headers_together_have_no_effect(installation: "Installation") -> None:
    """S8."""
    headers = {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": "root",
        "X-Tenant-Id": "tenant-a",
        "X-Roles": "admin",
        "X-Is-Admin-Project": "True",
        "X-Project-Id": "tenant-a",
    }
    installation.client(**ELSEWHERE).get("/v1/images", headers=headers, status=403)
    assert installation.client().post("/v1/images", headers={**headers, **meta()}).json["image"]["owner"] is None
