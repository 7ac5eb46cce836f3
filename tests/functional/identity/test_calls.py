"""The identity calls about tokens, projects and services; and where they are."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from webtest import TestApp

from accounts import password_of, write_users
from conftest import Installation, install
from factories import error_of
from identity_calls import TOKENS, URL, api_token, by_credential, by_token, log_in, password, secret_of
from pyrimage.catalogue.records import utcnow
from pyrimage.identity.tokens import digest_of
from pyrimage.models import TokenRow
from servers.databases import unreachable_url


def test_a_token_is_shown_checked_and_revoked(installation: Installation, app: TestApp) -> None:
    made = log_in(app)
    secret, other = secret_of(made), secret_of(log_in(app))
    child = secret_of(log_in(app, by_token(secret)))
    headers = {"X-Auth-Token": other, "X-Subject-Token": secret}
    shown = app.get(TOKENS, headers=headers, status=200)
    assert (shown.json, secret_of(shown)) == (made.json, secret)
    assert {each.headers["Cache-Control"] for each in (made, shown)} == {"no-store"}
    checked = app.head(TOKENS, headers=headers, status=200)
    assert (checked.body, secret_of(checked)) == (b"", secret)
    assert app.delete(TOKENS, headers=headers, status=204).body == b""
    for ended in (secret, child):
        app.get("/images", headers={"X-Auth-Token": ended}, status=401)
    app.get("/images", headers={"X-Auth-Token": other}, status=200)
    assert installation.rows(TokenRow) == 1


@pytest.mark.parametrize(("parent", "method"), [(None, "application_credential"), ("x", "token")])
def test_a_token_that_another_login_made_is_shown_as_what_it_is(
    installation: Installation, app: TestApp, parent: str | None, method: str
) -> None:
    secret = api_token(installation)[1]
    if parent:
        secret = secret_of(log_in(app, by_token(secret)))
    token = app.get(TOKENS, headers={"X-Auth-Token": secret, "X-Subject-Token": secret}).json["token"]
    assert token["methods"] == [method]
    assert token["expires_at"][:4] == ("9999" if parent is None else f"{utcnow():%Y}")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_who_asks_about_a_token_shows_a_login_first(installation: Installation, app: TestApp, method: str) -> None:
    secret = secret_of(log_in(app))
    for headers, status in (
        ({"X-Subject-Token": secret}, 401),
        ({"X-Subject-Token": secret, "X-Auth-Token": "x"}, 401),
        ({"X-Auth-Token": secret}, 400),
        ({"X-Auth-Token": secret, "X-Subject-Token": "x"}, 404),
        ({"X-Auth-Token": secret, "X-Subject-Token": "pyr_" + "x" * 43}, 404),
    ):
        app.request(TOKENS, method=method, headers=headers, status=status)
    assert installation.rows(TokenRow) == 1


def test_an_expired_token_is_none(installation: Installation, app: TestApp) -> None:
    expired, valid = secret_of(log_in(app)), secret_of(log_in(app))
    with installation.engine.begin() as connection:
        mine = TokenRow.digest == digest_of(expired)
        connection.execute(update(TokenRow).where(mine).values(expires_at=utcnow()))
    app.get("/images", headers={"X-Auth-Token": expired}, status=401)
    log_in(app, by_token(expired), status=401)
    app.get(TOKENS, headers={"X-Auth-Token": valid, "X-Subject-Token": expired}, status=404)


def test_projects_and_services_are_listed_to_who_has_logged_in(app: TestApp) -> None:
    answer = log_in(app)
    headers = {"X-Auth-Token": secret_of(answer)}
    projects = app.get("/identity/v3/auth/projects", headers=headers).json
    assert [(each["id"], each["name"], each["domain_id"], each["enabled"]) for each in projects["projects"]] == [
        (name, name, "default", True) for name in ("tenant-a", "tenant-b")
    ]
    services = app.get("/identity/v3/auth/catalog", headers=headers).json
    assert services["catalog"] == answer.json["token"]["catalog"]
    urls = {name: f"{URL}/identity/v3/auth/{name}" for name in ("projects", "catalog")}
    assert projects["links"] == {"self": urls["projects"], "next": None, "previous": None}
    assert services["links"] == {"self": urls["catalog"]}
    for url in urls.values():
        app.get(url, status=401)


# Addresses


def test_the_versions(app: TestApp) -> None:
    version = {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{URL}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }
    for slash in ("", "/"):
        assert app.get(f"/identity{slash}", status=300).json == {"versions": {"values": [version]}}
        assert app.get(f"/identity/v3{slash}", status=200).json == {"version": version}


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.openstack.images-v1", "application/vnd.x-v9"])
def test_accept_names_no_version_of_the_image_api_here(app: TestApp, accept: str) -> None:
    assert "version" in app.get("/identity/v3", headers={"Accept": accept}, status=200).json


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/identity/v2.0", 404),
        ("GET", "/identity/v3/auth", 404),
        ("GET", "/identity/v3/users", 404),
        ("GET", "/identity/v3/auth/tokens/", 404),
        ("GET", "/identity/v3/auth/tokens/x", 404),
        ("GET", "/identity/healthcheck", 404),
        ("PUT", TOKENS, 405),
        ("POST", "/identity/v3", 405),
    ],
)
def test_nothing_more_of_keystone_is_there(app: TestApp, method: str, path: str, status: int) -> None:
    answer = app.request(path, method=method, status=status)
    if path == TOKENS:
        assert answer.headers["Allow"] == "GET, HEAD, POST, DELETE"


@pytest.mark.parametrize("path", ["/v3/auth/tokens", "/v3", "/v2.0/tokens"])
def test_whoever_takes_the_bare_url_for_keystones_is_told_the_right_one(app: TestApp, path: str) -> None:
    assert f"auth_url to {URL}/identity/v3" in error_of(app.post_json(path, {}, status=404))
    assert "There is no version 'v9'" in error_of(app.get("/v9", status=404))


def test_the_urls_are_those_of_the_public_endpoint(install_with: Callable[..., Installation], tmp_path: Path) -> None:
    made = install_with(
        auth="users", users_file=str(write_users(tmp_path)), public_endpoint="https://images.example.org/x"
    )
    answer = log_in(made.client())
    urls = {each["type"]: {place["url"] for place in each["endpoints"]} for each in answer.json["token"]["catalog"]}
    assert urls == {
        "image": {"https://images.example.org/x"},
        "identity": {"https://images.example.org/x/identity/v3"},
    }


def test_without_users_there_are_no_identity_calls(tmp_path: Path) -> None:
    made = install(tmp_path)
    for path in ("/identity", "/identity/v3", TOKENS):
        made.client().get(path, status=404)
    assert "auth_url" not in error_of(made.client().get("/v3", status=404))
    made.engine.dispose()


def test_nobody_is_not_logged_in_where_everybody_may_read(
    install_with: Callable[..., Installation], tmp_path: Path
) -> None:
    made = install_with(auth="users", users_file=str(write_users(tmp_path)), anonymous="public")
    made.client().get("/images", status=200)
    for name in ("projects", "catalog", "tokens"):
        answer = made.client().get(f"/identity/v3/auth/{name}", status=401)
        assert "WWW-Authenticate" in answer.headers


def test_a_database_that_is_away_is_503(install_with: Callable[..., Installation], tmp_path: Path) -> None:
    """Who would take it for a wrong token would throw away a good one."""
    away = unreachable_url("sqlite", tmp_path)
    made = install_with(auth="users", users_file=str(write_users(tmp_path)), **{"sqlalchemy.url": away})
    app, secret = made.client(), "pyr_" + "x" * 43
    for headers in ({"X-Auth-Token": secret}, {"Authorization": f"Bearer {secret}"}):
        assert app.get("/images", headers=headers, status=503).headers["Retry-After"]
        app.get("/identity/v3/auth/projects", headers=headers, status=503)
    for identity in (password(), by_token(secret)):
        log_in(app, identity, status=503)
    app.get("/identity/v3", headers={"X-Auth-Token": secret}, status=200)


def test_all_connections_in_use_is_503(install_with: Callable[..., Installation], tmp_path: Path) -> None:
    """Before the application is asked as well as in it."""
    pool = {"sqlalchemy.pool_size": "1", "sqlalchemy.max_overflow": "0", "sqlalchemy.pool_timeout": "0"}
    made = install_with(auth="users", users_file=str(write_users(tmp_path)), **pool)
    secret = api_token(made)[1]
    with made.engine.connect():
        made.client().get("/images", headers={"X-Auth-Token": secret}, status=503)
        made.client().get("/healthcheck", headers={"X-Auth-Token": secret}, status=200)
        log_in(made.client(), by_token(secret), status=503)
    made.client().get("/images", headers={"X-Auth-Token": secret}, status=200)


def test_no_password_or_token_is_logged(
    app: TestApp, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """S46."""
    caplog.set_level(logging.DEBUG)
    token_id, secret = api_token(installation)
    secrets = [secret, secret_of(log_in(app)), secret_of(log_in(app, by_credential(token_id, secret)))]
    log_in(app, password(password="another secret"), status=401)
    log_in(app, by_token(secret[:-1]), status=401)
    app.get(TOKENS, headers={"X-Auth-Token": secret, "X-Subject-Token": secrets[1]})
    app.get("/images", headers={"Authorization": f"Bearer {secret[:-1]}"}, status=401)
    assert caplog.records
    assert [
        each for each in (*secrets, secret[:-1], "another secret", password_of("alice")) if each in caplog.text
    ] == []


def test_a_token_that_only_reads_is_shown_as_a_readers(installation: Installation, app: TestApp) -> None:
    """Another service that asks about it gives it no more rights."""
    secret = api_token(installation, "root", read_only=True)[1]
    shown = app.get(TOKENS, headers={"X-Auth-Token": secret, "X-Subject-Token": secret}).json["token"]
    assert [role["name"] for role in shown["roles"]] == ["reader"]


def test_a_login_and_its_end_are_noted_with_who_it_was(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    made = install(tmp_path, auth="users", users_file=str(write_users(tmp_path)), audit_log=str(path))
    secret = secret_of(log_in(made.client()))
    made.client().delete(TOKENS, headers={"X-Auth-Token": secret, "X-Subject-Token": secret}, status=204)
    log_in(made.client(), by_token(secret), status=401)
    made.registry["pyrimage.audit"].close()
    noted = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["action"], line["user"], line["outcome"]) for line in noted] == [
        ("log in", "alice", "done"),
        ("log out", "alice", "done"),
        ("log in", None, "refused"),
    ]
