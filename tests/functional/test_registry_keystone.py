"""``pyrimage.registry_auth = keystone``: the registry answers tokens, and beside them requests that are signed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import origins
from conftest import Installation, install
from factories import ADMIN, error_of
from glance_servers import GlanceServer
from keystones import PROJECT, Keystone
from pyrimage.catalogue.records import Identity
from pyrimage.models import AnsweredRow, ClaimRow, ImageRow, LocationRow
from registries import NO_DATA, SECRET, Registry, blob_of

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


def test_a_users_token_records_no_upload(install_registry: Install, keystone: Keystone) -> None:
    """S2: it would be one without bytes, of a size that nobody has counted."""
    registry = install_registry(registry_secret=SECRET)
    user = server(registry, keystone.issue("member"))
    queued = user.add({})["id"]
    alice = Registry(registry, Identity("alice", PROJECT, frozenset({"member"})))  # as a server asks for her
    for image_id, path in ((None, "/claims/begin"), (queued, f"/images/{queued}/claims")):
        claim = alice.claim(image_id)
        user.ask("POST", path, {"claim": claim}, status=403)
        user.ask("POST", "/claims/reserve", {"claim": claim, "came": 5}, status=403)
        end = {"key": claim["key"], "image_id": claim["image_id"], "reason": None}
        user.ask("POST", "/claims/end", end, status=403)
        method, target = ("PUT", f"/images/{queued}") if image_id else ("POST", "/images")
        user.ask(method, target, {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}, status=403)
    user.ask("POST", "/images", {"image": {}, "blob": {**NO_DATA, "location": None, "claim": None}}, status=403)
    assert [registry.rows(row) for row in (ImageRow, ClaimRow, LocationRow, AnsweredRow)] == [1, 2, 0, 0]


def test_an_idempotency_key_is_that_of_a_server_that_signs(install_registry: Install, keystone: Keystone) -> None:
    """S7: a caller with a token neither learns what another one was answered, nor keeps its key from it."""
    registry = install_registry(registry_secret=SECRET)
    key = {"Idempotency-Key": "1"}
    elsewhere = {"id": "another", "name": "another", "domain": {"id": "default", "name": "Default"}}
    admin, user = keystone.issue("admin"), keystone.issue("member", project=elsewhere)
    for token, image_id in ((admin, "hers"), (user, "his")):
        sent = {"image": {"id": image_id, "status": "queued"}}
        shown = server(registry, token).ask("POST", "/images", sent, **key).json["image"]
        assert shown["id"] == image_id
    made = Registry(registry, ADMIN).ask("POST", "/images", {"image": {"id": "ours"}}, 200, key).json["image"]
    assert made["id"] == "ours"


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
