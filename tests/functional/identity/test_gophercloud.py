"""The requests of gophercloud, on which Terraform, Packer and much that is written in Go stand, and what it reads.

Recorded from its code at commit 95eea8e5ed9839839d38f189b4e4e39a55de2828 (21 August 2026, after v2.0.0), in the order
in which it sends them: ``openstack/client.go`` (Authenticate, v3auth), ``openstack/utils/choose_version.go``,
``auth_options.go`` (ToTokenV3CreateMap, ToTokenV3ScopeMap), ``openstack/identity/v3/tokens/requests.go`` and
``results.go``, ``openstack/endpoint_location.go`` (V3EndpointURL).
"""

from datetime import datetime
from typing import Any

import pytest
from webtest import TestApp

from accounts import password_of
from conftest import Installation
from identity_calls import URL, api_token

SENT = {"Accept": "application/json", "User-Agent": "gophercloud/v2.0.0"}

# What a program says, and the body that ToTokenV3CreateMap makes of it; {id} and {secret} are those of an API token.
USER = {"name": "alice", "password": password_of("alice")}
BODIES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "username, domain id, no project": (
        {"methods": ["password"], "password": {"user": {**USER, "domain": {"id": "default"}}}},
        None,
    ),
    "username, domain name, project name": (
        {"methods": ["password"], "password": {"user": {**USER, "domain": {"name": "Default"}}}},
        {"project": {"name": "tenant-a", "domain": {"name": "Default"}}},
    ),
    "username, domain id, project name": (
        {"methods": ["password"], "password": {"user": {**USER, "domain": {"id": "default"}}}},
        {"project": {"name": "tenant-a", "domain": {"id": "default"}}},
    ),
    "user id, project id": (
        {"methods": ["password"], "password": {"user": {"id": "alice", "password": password_of("alice")}}},
        {"project": {"id": "tenant-a"}},
    ),
    "application credential id": (
        {"methods": ["application_credential"], "application_credential": {"id": "{id}", "secret": "{secret}"}},
        None,
    ),
    "token, project id": ({"methods": ["token"], "token": {"id": "{secret}"}}, {"project": {"id": "tenant-a"}}),
}


def choose_version(app: TestApp, auth_url: str) -> str:
    """Find the endpoint as ChooseVersion does: by the end of the URL, or among the versions at the URL without one."""
    endpoint = auth_url.rstrip("/") + "/"
    if endpoint.endswith("/v3/"):
        return endpoint
    listed = app.get(endpoint, headers=SENT)
    assert listed.status_int in (200, 300)
    found = [
        link["href"].rstrip("/") + "/"
        for version in listed.json["versions"]["values"]
        for link in version["links"]
        if link["rel"] == "self" and "v3" in version["id"] and version["status"] in ("current", "supported", "stable")
    ]
    return found[0]


def read_token(answer: Any) -> tuple[str, str]:
    """Read what Extract, ExtractServiceCatalog and V3EndpointURL do; return the token, and where images are."""
    token = answer.json["token"]
    assert datetime.fromisoformat(token["expires_at"]).tzinfo is not None  # RFC 3339, as Go's time.Time wants it
    for kind in ("user", "project"):
        assert token[kind]["id"] == token[kind]["name"]
        assert token[kind]["domain"] == {"id": "default", "name": "Default"}
    assert all(role["id"] and role["name"] for role in token["roles"])
    endpoints = [
        endpoint["url"]
        for entry in token["catalog"]
        for endpoint in entry["endpoints"]
        if entry["type"] == "image" and endpoint["interface"] == "public" and endpoint["region"] == "RegionOne"
    ]
    return answer.headers["X-Subject-Token"], endpoints[0].rstrip("/") + "/"


def filled(value: Any, **words: str) -> Any:
    """Fill in the API token."""
    if isinstance(value, dict):
        return {key: filled(each, **words) for key, each in value.items()}
    return value.format(**words) if isinstance(value, str) else value


@pytest.mark.parametrize(
    "auth_url", [f"{URL}/identity/v3", f"{URL}/identity/v3/", f"{URL}/identity", f"{URL}/identity/"]
)
@pytest.mark.parametrize("options", BODIES)
def test_a_login_finds_the_images(installation: Installation, app: TestApp, options: str, auth_url: str) -> None:
    token_id, secret = api_token(installation, project="tenant-a")
    endpoint = choose_version(app, auth_url)
    assert endpoint == f"{URL}/identity/v3/"
    identity, scope = filled(BODIES[options][0], id=token_id, secret=secret), BODIES[options][1]
    body = {"auth": {"identity": identity, **({} if scope is None else {"scope": scope})}}
    answer = app.post_json(f"{endpoint}auth/tokens", body, headers=SENT)
    assert answer.status_int in (201, 202)
    token, images = read_token(answer)
    assert answer.json["token"]["project"]["id"] == "tenant-a"
    versions = app.get(images, headers={**SENT, "X-Auth-Token": token})  # GetServiceVersions
    assert versions.status_int in (200, 300)
    assert all(version["id"] and version["status"] for version in versions.json["versions"])
    app.get(f"{images}v1/images", headers={**SENT, "X-Auth-Token": token}, status=200)


def test_a_token_that_is_given_is_asked_about_and_used(installation: Installation, app: TestApp) -> None:
    """Without a scope, v3auth passes it through."""
    _, secret = api_token(installation)
    headers = {**SENT, "X-Auth-Token": secret, "X-Subject-Token": secret}
    answer = app.get(f"{URL}/identity/v3/auth/tokens", headers=headers)
    assert answer.status_int in (200, 203)
    assert read_token(answer) == (secret, f"{URL}/")
    assert app.delete(f"{URL}/identity/v3/auth/tokens", headers=headers, status="*").status_int in (200, 204)


def test_a_login_that_fails_is_one_that_it_makes_anew(app: TestApp) -> None:
    """On 401, and on nothing else, it logs in once more."""
    app.get(f"{URL}/v1/images", headers={**SENT, "X-Auth-Token": "pyr_" + "x" * 43}, status=401)
