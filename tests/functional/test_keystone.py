"""``pyrimage.auth = keystone``: the owner of a token is the caller. A real Keystone is in ``system/identity``."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

import origins
from conftest import Installation
from factories import data_headers, error_of, meta, stored
from keystones import PASSWORD, PROJECT, USER, Keystone
from pyrimage.environ import IDENTITY
from pyrimage.identity.keystone import make_keystone
from pyrimage.stores import load_settings

Install = Callable[..., Installation]
CHALLENGE = 'Keystone uri="https://keystone.example.org/v3"'
SYSTEM = {"project": None, "system": {"all": True}}
DOMAIN = {"project": None, "domain": {"id": "default", "name": "Default"}}


@pytest.fixture(scope="module")
def origin() -> Iterator[origins.Origin]:
    with origins.serving() as made:
        yield made


@pytest.fixture
def keystone(origin: origins.Origin) -> Keystone:
    return Keystone(origin)


@pytest.fixture
def app(install_keystone: Install, keystone: Keystone) -> TestApp:
    return install_keystone(keystone).client(REMOTE_ADDR="192.0.2.1")


def token(text: str, **more: str) -> dict[str, str]:
    return {"X-Auth-Token": text, **more}


# -- who is who


@pytest.mark.parametrize(
    ("roles", "more", "owner"),
    [
        (["member"], {}, PROJECT),
        (["Member", "reader"], {}, PROJECT),
        (["admin"], {}, "of-others"),
        (["ADMIN", "member", "reader"], {}, "of-others"),
        (["admin"], SYSTEM, "of-others"),
    ],
)
def test_who_may_write_owns_images_by_the_project_and_an_administrator_says_whose_they_are(
    roles: list[str], more: dict[str, Any], owner: str, app: TestApp, keystone: Keystone
) -> None:
    headers = token(keystone.issue(*roles, **more), **meta(owner="of-others"))
    assert app.post("/v1/images", headers=headers, status=201).json["image"]["owner"] == owner


@pytest.mark.parametrize("roles", [["reader"], ["service"], ["members", "administrator"], []])
def test_who_is_neither_member_nor_administrator_reads_only(roles: list[str], app: TestApp, keystone: Keystone) -> None:
    made = app.post("/v1/images", headers=token(keystone.issue("member"), **meta(name="f17"))).json["image"]
    reader = token(keystone.issue(*roles))
    assert app.head(f"/v1/images/{made['id']}", headers=reader).headers["x-image-meta-name"] == "f17"
    assert "reader" in error_of(app.delete(f"/v1/images/{made['id']}", headers=reader, status=403))
    app.post("/v1/images", headers={**reader, **meta(name="x")}, status=403)


@pytest.mark.parametrize(
    ("roles", "more"),
    [(["member"], {"project": None}), (["admin"], DOMAIN), (["reader", "member"], SYSTEM), ([], {"project": None})],
)
def test_a_token_without_a_project_is_refused_unless_it_is_that_of_an_administrator_of_the_system(
    roles: list[str], more: dict[str, Any], app: TestApp, keystone: Keystone
) -> None:
    unscoped = token(keystone.issue(*roles, **more))
    assert "project" in error_of(app.get("/v1/images", headers=unscoped, status=403))
    app.get("/versions", headers=unscoped, status=200)


def test_the_role_of_administrators_is_a_setting(install_keystone: Install, keystone: Keystone) -> None:
    app = install_keystone(keystone, admin_role="Image_Admin").client()
    for role, owner in {"image_admin": "of-others", "member": PROJECT}.items():
        headers = token(keystone.issue("admin", role), **meta(owner="of-others"))
        assert app.post("/v1/images", headers=headers, status=201).json["image"]["owner"] == owner


def test_the_caller_is_named_by_user_and_project(keystone: Keystone, tmp_path: Path) -> None:
    seen = pass_through(keystone, tmp_path, HTTP_X_AUTH_TOKEN=keystone.issue("member"))
    assert str(seen[IDENTITY]) == f"{USER}/{PROJECT}"


def pass_through(keystone: Keystone, directory: Path, **environ: Any) -> dict[str, Any]:
    """Send an environ through the middleware; return what the application was called with."""
    called: list[tuple[dict[str, Any], Any]] = []
    answer = iter([b"bytes"])

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        called.append((environ, start_response))
        return answer

    settings = load_settings({"pyrimage.auth": "keystone", "pyrimage.stores": "http"})
    middleware = make_keystone(application, settings, str(keystone.write_ini(directory)))
    given = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/v1/images",
        "wsgi.url_scheme": "http",
        **environ,
    }
    start_response = print
    assert middleware(given, start_response) is answer
    ((seen, started),) = called
    assert seen is given
    assert seen.keys() == {"REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "wsgi.url_scheme", IDENTITY, *environ}
    assert started is start_response
    return seen


def test_bodies_and_answers_do_not_pass_through_the_middleware(keystone: Keystone, tmp_path: Path) -> None:
    """So the server's own way to read and to send stays."""
    body = object()
    more = {"wsgi.input": body, "wsgi.file_wrapper": open}
    seen = pass_through(keystone, tmp_path, HTTP_X_AUTH_TOKEN=keystone.issue("member"), **more)
    assert (seen["wsgi.input"], seen["wsgi.file_wrapper"]) == (body, open)


# -- who is nobody


def test_without_a_token_nothing_is_written_and_nobody_is_asked(install_keystone: Install, keystone: Keystone) -> None:
    """S41."""
    installation = install_keystone(keystone)
    before, app = stored(installation), installation.client()
    for headers in ({}, {"X-Auth-Token": ""}, {"X-Service-Token": "x"}, {"X-Storage-Token": keystone.issue("admin")}):
        refused = app.post("/v1/images", b"bytes", headers={**data_headers(name="x"), **headers}, status=401)
        assert refused.headers["WWW-Authenticate"] == CHALLENGE
        assert "X-Auth-Token" in error_of(refused)
    assert (keystone.asked, stored(installation)) == ([], before)


class Unread(io.RawIOBase):
    """A body that must not be asked for."""

    def readinto(self, buffer: object) -> int:
        raise AssertionError("the body was read")


def test_no_byte_of_a_body_is_taken_before_it_is_known_whose_it_is(app: TestApp, keystone: Keystone) -> None:
    """S40."""
    keystone.answer_with(lambda asked: origins.nothing(asked))
    for headers, status in (({}, 401), (token("unknown"), 503)):
        environ = {"wsgi.input": Unread(), "CONTENT_LENGTH": "1000000"}
        fields = {**data_headers(name="x"), **headers}
        app.request("/v1/images", method="POST", headers=fields, environ=environ, status=status)


@pytest.mark.parametrize(
    "text", ["two words", "one, two", "x" * 8193, "x" * 10_000_000, "\x01", "tab\there", "x\x7f", "ü", "\x00"]
)
def test_a_malformed_token_is_nobodys_and_not_asked_about(text: str, app: TestApp, keystone: Keystone) -> None:
    good = keystone.issue("member")
    for user, service in ((text, good), (good, text)):
        environ = {"HTTP_X_AUTH_TOKEN": user, "HTTP_X_SERVICE_TOKEN": service}
        refused = app.get("/v1/images", extra_environ=environ, status=401)
        assert refused.headers["WWW-Authenticate"] == CHALLENGE
        assert text not in error_of(refused)
    assert keystone.asked == []


def test_with_anonymous_reading_only_a_token_that_is_none_is_refused(
    install_keystone: Install, keystone: Keystone
) -> None:
    app = install_keystone(keystone, anonymous="public").client()
    member = token(keystone.issue("member"))
    path = "/v1/images/" + app.post("/v1/images", headers={**member, **meta(is_public=True)}).json["image"]["id"]
    app.head(path, status=200)
    app.head(path, headers=token("unknown"), status=401)
    assert app.delete(path, status=401).headers["WWW-Authenticate"] == CHALLENGE


NAMES = [
    *("X-Roles", "X-Role", "X-User", "X-User-Id", "X-User-Name", "X-User-Domain-Id", "X-User-Domain-Name"),
    *("X-Tenant", "X-Tenant-Id", "X-Tenant-Name", "X-Project-Id", "X-Project-Name", "X-Project-Domain-Id"),
    *("X-Domain-Id", "X-Domain-Name", "X-Owner", "X-Identity-Status", "X-Is-Admin-Project", "X-Service-Catalog"),
    *("X-Service-Roles", "X-Service-Identity-Status", "X-Service-User-Id", "X-Service-Project-Id", "Remote-User"),
    *("OpenStack-System-Scope", "Keystone.Token-Auth", "Pyrimage.Identity"),
]


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("word", ["admin", "tenant-a", "Confirmed", "True", "all", ""])
def test_identity_headers_of_the_client_have_no_effect(
    word: str, separator: str, app: TestApp, keystone: Keystone
) -> None:
    """S8: without a token, with one that is none, and with a member's."""
    member = token(keystone.issue("member"))
    alone: list[dict[str, str]] = [{name.replace("-", separator): word} for name in NAMES]
    for headers in [*alone, {name: word for each in alone for name, word in each.items()}]:
        app.get("/v1/images", headers=headers, status=401)
        app.get("/v1/images", headers={**headers, **token("unknown")}, status=401)
        made = app.post("/v1/images", headers={**headers, **member, **meta(owner="of-others")}, status=201)
        assert made.json["image"]["owner"] == PROJECT


# -- tokens that come and go


def test_an_unknown_and_an_expired_token_are_nobodys(app: TestApp, keystone: Keystone) -> None:
    for text in ("unknown", keystone.issue("member", seconds=-1)):
        refused = app.get("/v1/images", headers=token(text), status=401)
        assert refused.headers["WWW-Authenticate"] == CHALLENGE
        assert "revoked" in error_of(refused)


def test_a_token_is_remembered_and_expires_all_the_same(
    install_keystone: Install, keystone: Keystone, caplog: pytest.LogCaptureFixture
) -> None:
    app = install_keystone(keystone, {"token_cache_time": "300"}).client()
    headers = token(keystone.issue("member"))
    app.get("/v1/images", headers=headers, status=200)
    keystone.tokens.clear()  # revoked
    app.get("/v1/images", headers=headers, status=200)
    assert keystone.asked == [headers["X-Auth-Token"]]
    assert "deprecated" not in caplog.text  # as the middleware says of what it remembers by itself
    service, expired = keystone.issue("service"), keystone.issue("member", seconds=-1)
    app.get("/v1/images", headers={**token(expired), "X-Service-Token": service}, status=200)
    app.get("/v1/images", headers=token(expired), status=401)


@pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_memcached_that_is_away_is_done_without(install_keystone: Install, keystone: Keystone) -> None:
    servers, security = f"127.0.0.1:{origins.closed_port()}", {"memcache_security_strategy": "MAC"}
    section = {"token_cache_time": "300", "memcached_servers": servers, "memcache_secret_key": "x" * 16, **security}
    app = install_keystone(keystone, section).client()
    headers = token(keystone.issue("member"))
    for _ in range(2):
        app.get("/v1/images", headers=headers, status=200)
    assert keystone.asked == [headers["X-Auth-Token"]] * 2


def test_without_remembering_a_revoked_token_is_refused_at_once(app: TestApp, keystone: Keystone) -> None:
    headers = token(keystone.issue("member"))
    app.get("/v1/images", headers=headers, status=200)
    keystone.tokens.clear()
    app.get("/v1/images", headers=headers, status=401)


@pytest.mark.parametrize(
    ("seconds", "service", "status"),
    [
        (-1, ["service"], 200),
        (-1, ["admin", "member"], 401),
        (60, ["service"], 200),
        (60, ["admin", "member"], 401),
        (60, None, 401),
        (-1, None, 401),
    ],
)
def test_a_service_lets_a_user_in_whose_token_has_expired_and_is_nobody_itself(
    seconds: int, service: list[str] | None, status: int, app: TestApp, keystone: Keystone
) -> None:
    text = "unknown" if service is None else keystone.issue(*service)
    headers = token(keystone.issue("member", seconds=seconds), **{"X-Service-Token": text})
    app.get("/v1/images", headers=headers, status=status)
    reader = token(keystone.issue("reader"), **{"X-Service-Token": keystone.issue("service", "admin")})
    app.post("/v1/images", headers={**reader, **meta()}, status=403)


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ([{"service": "image", "method": "GET", "path": "/v1/images"}], 200),
        ([{"service": "image", "method": "GET", "path": "/v1/*"}], 200),
        ([{"service": "image", "method": "PUT", "path": "/v1/images"}], 401),
        ([{"service": "compute", "method": "GET", "path": "/v1/images"}], 401),
        ([], 401),
    ],
)
def test_the_rules_of_an_application_credential_hold(
    rules: list[dict[str, str]], status: int, app: TestApp, keystone: Keystone
) -> None:
    credential = {"id": "x", "name": "x", "restricted": True, "access_rules": rules}
    app.get("/v1/images", headers=token(keystone.issue("member", application_credential=credential)), status=status)


def test_a_token_from_elsewhere_over_plain_http_is_told(
    app: TestApp, keystone: Keystone, caplog: pytest.LogCaptureFixture
) -> None:
    app.get("/v1/images", status=401)
    assert "plain HTTP" not in caplog.text
    app.get("/v1/images", headers=token(keystone.issue("member")), status=200)
    assert "Credentials came from 192.0.2.1 over plain HTTP" in caplog.text


def test_neither_token_nor_password_is_logged(
    app: TestApp, keystone: Keystone, caplog: pytest.LogCaptureFixture
) -> None:
    """S46."""
    caplog.set_level("DEBUG")
    keystone.answer_with(lambda asked: origins.nothing(asked))
    app.get("/v1/images", headers=token("a-secret-token"), status=503)
    keystone.work()
    app.get("/v1/images", headers=token("a-secret-token"), status=401)
    service = {"X-Service-Token": keystone.issue("service")}
    app.get("/v1/images", headers=token(keystone.issue("member"), **service), status=200)
    assert caplog.text
    assert [secret for secret in ("a-secret-token", *keystone.tokens, PASSWORD) if secret in caplog.text] == []
