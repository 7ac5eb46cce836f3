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
    assert (made["created_at"], made["owner"]) == ("2001-01-01T00:00:00", None)


HERE: list[dict[str, Any]] = [
    *({"REMOTE_ADDR": peer} for peer in ("127.8.9.10", "::1", "localhost")),
    *({"HTTP_HOST": host} for host in ("localhost", "localhost:9292", "localhost.", "LocalHost.:9292")),
    *({"HTTP_HOST": host} for host in ("127.0.0.1:9292", "127.1.2.3", "[::1]", "[::1]:9292")),
    *({"HTTP_ORIGIN": origin} for origin in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:3000")),
]


@pytest.mark.parametrize("environ", HERE, ids=str)
def test_a_request_from_here_is_answered(environ: dict[str, Any], installation: "Installation") -> None:
    installation.client(**environ).get("/v1/images", status=200)


# Where a request seems to come from, and why it is refused.
PEERS = ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1", "", "x"]
HOSTS = [
    *("evil.example", "evil.example:9292", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "0.0.0.0"),
    *(
        "[::]",
        "[2001:db8::1]:80",
        "",
        ":9292",
        "localhost:x",
        "localhost:80:80",
        "localhost,evil.example",
        "localhost..",
    ),
    *(".localhost", "evil.example.", "evil.example#localhost", "localhost@evil.example", "localhost/", " localhost"),
    *("127.1", "2130706433"),
]
ORIGINS = ["https://evil.example", "null", "", "http://localhost.evil.example:9292"]
FORWARDS: list[dict[str, Any]] = [
    {"pyrimage.forwarded": True},  # our server's mark, where waitress removed the header
    *(
        {f"HTTP_{name}": "127.0.0.1"}
        for name in ("FORWARDED", "VIA", "X_REAL_IP", "X_FORWARDED_FOR", "X_FORWARDED_HOST")
    ),
    *({f"HTTP_X_FORWARDED_{name}": ""} for name in ("PROTO", "BY", "PORT", "PREFIX", "SERVER", "SSL")),
]
REFUSED = [
    *(({"REMOTE_ADDR": peer}, "the request comes from another one") for peer in PEERS),
    *(({"HTTP_HOST": host}, "the Host header does not name it") for host in HOSTS),
    *(({"HTTP_ORIGIN": origin}, "a web page of another one") for origin in ORIGINS),
    *((environ, "the request was forwarded by a proxy") for environ in FORWARDS),
]


@pytest.mark.parametrize(("environ", "why"), REFUSED, ids=str)
def test_a_request_from_elsewhere_is_refused(
    environ: dict[str, Any], why: str, installation: "Installation", statements: list[str]
) -> None:
    """S51 and DNS rebinding: a page whose name was made to lead here asks under its own name.

    A page may have a browser on this machine send a simple POST, but not in another page's name.
    """
    app = installation.client(**environ)
    message = error_of(app.post("/v1/images", b"bytes", headers=data_headers(name="x"), status=403))
    assert why in message
    assert "pyrimage.allow_anonymous" in message
    assert app.get("/healthcheck", status=200).body == b"OK"
    assert statements == []
    assert installation.stored_keys() == []


def test_http_1_0_without_a_host_is_answered_as_localhost(installation: "Installation") -> None:
    """RFC 9112, 3.2: only HTTP/1.1 must name the host, as browsers do."""
    environ = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.0", "SERVER_PORT": "9292"}
    request = installation.client().RequestClass.blank("/v1/", environ=environ)
    del request.environ["HTTP_HOST"]
    assert request.send(installation.wsgi).status_int == 200
    request.path_info = "/versions"
    answer = request.send(installation.wsgi)
    assert answer.json["versions"][0]["links"][0]["href"] == "http://localhost:9292/v1/"


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
    app.put(path, headers=meta(name="x"), status=403)
    app.delete(path, status=403)
    assert stored(installation) == before
    assert app.head("/healthcheck", status=200).body == b""
    assert app.post("/healthcheck", status=405).headers["Allow"] == "GET, HEAD"


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


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("word", ["admin", "tenant-a", "Confirmed", "True", ""])
def test_identity_headers_of_the_client_have_no_effect(word: str, separator: str, installation: "Installation") -> None:
    """S8: each alone, and all together."""
    path = reserve(installation.client(ALICE), name="f17")
    alone: list[dict[str, str]] = [{name.replace("-", separator): word} for name in NAMES]
    for headers in [*alone, {name: word for each in alone for name, word in each.items()}]:
        installation.client(**ELSEWHERE).head(path, headers=headers, status=403)
        made = installation.client().post("/v1/images", headers={**headers, **meta()}, status=201)
        assert made.json["image"]["owner"] is None
