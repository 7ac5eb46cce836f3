"""Who is let into the registry: whoever signs with one of its keys, or, without a secret, callers on this machine.

What is read of a request before it is known who sends it: unit/test_signing.py.
"""

import base64
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ADMIN, ALICE, error_of, stored
from pyrimage.catalogue.records import Identity
from pyrimage.readers import signing_keys
from pyrimage.settings import PREFIX
from pyrimage.signatures import (
    KEY_ID,
    PURGE_PROPERTIES,
    SIGNATURE,
    WHO,
    digest_of,
    sign,
)
from pyrimage.stores import load_settings
from registries import SECRET, Registry, signed

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.1"}
ADMINISTRATORS_HEADERS = dict(zip(WHO, ("root", "tenant-a", "admin"), strict=True))
OTHER_NAMES = dict.fromkeys(
    (
        *("X-Identity-Status", "X-Role", "X-Project-Id", "X-Owner", "X-Is-Admin-Project", "X-Service-Roles"),
        *("X-Auth-Token", "Authorization"),
    ),
    "admin",
)


def client(registry: Registry) -> TestApp:
    """Return a client that does not sign by itself, on another machine."""
    return TestApp(registry.installation.wsgi, extra_environ=ELSEWHERE)


def refused(registry: Registry, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> str:
    """Send a request that must be 401, and return what it is told."""
    before = stored(registry.installation)
    answer = client(registry).request(target, method=method, headers=headers, body=body, status=401)
    assert answer.headers["WWW-Authenticate"] == "PYRIMAGE-HMAC-SHA256"
    assert stored(registry.installation) == before
    return error_of(answer)


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/"), ("GET", "/images/f17"), ("POST", "/images"), ("POST", "/claims/garbage"), ("GET", "/x")],
)
def test_who_does_not_sign_is_refused_from_wherever(method: str, target: str, registry: Registry) -> None:
    """S8: identity headers without a signature."""
    for headers in ({}, ADMINISTRATORS_HEADERS, {**ADMINISTRATORS_HEADERS, **OTHER_NAMES, "X_Roles": "admin"}):
        assert "is missing" in refused(registry, method, target, headers)
        registry.installation.client().request(target, method=method, headers=headers, status=401)


def test_the_healthcheck_needs_no_signature(registry: Registry) -> None:
    app = client(registry)
    assert (app.get("/healthcheck").body, app.head("/healthcheck").body) == (b"OK", b"")
    app.post("/healthcheck", status=401)
    app.get("/healthcheck/", status=401)


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
        "Idempotency-Key": "",
    }
    lines = ["POST", "/images", "a=%C3%A9&b", *headers.values()]
    headers["X-Pyrimage-Signature"] = hmac.new(SECRET.encode(), "\n".join(lines).encode(), "sha256").hexdigest()
    made = client(registry).post("/images?a=%C3%A9&b", body, headers=headers, status=200).json["image"]
    assert (made["name"], made["owner"]) == ("f17", "tenant-a")


def test_a_request_is_signed_as_the_documentation_shows(registry: Registry) -> None:
    page = (Path(__file__).parents[2] / "docs/registry-api.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ini = {"pyrimage.auth": "none", "pyrimage.filesystem_store_datadir": "/srv", "pyrimage.registry_secret": SECRET}
    known = {"ini": ini, "time": time, "signing_keys": signing_keys, "digest_of": digest_of, "sign": sign}
    exec(shown, known)  # noqa: S102 - it is ours
    sent: dict[str, Any] = {"headers": known["headers"], "body": known["body"]}
    assert client(registry).request("/images", method="POST", **sent, status=200).json["image"]["name"] == "f17"


# What differs in a request from the one that was signed.


def test_a_signature_is_that_of_its_body_secret_and_properties(registry: Registry) -> None:
    """Else whoever stands between could change them, or remove all properties."""
    path, body = f"/images/{registry.add(properties={'a': '1'})['id']}", b'{"image": {"min_ram": 0}}'
    headers = signed(ADMIN, "PUT", path, body, more={PURGE_PROPERTIES: "true"})
    told = refused(registry, "PUT", path, headers, b'{"image": {"min_ram": 5}}')
    assert told == "Content-Digest is not that of the body, or missing."
    refused(registry, "PUT", path, {**headers, PURGE_PROPERTIES: "false"}, body)
    refused(registry, "PUT", path, signed(ADMIN, "PUT", path, body, secret=SECRET + "?"), body)
    client(registry).request(path, method="PUT", body=body, headers=headers, status=200)


INERT = {
    "Accept": "text/plain",
    "User-Agent": "python-glanceclient",
    "Cookie": "a=b",
    "If-Match": '"x"',
    "If-None-Match": "*",
    "If-Unmodified-Since": "Thu, 22 Sep 2011 19:57:47 GMT",
    "If-Modified-Since": "Fri, 22 Sep 2045 19:57:47 GMT",
    "Range": "bytes=0-1",
    "X-Forwarded-For": "127.0.0.1",
    "Host": "evil.example",
    "Origin": "https://evil.example",
    "X-HTTP-Method-Override": "DELETE",
    "x-image-meta-name": "x",
    "x-image-meta-property-a": "x",
    "x-glance-api-copy-from": "http://evil.example",
    "X-Openstack-Request-Id": "req-x",
    **OTHER_NAMES,
    # Fields that can only have a request refused, such as Content-MD5 and Content-Encoding, need no signature.
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_what_is_not_signed_changes_nothing(method: str, registry: Registry) -> None:
    """S8: other identity headers beside a signature."""
    made = registry.add(id="f17", name="f17", properties={"a": "1"})
    body = b'{"image": {"min_ram": 5}}' if method == "PUT" else b""
    data = {"body": body} if body else {}
    stranger = {**INERT, **signed(ALICE, method, "/images/f17", body)}
    client(registry).request("/images/f17", method=method, headers=stranger, status=404, **data)
    headers = {**INERT, **signed(ADMIN, method, "/images/f17", body)}
    answer = client(registry).request("/images/f17", method=method, headers=headers, status=200, **data)
    assert answer.content_type == "application/json"
    shown = registry.ask("GET", "/images/f17").json["image"]
    changes: dict[str, dict[str, Any]] = {"PUT": {"min_ram": 5}, "DELETE": {"deleted": True, "status": "deleted"}}
    assert shown == {**made, **changes.get(method, {}), **{name: shown[name] for name in ("updated_at", "deleted_at")}}


def test_a_request_is_of_this_minute(registry: Registry) -> None:
    def after(seconds: int) -> int:
        return int(time.time()) + seconds

    def check(moment: int | str) -> None:
        headers = signed(ADMIN, "GET", "/images", timestamp=moment)
        assert "60 seconds" in refused(registry, "GET", "/images", headers)

    for seconds in (-3600, -62, 62, 3600):
        check(after(seconds))
    for text in ("now", "-1", "1e9", "\u00b2", "9" * 5000, "0x10"):
        check(text)
    for seconds in (-50, 50):
        client(registry).get("/images", headers=signed(ADMIN, "GET", "/images", timestamp=after(seconds)), status=200)


def test_whom_the_signed_headers_name_is_asking(registry: Registry) -> None:
    roles = {"admin": 200, "member,admin": 200, "member, admin ,x": 200, "": 403, "administrator": 403}
    for said, status in roles.items():
        rose = Identity(user="rose", project="tenant-a", roles=frozenset({said}))
        headers = signed(rose, "POST", "/claims/garbage")
        assert headers["X-Roles"] == said
        client(registry).post("/claims/garbage", headers=headers, status=status)
    caller = Identity(user="\u00e9mile", project="proj\u00e9t \U0001f600", roles=frozenset({"member"}))
    assert registry.by(caller).add()["owner"] == caller.project


def test_where_the_server_tells_how_the_path_was_sent_that_is_signed(registry: Registry) -> None:
    registry.add(id="f17")
    for uri in ("/images/%66%31%37?x=1", "http://registry.example:9191/images/f17?x=1"):
        path = "/images/%66%31%37" if "%" in uri else "/images/f17"
        headers = signed(ADMIN, "GET", f"{path}?x=1")
        client(registry).get("/images/f17?x=1", headers=headers, extra_environ={"REQUEST_URI": uri}, status=200)


def test_the_secret_stands_in_no_log_answer_or_text(install_with: Install, caplog: pytest.LogCaptureFixture) -> None:
    """S42, S44: whatever is refused, with the log at DEBUG."""
    caplog.set_level(logging.DEBUG)
    registry = Registry(install_with(application="registry", registry_secret=SECRET), ADMIN)
    told = [repr(registry.installation.settings), str(registry.installation.settings), str(registry.upload())]
    for method, target in (("GET", "/"), ("POST", "/"), ("GET", "/images"), ("POST", "/images")):
        told.append(str(registry.ask(method, target, b"x", "*")))
        wrong = signed(ADMIN, method, target, secret="x" * 16)
        told += [refused(registry, method, target, headers) for headers in (ADMINISTRATORS_HEADERS, wrong)]
    signature = signed(ADMIN, "GET", "/images", timestamp=int(time.time()))[SIGNATURE]
    assert caplog.text
    assert [text for text in (*told, caplog.text) if SECRET in text or signature in text] == []


# Keys, which are changed without a gap

INI = {f"{PREFIX}auth": "none", f"{PREFIX}filesystem_store_datadir": "/srv/images"}
OLD, NEW = "the secret of yesterday", "the secret of tomorrow"
STEPS = {  # how the documentation changes a secret
    "without ids": OLD,
    "both, the old signs": f"old:{OLD}, new:{NEW}",
    "both, the new signs": f"new:{NEW}, old:{OLD}",
    "changed": f"new:{NEW}",
}
BOTH = {"both, the old signs", "both, the new signs"}
ACCEPTED = {  # by a registry at the one step, from servers at these
    "without ids": {"without ids"},
    "both, the old signs": {"without ids", *BOTH, "changed"},
    "both, the new signs": {*BOTH, "changed"},
    "changed": {"both, the new signs", "changed"},
}


def signed_at(step: str) -> dict[str, str]:
    """Sign a request as a server with the settings of this step does."""
    [key, *_] = load_settings({**INI, f"{PREFIX}registry_secret": STEPS[step]}).registry_secret or ()
    return signed(ADMIN, "GET", "/images", secret=key.secret, key=key.id)


@pytest.mark.parametrize("step", STEPS)
def test_a_secret_is_changed_step_by_step_while_all_are_served(step: str, install_with: Install) -> None:
    app = TestApp(install_with(application="registry", registry_secret=STEPS[step]).wsgi)
    answers = {each: app.get("/images", headers=signed_at(each), status=[200, 401]) for each in STEPS}
    assert {each for each, answer in answers.items() if answer.status_int == 200} == ACCEPTED[step]


def test_a_key_is_that_of_its_id_and_without_one_the_first(install_with: Install) -> None:
    app = TestApp(install_with(application="registry", registry_secret=STEPS["both, the new signs"]).wsgi)
    for key in (None, ""):
        app.get("/images", headers=signed(ADMIN, "GET", "/images", secret=NEW, key=key), status=200)
        app.get("/images", headers=signed(ADMIN, "GET", "/images", secret=OLD, key=key), status=401)
    for other in ("new", "OLD", "other"):
        answer = app.get("/images", headers=signed(ADMIN, "GET", "/images", secret=OLD, key=other), status=401)
    assert error_of(answer) == f"{KEY_ID} names no key of pyrimage.registry_secret here."


# Without a secret


@pytest.fixture
def local(install_with: Install) -> "Installation":
    """A registry without a secret, under settings that open the API to everybody."""
    return install_with(application="registry", allow_anonymous="true")


@pytest.mark.parametrize(
    "environ",
    [ELSEWHERE, {"HTTP_HOST": "evil.example"}, {"pyrimage.forwarded": True}, {"HTTP_ORIGIN": "https://evil.example"}],
)
def test_without_a_secret_others_are_refused_whatever_the_api_does(
    environ: dict[str, Any], local: "Installation"
) -> None:
    """S8."""
    message = error_of(local.client(**environ).get("/images", headers=ADMINISTRATORS_HEADERS, status=403))
    assert f"{PREFIX}registry_secret" in message
    local.client(**environ).get("/healthcheck", status=200)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1"])
def test_without_a_secret_who_signs_is_refused(address: str, local: "Installation") -> None:
    """S7: an API server whose callers would all be administrators here notices it."""
    client = local.client(REMOTE_ADDR=address)
    answer = client.get("/images", headers=signed(ALICE, "GET", "/images"), status=401)
    assert "The registry has no pyrimage.registry_secret" in error_of(answer)
    client.get("/healthcheck", headers=signed(ALICE, "GET", "/healthcheck"), status=200)


def test_without_a_secret_whoever_is_here_is_an_administrator(local: "Installation") -> None:
    """S8: identity headers have no effect, so nobody can be less either."""
    headers = {**dict(zip(WHO, ("bob", "tenant-b", "member"), strict=True)), **OTHER_NAMES}
    for owner in ("tenant-x", None):
        made = local.client().post_json("/images", {"image": {"owner": owner}}, headers=headers).json["image"]
        assert made["owner"] == owner
    local.client().post_json("/claims/garbage", {}, headers=headers, status=200)
