"""Who is let into the registry: whoever signs, or, without a secret, callers on this machine."""

import base64
import hashlib
import hmac
import io
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ADMIN, ALICE, CHUNKED, NOBODY, error_of, stored
from pyrimage.catalogue.records import Identity
from pyrimage.identity.signed import (
    DIGEST,
    KEY_ID,
    MAX_SIGNED_BODY,
    PURGE_PROPERTIES,
    SIGNATURE,
    TIMESTAMP,
    WHO,
    digest_of,
    sign,
)
from pyrimage.settings import PREFIX, signing_keys
from registries import SECRET, Registry, signed

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.1"}
CHALLENGE = "PYRIMAGE-HMAC-SHA256"
ADMINISTRATORS_HEADERS = dict(zip(WHO, ("root", "tenant-a", "admin"), strict=True))
OTHER_NAMES = {
    **dict.fromkeys(("X-Identity-Status", "X_Roles", "X-Role", "X-Project-Id", "X-Owner"), "admin"),
    **dict.fromkeys(("X-Is-Admin-Project", "X-Service-Roles", "X-Auth-Token", "Authorization"), "admin"),
}


def refused(registry: Registry, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> str:
    """Send a request that must be 401, and return what it is told."""
    before = stored(registry.installation)
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    answer = app.request(target, method=method, headers=headers, body=body, status=401)
    assert answer.headers["WWW-Authenticate"] == CHALLENGE
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert stored(registry.installation) == before
    return error_of(answer)


# With a secret


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.1"])
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/"), ("GET", "/images/f17"), ("POST", "/images"), ("POST", "/claims/garbage"), ("GET", "/x")],
)
def test_who_does_not_sign_is_refused_from_wherever(method: str, target: str, peer: str, registry: Registry) -> None:
    """S8: identity headers without a signature."""
    app = TestApp(registry.installation.wsgi, extra_environ={"REMOTE_ADDR": peer})
    for headers in ({}, ADMINISTRATORS_HEADERS, {**ADMINISTRATORS_HEADERS, **OTHER_NAMES}):
        answer = app.request(target, method=method, headers=headers, status=401)
        assert "is missing" in error_of(answer)
        assert answer.headers["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_healthcheck_needs_no_signature(method: str, registry: Registry) -> None:
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    assert app.request("/healthcheck", method=method, status=200).body == (b"OK" if method == "GET" else b"")
    app.request("/healthcheck", method="POST", status=401)
    app.request("/healthcheck/", method="GET", status=401)


def test_the_signature_is_that_of_the_documentation(registry: Registry) -> None:
    body = b'{"image": {"name": "f17"}}'
    headers = {
        "X-Pyrimage-Key-Id": "",
        "X-Pyrimage-Timestamp": str(int(time.time())),
        "Content-Type": "application/json",
        "Content-Length": "26",
        "Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:",
        "X-User-Id": "alice",
        "X-Tenant-Id": "tenant-a",
        "X-Roles": "b,member",
        "X-Glance-Registry-Purge-Props": "true",
    }
    lines = ["POST", "/images", "a=%C3%A9&b", *headers.values()]
    signature = hmac.new(SECRET.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    headers["X-Pyrimage-Signature"] = signature
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    made = app.post("/images?a=%C3%A9&b", body, headers=headers, status=200).json["image"]
    assert (made["name"], made["owner"]) == ("f17", "tenant-a")


def test_a_request_is_signed_as_the_documentation_shows(registry: Registry) -> None:
    page = (Path(__file__).parents[2] / "docs/registry-api.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ini = {"pyrimage.registry_secret": SECRET}
    known = {"ini": ini, "time": time, "signing_keys": signing_keys, "digest_of": digest_of, "sign": sign}
    exec(shown, known)  # noqa: S102 - it is ours
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    sent: dict[str, Any] = {"headers": known["headers"], "body": known["body"]}
    assert app.request("/images", method="POST", **sent, status=200).json["image"]["name"] == "f17"


CHANGES: dict[str, Any] = {
    "method": ("PUT", "/images/f17", {}),
    "path": ("POST", "/images/", {}),
    "query": ("POST", "/images?limit=1", {}),
    "user": ("POST", "/images", {"X-User-Id": "root"}),
    "project": ("POST", "/images", {"X-Tenant-Id": "tenant-b"}),
    "roles": ("POST", "/images", {"X-Roles": "admin"}),
    "more roles": ("POST", "/images", {"X-Roles": "admin,member"}),
    "time": ("POST", "/images", {TIMESTAMP: str(int(time.time()) + 5)}),
    "type": ("POST", "/images", {"Content-Type": "application/json"}),
    "digest": ("POST", "/images", {DIGEST: digest_of(b"")}),
    "key": ("POST", "/images", {KEY_ID: "other"}),
    "signature": ("POST", "/images", {SIGNATURE: "0" * 64}),
    "no ASCII": ("POST", "/images", {SIGNATURE: "\u00c3\u00a9" * 32}),
    "no UTF-8": ("POST", "/images", {"X-User-Id": "\u00e9"}),
    "half a signature": ("POST", "/images", {SIGNATURE: ""}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_signature_is_that_of_its_request_alone(change: str, registry: Registry) -> None:
    """S8: identity headers with a wrong signature."""
    method, target, headers = CHANGES[change]
    registry.add(id="f17")
    body = b'{"image": {}}'
    refused(registry, method, target, {**signed(ALICE, "POST", "/images", body), **headers}, body)


def test_a_signature_is_that_of_its_body(registry: Registry) -> None:
    headers = signed(ALICE, "POST", "/images", b'{"image": {"min_ram": 0}}')
    message = refused(registry, "POST", "/images", headers, b'{"image": {"min_ram": 5}}')
    assert message == "Content-Digest is not that of the body, or missing."


def test_what_shall_become_of_properties_is_signed(registry: Registry) -> None:
    """Else whoever stands between could remove them all."""
    path, body = f"/images/{registry.add(properties={'a': '1'})['id']}", b'{"image": {}}'
    refused(registry, "PUT", path, {**signed(ADMIN, "PUT", path, body), PURGE_PROPERTIES: "true"}, body)
    headers = signed(ADMIN, "PUT", path, body, more={PURGE_PROPERTIES: "true"})
    refused(registry, "PUT", path, {**headers, PURGE_PROPERTIES: "false"}, body)
    del headers[PURGE_PROPERTIES]
    refused(registry, "PUT", path, headers, body)


INERT = {
    "Accept": "text/plain",
    "Accept-Language": "de",
    "User-Agent": "python-glanceclient",
    "Cookie": "a=b",
    "If-Match": '"x"',
    "If-None-Match": "*",
    "If-Unmodified-Since": "Thu, 22 Sep 2011 19:57:47 GMT",
    "If-Modified-Since": "Fri, 22 Sep 2045 19:57:47 GMT",
    "Range": "bytes=0-1",
    "If-Range": '"x"',
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "Host": "evil.example",
    "Origin": "https://evil.example",
    "X-HTTP-Method-Override": "DELETE",
    "x-image-meta-name": "x",
    "x-image-meta-property-a": "x",
    "x-glance-api-copy-from": "http://evil.example",
    "X-Openstack-Request-Id": "req-x",
    "Digest": "sha-256=x",
    # Fields that can only have a request refused, such as Content-MD5 and Content-Encoding, need no signature.
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_what_is_not_signed_changes_nothing(method: str, registry: Registry) -> None:
    made = registry.add(id="f17", name="f17", properties={"a": "1"})
    body = b'{"image": {"min_ram": 5}}' if method == "PUT" else b""
    data = {"body": body} if body else {}
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    headers = {**INERT, **signed(ADMIN, method, "/images/f17", body)}
    answer = app.request("/images/f17", method=method, headers=headers, status=200, **data)
    assert answer.content_type == "application/json"
    shown = registry.ask("GET", "/images/f17").json["image"]
    changes: dict[str, dict[str, Any]] = {"PUT": {"min_ram": 5}, "DELETE": {"deleted": True, "status": "deleted"}}
    assert shown == {**made, **changes.get(method, {}), **{name: shown[name] for name in ("updated_at", "deleted_at")}}


def test_another_secret_is_refused(registry: Registry) -> None:
    refused(registry, "GET", "/images", signed(ADMIN, "GET", "/images", secret=SECRET + "?"))


@pytest.mark.parametrize("seconds", [-3600, -62, 62, 3600])
def test_a_request_of_another_time_is_refused(seconds: int, registry: Registry) -> None:
    headers = signed(ADMIN, "GET", "/images", timestamp=int(time.time()) + seconds)
    assert "60 seconds" in refused(registry, "GET", "/images", headers)


@pytest.mark.parametrize("text", ["now", "-1", "1e9", "\u00b2", "9" * 5000, "0x10"])
def test_a_time_that_is_none_is_refused(text: str, registry: Registry) -> None:
    refused(registry, "GET", "/images", signed(ADMIN, "GET", "/images", timestamp=text))


@pytest.mark.parametrize("seconds", [-50, 50])
def test_clocks_may_differ_a_little(seconds: int, registry: Registry) -> None:
    headers = signed(ADMIN, "GET", "/images", timestamp=int(time.time()) + seconds)
    TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE).get("/images", headers=headers, status=200)


@pytest.mark.parametrize(
    ("roles", "is_admin"),
    [("admin", True), ("member,admin", True), ("member, admin ,x", True), ("", False), ("administrator", False)],
)
def test_the_role_admin_makes_an_administrator(roles: str, is_admin: bool, registry: Registry) -> None:
    headers = signed(Identity(user="rose", project="tenant-a", roles=frozenset({roles})), "POST", "/claims/garbage")
    assert headers["X-Roles"] == roles
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    app.post("/claims/garbage", headers=headers, status=200 if is_admin else 403)


def test_a_project_without_ascii_is_itself(registry: Registry) -> None:
    caller = Identity(user="\u00e9mile", project="proj\u00e9t \U0001f600", roles=frozenset({"member"}))
    assert registry.by(caller).add()["owner"] == caller.project


def test_other_identity_headers_have_no_effect_beside_a_signature(registry: Registry) -> None:
    """S8."""
    path = f"/images/{registry.add()['id']}"
    headers = {name: value for name, value in OTHER_NAMES.items() if name != "X_Roles"}  # in WSGI that is X-Roles
    assert error_of(registry.by(ALICE).ask("GET", path, status=404, headers=headers))


def test_a_large_body_is_refused_before_it_is_read(registry: Registry) -> None:
    """S38: what is kept in memory is bounded."""
    body = io.BytesIO(b" " * (MAX_SIGNED_BODY + 1))
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    headers = signed(ADMIN, "POST", "/images", body.getvalue())
    app.request("/images", method="POST", body_file=body, headers=headers, status=413)
    assert body.tell() == 0
    headers = signed(ADMIN, "POST", "/images", body.getvalue(), chunked=True)
    app.request("/images", method="POST", body_file=body, headers=headers, environ=dict(CHUNKED), status=413)
    assert body.tell() == MAX_SIGNED_BODY + 1


def test_a_chunked_body_is_signed_as_any_other(registry: Registry) -> None:
    body = json.dumps({"image": {"name": "f17"}}).encode()
    app = TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)
    sent = {"body_file": io.BytesIO(body), "headers": signed(ALICE, "POST", "/images", body, chunked=True)}
    assert app.request("/images", method="POST", environ=dict(CHUNKED), **sent).json["image"]["name"] == "f17"


def test_where_the_server_tells_how_the_path_was_sent_that_is_signed(registry: Registry) -> None:
    registry.add(id="f17")
    for uri in ("/images/%66%31%37?x=1", "http://registry.example:9191/images/f17?x=1"):
        path = "/images/%66%31%37" if "%" in uri else "/images/f17"
        headers = signed(ADMIN, "GET", f"{path}?x=1")
        environ = {**ELSEWHERE, "REQUEST_URI": uri}
        TestApp(registry.installation.wsgi, extra_environ=environ).get("/images/f17?x=1", headers=headers, status=200)


def test_the_secret_stands_in_no_log_answer_or_text(
    registry: Registry, install_with: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """S42, S44: whatever is refused, with the log at DEBUG."""
    caplog.set_level(logging.DEBUG)
    made = install_with(application="registry", registry_secret=SECRET)
    told = [repr(made.settings), str(made.settings)]
    app = TestApp(made.wsgi, extra_environ=ELSEWHERE)
    asked = Registry(made, ADMIN)
    told += [str(asked.ask(method, target, b"x", "*")) for method in ("GET", "POST") for target in ("/", "/images")]
    told += [
        str(app.request("/images", method=method, headers=ADMINISTRATORS_HEADERS, status="*"))
        for method in ("GET", "PUT")
    ]
    told.append(str(app.get("/images", headers=signed(ADMIN, "GET", "/images", secret="x" * 16), status=401)))
    told.append(str(asked.upload()))
    signature = signed(ADMIN, "GET", "/images", timestamp=int(time.time()))[SIGNATURE]
    assert caplog.text
    assert [text for text in (*told, caplog.text) if SECRET in text or signature in text] == []


# Without


@pytest.fixture
def local(install_with: Install) -> "Installation":
    """A registry without a secret, under settings that open the API to everybody."""
    return install_with(application="registry", allow_anonymous="true")


def test_without_a_secret_this_machine_is_served_as_an_administrator(local: "Installation") -> None:
    made = local.client().post_json("/images", {"image": {"owner": "tenant-x"}}).json["image"]
    assert made["owner"] == "tenant-x"


@pytest.mark.parametrize(
    "environ",
    [ELSEWHERE, {"HTTP_HOST": "evil.example"}, {"pyrimage.forwarded": True}, {"HTTP_ORIGIN": "https://evil.example"}],
)
def test_without_a_secret_others_are_refused_whatever_the_api_does(
    environ: dict[str, Any], local: "Installation"
) -> None:
    """S8: and a signature is nothing then."""
    headers = {**ADMINISTRATORS_HEADERS, **signed(ADMIN, "GET", "/images")}
    message = error_of(local.client(**environ).get("/images", headers=headers, status=403))
    assert f"{PREFIX}registry_secret" in message
    local.client(**environ).get("/healthcheck", status=200)


def test_without_a_secret_identity_headers_have_no_effect(local: "Installation") -> None:
    """S8: whoever comes from this machine is an administrator, as whom nobody can be less either."""
    headers = {
        **dict(zip(WHO, ("bob", "tenant-b", "member"), strict=True)),
        **OTHER_NAMES,
        **signed(NOBODY, "GET", "/"),
    }
    assert (
        local.client().post_json("/images", {"image": {}}, headers=headers, status=200).json["image"]["owner"] is None
    )
    local.client().post_json("/claims/garbage", {}, headers=headers, status=200)
