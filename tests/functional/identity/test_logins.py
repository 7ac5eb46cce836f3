"""Logging in at ``/identity/v3/auth/tokens``: who gets a token, and what for."""

import io
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from accounts import password_of
from conftest import Installation
from factories import data_headers, error_of, stored
from identity_calls import (
    DOMAIN,
    TOKENS,
    URL,
    addresses,
    api_token,
    by_credential,
    by_token,
    log_in,
    password,
    project,
    secret_of,
)
from pyrimage.catalogue.records import utcnow
from pyrimage.environ import CHUNKED


def test_what_a_login_answers(app: TestApp) -> None:
    answer = log_in(app, scope=project("tenant-b"))
    token = answer.json["token"]
    issued, expires = (datetime.fromisoformat(token.pop(name)) for name in ("issued_at", "expires_at"))
    assert expires - issued == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=9))
    assert abs(issued.replace(tzinfo=None) - utcnow()) < timedelta(minutes=1)
    places = {"region": "RegionOne", "region_id": "RegionOne"}
    assert token.pop("catalog") == [
        {
            "id": kind,
            "type": kind,
            "name": "pyrimage",
            "endpoints": [
                {"id": f"{kind}-{interface}", "interface": interface, "url": url, **places}
                for interface in ("public", "internal", "admin")
            ],
        }
        for kind, url in (("image", URL), ("identity", f"{URL}/identity/v3"))
    ]
    assert len(token.pop("audit_ids")) == 1
    domain = {"id": "default", "name": "Default"}
    assert token == {
        "methods": ["password"],
        "user": {"domain": domain, "id": "alice", "name": "alice", "password_expires_at": None},
        "project": {"domain": domain, "id": "tenant-b", "name": "tenant-b"},
        "is_domain": False,
        "roles": [{"id": "reader", "name": "reader"}],
    }
    assert secret_of(answer).startswith("pyr_")
    assert answer.headers["Vary"] == "X-Auth-Token"


@pytest.mark.parametrize(
    ("identity", "scope", "expected"),
    [
        (password(), None, "tenant-a"),
        (password(), "unscoped", "tenant-a"),
        (password(), project("tenant-b"), "tenant-b"),
        (password(), {"project": {"id": "tenant-b"}}, "tenant-b"),
        (password(), {"project": {"id": "tenant-b", "name": "tenant-b"}}, "tenant-b"),
        (password(name="", id="alice", password=password_of("alice")), None, "tenant-a"),
        (
            password(domain={"name": "Default"}),
            {"project": {"name": "tenant-a", "domain": {"name": "default"}}},
            "tenant-a",
        ),
        (password(domain=None), {"project": {"name": "tenant-a"}}, "tenant-a"),
        ({**password(), "token": {"id": 5}}, None, "tenant-a"),  # of another method, which is not meant
    ],
)
def test_who_and_what_for_are_named_in_many_ways(app: TestApp, identity: Any, scope: Any, expected: str) -> None:
    token = log_in(app, identity, scope).json["token"]
    assert (token["user"]["id"], token["project"]["id"]) == ("alice", expected)


@pytest.mark.parametrize("header", ["X-Auth-Token", "Authorization"])
def test_the_token_is_the_user_in_the_project(app: TestApp, header: str) -> None:
    secret = secret_of(log_in(app, password("bob")))
    sent = {header: secret if header == "X-Auth-Token" else f"Bearer {secret}"}
    image = app.post("/images", b"bytes", headers={**data_headers(name="x"), **sent}, status=201).json["image"]
    assert image["owner"] == "tenant-b"
    other = {"X-Auth-Token": secret_of(log_in(app, password("alice")))}
    app.get(f"/images/{image['id']}", headers=other, status=404)


def test_a_token_is_made_from_a_token(app: TestApp) -> None:
    first = log_in(app)
    answer = log_in(app, by_token(secret_of(first)), project("tenant-b"))
    token = answer.json["token"]
    assert (token["methods"], token["project"]["id"]) == (["token"], "tenant-b")
    assert token["audit_ids"][1:] == first.json["token"]["audit_ids"]
    assert token["expires_at"] == first.json["token"]["expires_at"]
    again = log_in(app, by_token(secret_of(answer)))
    assert again.json["token"]["project"]["id"] == "tenant-b"
    log_in(app, by_token(secret_of(answer)), project("tenant-a"), 401)


@pytest.mark.parametrize("read_only", [False, True])
def test_an_api_token_is_an_application_credential(installation: Installation, app: TestApp, read_only: bool) -> None:
    token_id, secret = api_token(installation, project="tenant-a", read_only=read_only)
    for scope in (None, project("tenant-a")):
        answer = log_in(app, by_credential(token_id, secret), scope)
        token = answer.json["token"]
        assert (token["methods"], token["project"]["id"]) == (["application_credential"], "tenant-a")
        headers = {**data_headers(name="x"), "X-Auth-Token": secret_of(answer)}
        app.post("/images", b"bytes", headers=headers, status=403 if read_only else 201)
    log_in(app, by_credential(token_id, secret), project("tenant-b"), 401)
    log_in(app, by_token(secret), project("tenant-b"), 401)
    assert log_in(app, by_token(secret)).json["token"]["project"]["id"] == "tenant-a"


def test_a_login_with_an_api_token_ends_with_it(installation: Installation, app: TestApp) -> None:
    soon = utcnow() + timedelta(minutes=5)
    token_id, secret = api_token(installation, expires_at=soon)
    answer = log_in(app, by_credential(token_id, secret))
    assert answer.json["token"]["expires_at"] == f"{soon.isoformat()}Z"
    installation.catalogue.tokens.revoke(token_id)
    app.get("/images", headers={"X-Auth-Token": secret_of(answer)}, status=401)
    log_in(app, by_token(secret_of(answer)), status=401)


@pytest.mark.parametrize(
    ("identity", "scope"),
    [
        (password(password="wrong one"), None),
        (password("nobody"), None),
        (password(domain={"id": "other"}), None),
        (password(domain={"name": "Other"}), None),
        (password(), project("tenant-c")),
        (password(), project("")),
        (password(), {"project": {"name": "tenant-a", "domain": {"id": "other"}}}),
        (password(), {"domain": DOMAIN}),
        (password(), {"system": {"all": True}}),
        (password(), {"OS-TRUST:trust": {"id": "x"}}),
        (password(), {}),
        (by_token("pyr_" + "x" * 43), None),
        (by_token("x"), None),
        (by_credential("x", "pyr_" + "x" * 43), None),
    ],
)
def test_a_login_that_is_wrong_is_401_and_writes_nothing(
    installation: Installation, app: TestApp, identity: Any, scope: Any
) -> None:
    """S41."""
    before = stored(installation)
    answer = log_in(app, identity, scope, 401)
    assert error_of(answer)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert stored(installation) == before


def test_the_id_of_an_application_credential_is_that_of_its_token(installation: Installation, app: TestApp) -> None:
    (first, _), (_, secret) = api_token(installation), api_token(installation)
    log_in(app, by_credential(first, secret), status=401)


def test_wrong_passwords_are_slowed_down_here_too(app: TestApp) -> None:
    statuses = [log_in(app, password(password=f"wrong {n}"), status="*").status_int for n in range(11)]
    assert statuses == [401] * 10 + [429]
    assert int(log_in(app, password(password="wrong"), status=429).headers["Retry-After"]) > 0


NESTED = "[" * 8_000
HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff",
    NESTED.encode(),
    b'{"auth": ' + NESTED.encode(),
    b'{"auth": ' + b"9" * 5000 + b"}",
]
NO_LOGINS: list[Any] = [
    None,
    [],
    {},
    {"identity": None},
    {"identity": []},
    {"identity": {}},
    {"identity": {"methods": "password"}},
    {"identity": {"methods": []}},
    {"identity": {"methods": [None]}},
    {"identity": {"methods": [["password"]]}},
    {"identity": {"methods": ["password"]}},
    {"identity": {"methods": ["totp"], "totp": {"user": {"name": "alice"}}}},
    {"identity": {**password(), "methods": ["password", "token"], "token": {"id": "x"}}},
    {"identity": {**password(), "methods": ["password", "password"]}},
    {"identity": {"methods": ["password"], "password": []}},
    {"identity": {"methods": ["password"], "password": {"user": 5}}},
    {"identity": password(name="", id="")},
    {"identity": password(name=5)},
    {"identity": password(password=5)},
    {"identity": password(password=None)},
    {"identity": password(domain="default")},
    {"identity": password(domain={"id": 5})},
    {"identity": password(id="bob")},
    {"identity": {"methods": ["token"], "token": {"id": 5}}},
    {"identity": {"methods": ["token"], "token": "x"}},
    {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "x"}}},
    {"identity": {"methods": ["application_credential"], "application_credential": {"id": "x"}}},
    {"identity": password(), "scope": 5},
    {"identity": password(), "scope": []},
    {"identity": password(), "scope": "scoped"},
    {"identity": password(), "scope": None},
    {"identity": password(), "scope": {"project": None}},
    {"identity": password(), "scope": {"project": {}}},
    {"identity": password(), "scope": {"project": {"id": 5}}},
    {"identity": password(), "scope": {"project": {"id": "tenant-a", "name": "tenant-b"}}},
]
HOSTILE += [json.dumps({"auth": auth}).encode() for auth in NO_LOGINS]


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: body[:60].decode(errors="replace"))
def test_a_body_that_is_no_login_is_400(installation: Installation, app: TestApp, body: bytes) -> None:
    before = stored(installation)
    assert error_of(app.post(TOKENS, body, content_type="application/json", status=400))
    assert stored(installation) == before


def test_a_body_is_bounded(app: TestApp) -> None:
    padded = json.dumps({"auth": {"identity": password(), "more": ""}}).encode()
    log = {"content_type": "application/json"}
    app.post(TOKENS, padded.replace(b'""', b'"' + b"x" * (2**14 - len(padded)) + b'"'), status=201, **log)
    answer = app.post(TOKENS, padded.replace(b'""', b'"' + b"x" * (2**14 - len(padded) + 1) + b'"'), status=413, **log)
    assert "16384" in error_of(answer)


words = st.sampled_from(["password", "token", "application_credential", "alice", "default", "tenant-a", "\ud800", "\0"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
nodes = st.fixed_dictionaries(
    {},
    optional={
        "methods": st.lists(words, max_size=2) | values,
        "password": st.fixed_dictionaries(
            {"user": values | st.fixed_dictionaries({"name": values, "password": values})}
        ),
        "token": st.fixed_dictionaries({"id": values}),
        "application_credential": st.fixed_dictionaries({"id": values, "secret": values}),
    },
)


def test_no_json_is_an_error_of_the_server(installation: Installation) -> None:
    @given(st.fixed_dictionaries({}, optional={"identity": nodes | values, "scope": values}))
    def refused(auth: Any) -> None:
        client = installation.client(REMOTE_ADDR=next(addresses))
        answer = client.post_json(TOKENS, {"auth": auth}, status="*")
        assert answer.status_int in (400, 401)
        assert error_of(answer)

    refused()


def test_a_login_in_chunks_is_refused_before_it_is_read(app: TestApp) -> None:
    """S40: it would hold a thread of uploads for as long as somebody likes who has not logged in."""
    sent = {"wsgi.input": Unread(), CHUNKED: True, "wsgi.input_terminated": True}
    answer = app.post(TOKENS, headers={"Content-Type": "application/json"}, extra_environ=sent, status=400)
    assert "Content-Length" in error_of(answer)


def test_a_web_page_of_another_site_cannot_use_up_the_logins_of_who_looks_at_it(app: TestApp) -> None:
    sent = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
    assert "web page" in error_of(app.post(TOKENS, params=b"{}", headers=sent, status=403))


class Unread(io.BytesIO):
    """A body of which nothing may be read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("it is read")
