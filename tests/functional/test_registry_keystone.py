"""``pyrimage.registry_auth = keystone``: the registry answers tokens, and beside them requests that are signed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import origins
from conftest import Installation, install
from factories import ADMIN, error_of
from glance_servers import GlanceServer
from keystones import PROJECT, Keystone
from registries import SECRET, Registry

Install = Callable[..., Installation]
URL = "file:///var/lib/glance/images/f17"
ELSEWHERE = "192.0.2.1"
CHALLENGE = 'Keystone uri="https://keystone.example.org/v3"'


@pytest.fixture(scope="module")
def origin() -> Iterator[origins.Origin]:
    with origins.serving() as made:
        yield made


@pytest.fixture
def keystone(origin: origins.Origin) -> Keystone:
    return Keystone(origin)


@pytest.fixture
def install_registry(install_keystone: Install, keystone: Keystone) -> Install:
    def make(**more: str) -> Installation:
        return install_keystone(keystone, application="registry", registry_auth="keystone", **more)

    return make


def server(registry: Installation, token: str) -> GlanceServer:
    return GlanceServer(registry, ELSEWHERE, {"X-Auth-Token": token})


def test_an_administrators_token_uploads_from_another_machine(install_registry: Install, keystone: Keystone) -> None:
    glance = server(install_registry(), keystone.issue("admin"))
    made = glance.add({"name": "f17", "status": "queued"})
    assert made["owner"] == PROJECT
    glance.update(made["id"], {"status": "saving"})
    glance.update(made["id"], {"size": 5, "checksum": "5" * 32}, "saving")
    assert glance.activate(made["id"], URL, "saving")["location"] == URL


def test_a_users_token_gives_no_more_rights_than_the_api(install_registry: Install, keystone: Keystone) -> None:
    """S2, S7, S11."""
    registry = install_registry()
    admin, user = server(registry, keystone.issue("admin")), server(registry, keystone.issue("member"))
    private = admin.add({"owner": "tenant-x", "location": URL, "size": 5})
    user.ask("GET", f"/images/{private['id']}", status=404)
    told = {"owner": "tenant-x", "created_at": "2011-09-22", "deleted": True, "status": "active", "location": URL}
    made = user.add(told)
    assert (made["owner"], made["status"], made["deleted"], made["location"]) == (PROJECT, "queued", False, None)
    assert not made["created_at"].startswith("2011")
    for word in ("saving", "active", "killed", "pending_delete", "deleted"):
        user.update(made["id"], {"status": word, "location": URL}, status=403)
    shown = admin.activate(made["id"], URL)
    assert user.find(made["id"]) == shown  # with its location, as in Glance
    reader = server(registry, keystone.issue("reader"))
    assert reader.find(made["id"]) == shown
    reader.add({}, status=403)
    for path in ("/claims/garbage", "/claims/expired"):
        user.ask("POST", path, {"grace": 0}, status=403)


def test_a_request_of_somebody_else_is_no_repetition(install_registry: Install, keystone: Keystone) -> None:
    """S7: not even if it has the same words, key and all."""
    registry = install_registry()
    others = keystone.issue("member", project={"id": "other", "name": "other", "domain": {"id": "d", "name": "d"}})
    for signature in ({}, {"X-Pyrimage-Signature": "nonsense"}):
        headers = {"Idempotency-Key": f"key-{len(signature)}", **signature}
        server(registry, keystone.issue("member")).ask("POST", "/images", {"image": {"name": "mine"}}, **headers)
        answer = server(registry, others).ask("POST", "/images", {"image": {"name": "mine"}}, "*", **headers)
        assert PROJECT not in answer.text


def test_nobody_sees_anything_without_a_token(install_registry: Install, keystone: Keystone) -> None:
    """Not on the registry's own machine either, nor where everybody may read at the API."""
    registry = install_registry(anonymous="public")
    server(registry, keystone.issue("admin")).add({"is_public": True})
    for address in ("127.0.0.1", ELSEWHERE):
        for headers in ({}, {"X-Auth-Token": "nonsense"}, {"X-Roles": "admin", "X-User-Id": "x"}):
            answer = GlanceServer(registry, address, headers).ask("GET", "/images", status=401)
            assert answer.headers["WWW-Authenticate"] == CHALLENGE
        assert GlanceServer(registry, address).ask("GET", "/healthcheck").text == "OK"


def test_a_request_that_is_signed_is_judged_by_its_signature(install_registry: Install, keystone: Keystone) -> None:
    """S2: who signs does not say what an administrator with a token may say."""
    registry = install_registry(registry_secret=SECRET)
    assert Registry(registry, ADMIN).add(location=URL)["status"] == "queued"
    admin = keystone.issue("admin")
    assert server(registry, admin).add({"location": URL, "size": 5})["status"] == "active"
    for signature in ("", "nonsense"):
        forged = {"X-Auth-Token": admin, "X-Pyrimage-Signature": signature}
        answer = GlanceServer(registry, ELSEWHERE, forged).ask("GET", "/images", status=401)
        assert answer.headers["WWW-Authenticate"] == "PYRIMAGE-HMAC-SHA256"


def test_keystone_at_the_api_changes_nothing_at_the_registry(keystone: Keystone, tmp_path: Path) -> None:
    ini = keystone.write_ini(tmp_path)
    registry = install(tmp_path, str(ini), auth="keystone", application="registry")
    glance = server(registry, keystone.issue("admin"))
    assert "this machine only" in error_of(glance.ask("GET", "/images", status=403))
    assert GlanceServer(registry).add({})["owner"] is None
    registry.engine.dispose()
