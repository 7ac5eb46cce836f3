"""``pyrimage.auth = users``: who has a password is that user, and nobody else is answered."""

import base64
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from passlib.context import CryptContext
from webtest import TestApp

from accounts import basic, password_of, write_users
from conftest import install
from factories import ADMIN, ALICE, BOB, data_headers, error_of, meta, reserve, stored, upload
from identity_calls import api_token
from pyrimage.catalogue.records import Identity
from pyrimage.errors import ConfigurationError
from pyrimage.identity.passwords import Passwords
from pyrimage.identity.tokens import TokenLogins
from pyrimage.identity.user_files import UserFiles
from pyrimage.identity.users import Users
from servers.in_process_server import SECONDS, Answer, receive_all, request, serving

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

CHALLENGE = 'Basic realm="pyrimage", charset="UTF-8", Bearer realm="pyrimage"'
ELSEWHERE: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1", "HTTP_HOST": "images.example.org", "wsgi.url_scheme": "https"}


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Installation"]:
    directory = tmp_path_factory.mktemp("site")
    made = install(directory / "site", auth="users", users_file=str(write_users(directory)))
    yield made
    made.engine.dispose()


@pytest.fixture
def site(shared_site: "Installation") -> Iterator["Installation"]:
    """An installation with users, empty."""
    yield shared_site
    shared_site.empty()


@pytest.fixture
def client(site: "Installation") -> TestApp:
    """A client on another machine."""
    return site.client(**ELSEWHERE)


def test_a_user_acts_for_its_first_project(site: "Installation", client: TestApp) -> None:
    made = client.post("/v1/images", headers={**meta(name="f17"), **basic("alice")}, status=201)
    assert made.json["image"]["owner"] == "tenant-a"
    path = made.headers["Location"]
    client.head(path, headers=basic("alice"), status=200)
    client.head(path, headers=basic("bob"), status=404)
    client.head(path, headers=basic("root"), status=200)
    site.client(ALICE).head(path, status=200)


def test_a_reader_changes_nothing(site: "Installation", client: TestApp) -> None:
    path = upload(site.client(ALICE), name="f17")
    assert client.get(path, headers=basic("rita"), status=200).body
    before = stored(site)
    for method, target in (("POST", "/v1/images"), ("PUT", path), ("DELETE", path)):
        answer = client.request(target, method=method, headers={**meta(name="x"), **basic("rita")}, status=403)
        assert "your role in the project is reader" in error_of(answer)
    assert stored(site) == before


def test_an_administrator_is_one_by_its_role(site: "Installation", client: TestApp) -> None:
    made = client.post("/v1/images", headers={**meta(name="x", owner="tenant-b"), **basic("root")}, status=201)
    assert made.json["image"]["owner"] == "tenant-b"
    made = client.post("/v1/images", headers={**meta(name="x", owner="tenant-b"), **basic("alice")}, status=201)
    assert made.json["image"]["owner"] == "tenant-a"


def encoded(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


UNKNOWN = {
    "nobody": {},
    "an empty header": {"Authorization": "", "X-Auth-Token": ""},
    "wrong password": basic("alice", "wrong"),
    "unknown user": basic("eve", "wrong"),
    "too long": basic("alice", "é" * 37),
    "empty password": basic("alice", ""),
    "control character": basic("alice", f"{password_of('alice')}\x1f"),
    "control character in the name": basic("alice\0"),
    "no colon": {"Authorization": encoded(b"alice")},
    "not UTF-8": {"Authorization": encoded(b"alice:\xff")},
    "not Base64": {"Authorization": "Basic alice:password"},
    "nothing": {"Authorization": "Basic"},
    "beyond ASCII": {"Authorization": "Basic \xe9"},
    "two headers": {"Authorization": ", ".join([basic("alice")["Authorization"]] * 2)},
    "another scheme": {"Authorization": "Digest username=alice"},
    "no scheme": {"Authorization": basic("alice")["Authorization"].removeprefix("Basic ")},
    "a token": {"X-Auth-Token": "secret"},
    "a bearer": {"Authorization": "Bearer secret"},
    "a token beside a password": {"X-Auth-Token": "secret", **basic("alice")},
}


@pytest.mark.parametrize("headers", UNKNOWN.values(), ids=UNKNOWN)
def test_who_is_not_known_is_told_how_to_log_in_and_writes_nothing(
    headers: dict[str, str], site: "Installation", shared_site: "Installation"
) -> None:
    """S41."""
    path = upload(site.client(ALICE), name="f17", is_public=True)
    before, address = stored(site), {**ELSEWHERE, "REMOTE_ADDR": f"192.0.2.{list(UNKNOWN.values()).index(headers) + 9}"}
    app = site.client(**address)
    for method, target in (("GET", "/v1/images"), ("GET", path), ("POST", "/images"), ("PUT", path), ("DELETE", path)):
        answer = app.request(target, method=method, headers={**data_headers(name="x"), **headers}, status=401)
        assert answer.headers["WWW-Authenticate"] == CHALLENGE
        assert error_of(answer)
    assert stored(site) == before
    for page, status in (("/", 300), ("/versions", 200), ("/healthcheck", 200)):
        app.get(page, headers=headers, status=status)


@pytest.mark.parametrize("expects", [(), ("Expect: 100-continue",)], ids=["sends", "asks first"])
@pytest.mark.parametrize("body", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("authorization", [(), (f"Authorization: {basic('alice', 'wrong')['Authorization']}",)])
def test_who_is_not_known_is_told_before_a_byte_of_the_body_came(
    authorization: tuple[str, ...], body: str, expects: tuple[str, ...], site: "Installation"
) -> None:
    """S40."""
    before = stored(site)
    lines = ("Content-Type: application/octet-stream", body, *expects, *authorization)
    with serving(site.wsgi) as server:
        assert server.send(request("POST /v1/images", *lines)).recv(65536).startswith(b"HTTP/1.1 401 ")
    assert stored(site) == before


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic "])
def test_a_scheme_is_known_in_any_case(scheme: str, client: TestApp) -> None:
    credentials = basic("alice")["Authorization"].removeprefix("Basic ")
    client.get("/v1/images", headers={"Authorization": f"{scheme} {credentials}"}, status=200)


NAMES = [
    *("X-Roles", "X-Role", "X-User-Id", "X-User", "X-User-Name", "X-Tenant-Id", "X-Tenant", "X-Project-Id", "X-Owner"),
    *("X-Identity-Status", "X-Is-Admin-Project", "X-Service-Roles", "X-Service-Identity-Status", "X-Service-Token"),
    *("X-Forwarded-User", "X-Remote-User", "Remote-User", "pyrimage.identity", "Pyrimage-Identity"),
]


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("word", ["admin", "root", "tenant-b", "Confirmed", "True", ""])
def test_identity_headers_of_the_client_have_no_effect(
    word: str, separator: str, site: "Installation", client: TestApp
) -> None:
    """S8: each alone, and all together; and what a server in front says in REMOTE_USER."""
    path = reserve(site.client(BOB), name="f17")
    alone: list[dict[str, str]] = [{name.replace("-", separator): word} for name in NAMES]
    environ = {"REMOTE_USER": "root", "AUTH_TYPE": "Basic"}
    for headers in [*alone, {name: word for each in alone for name, word in each.items()}]:
        client.head(path, headers=headers, extra_environ=environ, status=401)
        client.head(path, headers={**headers, **basic("alice")}, extra_environ=environ, status=404)
    made = client.post("/v1/images", headers={**headers, **meta(), **basic("alice")}, extra_environ=environ, status=201)
    assert made.json["image"]["owner"] == "tenant-a"


def test_what_is_public_may_be_open_to_everybody(install_with: Install, tmp_path: Path) -> None:
    keys = {"auth": "users", "users_file": str(write_users(tmp_path)), "anonymous": "public"}
    site = install_with(**keys)
    public, private = (upload(site.client(ADMIN), name="f17", is_public=each) for each in (True, False))
    app, before = site.client(**ELSEWHERE), stored(site)
    assert app.get(public, status=200).body
    app.get(private, status=404)
    assert len(app.get("/v1/images", status=200).json["images"]) == 1
    for method, target in (("POST", "/v1/images"), ("PUT", public), ("DELETE", public)):
        answer = app.request(target, method=method, headers=meta(name="x"), status=401)
        assert answer.headers["WWW-Authenticate"] == CHALLENGE
    app.get(public, headers=basic("alice", "wrong"), status=401)
    assert stored(site) == before


def test_too_many_failures_are_told_when_to_come_again(site: "Installation") -> None:
    app = site.client(**{**ELSEWHERE, "REMOTE_ADDR": "198.51.100.1"})
    statuses = [app.get("/v1/images", headers=basic("alice", f"wrong {n}"), status="*").status_int for n in range(11)]
    assert statuses == [401] * 10 + [429]
    answer = app.get("/v1/images", headers=basic("alice"), status=429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert "Too many logins" in error_of(answer)
    site.client(**ELSEWHERE).get("/v1/images", headers=basic("alice"), status=200)


def test_a_hundred_wrong_passwords_leave_threads_to_those_who_are_logged_in(
    install_with: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install_with(auth="users", users_file=str(write_users(tmp_path)))
    goes_on, verify = threading.Event(), CryptContext.verify

    def wait_and_verify(context: CryptContext, secret: str, hashed: str) -> bool:
        return goes_on.wait(SECONDS) and verify(context, secret, hashed)

    def line(password: str | None = None) -> str:
        return f"Authorization: {basic('alice', password)['Authorization']}"

    with serving(site.wsgi, threads=8) as server:
        assert server.get("/v1/images", line()).status == 200
        monkeypatch.setattr(CryptContext, "verify", wait_and_verify)
        many = [request("GET /v1/images", "Connection: close", line(f"wrong {number}")) for number in range(100)]
        clients = [server.send(each) for each in many]
        assert server.get("/v1/images", line()).status == 200  # while none of them is verified
        goes_on.set()
        statuses = Counter(Answer.parse(receive_all(client)).status for client in clients)
    assert statuses.keys() == {401, 429}
    assert statuses[401] <= 10


def test_no_credentials_are_logged(client: TestApp, caplog: pytest.LogCaptureFixture) -> None:
    """S46."""
    caplog.set_level(logging.DEBUG)
    secrets = {
        name: header["Authorization"] for name, header in (("right", basic("alice")), ("wrong", basic("a", "b")))
    }
    for value in (*secrets.values(), "Bearer 0123456789", "Basic 0123456789"):
        client.get("/v1/images", headers={"Authorization": value}, status="*")
    client.get("/v1/images", headers={"X-Auth-Token": "0123456789"}, status=401)
    assert len(caplog.records) >= 4
    for secret in (*(value.removeprefix("Basic ") for value in secrets.values()), password_of("alice"), "0123456789"):
        assert secret not in caplog.text


def test_credentials_over_plain_http_are_told(install_with: Install, tmp_path: Path, caplog: Any) -> None:
    site = install_with(auth="users", users_file=str(write_users(tmp_path)))
    client = site.client(**{**ELSEWHERE, "wsgi.url_scheme": "http"})
    client.get("/v1/images", status=401)
    assert "plain HTTP" not in caplog.text
    client.get("/v1/images", headers=basic("alice"), status=200)
    assert caplog.text.count("plain HTTP") == 1


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ({"X-Auth-Token": "known"}, BOB),
        ({"Authorization": "Bearer known"}, BOB),
        ({"Authorization": "bearer  known"}, BOB),
        ({"X-Auth-Token": "known", **basic("alice")}, BOB),
        ({"X-Auth-Token": "wrong", **basic("alice")}, None),
        ({"X-Auth-Token": "wrong", "Authorization": "Bearer known"}, None),
        ({"X-Auth-Token": "", **basic("bob")}, Identity("bob", "tenant-b", frozenset({"member"}))),
        ({"Authorization": "Bearer"}, None),
    ],
    ids=str,
)
def test_a_token_goes_before_a_password(
    headers: dict[str, str], user: Identity | None, site: "Installation", tmp_path: Path
) -> None:
    files, seen = UserFiles(write_users(tmp_path)), {}

    def app(environ: dict[str, Any], start_response: object) -> list[bytes]:
        seen.update(environ)
        return []

    tokens = TokenLogins(site.catalogue.tokens, files, timedelta(hours=1))
    _, secret = api_token(site, "bob")
    fields = {
        f"HTTP_{name.upper().replace('-', '_')}": value.replace("known", secret) for name, value in headers.items()
    }
    Users(app, site.settings, Passwords(files), tokens)({"wsgi.url_scheme": "http", **fields}, print)
    assert seen.get("pyrimage.identity") == user
    assert ("pyrimage.unauthenticated" in seen) == (user is None)


@pytest.mark.parametrize(
    ("text", "words"), [(None, "pyrimage.users_file is not set"), ("[alice]\nx = y\n", "users, line 2: the roles are")]
)
def test_a_server_without_its_users_does_not_start(text: str | None, words: str, tmp_path: Path) -> None:
    keys = {}
    if text is not None:
        (path := write_users(tmp_path)).write_text(text)
        keys = {"users_file": str(path)}
    with pytest.raises(ConfigurationError, match=words):
        install(tmp_path / "site", auth="users", **keys)


def test_a_web_page_of_another_site_cannot_write_with_what_a_browser_remembers(client: TestApp) -> None:
    sent = {**meta(name="f17"), **basic("alice"), "Origin": "https://evil.example"}
    assert "web page" in error_of(client.post("/v1/images", headers=sent, status=403))
    for method in ("GET", "HEAD"):
        client.request("/v1/images", method=method, headers=sent, status=200)


def test_no_cache_keeps_for_all_what_a_token_was_answered(site: "Installation", client: TestApp) -> None:
    """Of Authorization caches know that by themselves."""
    _, secret = api_token(site)
    assert client.get("/images", headers={"X-Auth-Token": secret}).headers["Cache-Control"] == "private"
    assert "Cache-Control" not in client.get("/images", headers=basic("alice")).headers
