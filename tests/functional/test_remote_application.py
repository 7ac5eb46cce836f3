"""An API server that asks registries, as its clients and its operator see it."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalogues import served
from conftest import Installation, install
from default_catalogue import sql_catalogue_only
from factories import ADMIN, ALICE, NOBODY, READER, data_headers, error_of, meta, upload
from pyrimage.catalogue.records import Identity
from pyrimage.catalogue.remote import transport
from pyrimage.errors import ConfigurationError
from pyrimage.identity.policy import WSGIApp
from pyrimage.signatures import WHO
from registries import SECRET, Registry
from servers.fault_proxy import FaultProxy

Install = Callable[..., Installation]

pytestmark = sql_catalogue_only  # the API servers of these tests have a registry already


class Recorder:
    """An application that notes who asks it for what: the request, and the identity's headers."""

    def __init__(self, app: WSGIApp) -> None:
        self._app = app
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        who = tuple(environ.get(f"HTTP_{name.upper().replace('-', '_')}", "") for name in WHO)
        self.asked.append((f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", who))
        return self._app(environ, start_response)


@pytest.fixture
def recorder(registry: Registry) -> Recorder:
    return Recorder(registry.installation.wsgi)


@pytest.fixture
def proxy(recorder: Recorder) -> Iterator[FaultProxy]:
    """What stands between an API server and its registry."""
    with served(recorder) as port, FaultProxy(port) as made:
        yield made


@pytest.fixture
def install_remote(proxy: FaultProxy, installation: Installation, tmp_path: Path) -> Install:
    """Give a function that makes an API server which asks the registry, and has the store of its database."""

    def make(**more: str) -> Installation:
        keys = {"registry_host": f"127.0.0.1:{proxy.port}", "registry_secret": SECRET, **installation.place, **more}
        return install(tmp_path, **keys)

    return make


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody answers is asked again for a moment only."""
    monkeypatch.setattr(transport, "PATIENCE", 0.1)
    monkeypatch.setattr(transport, "PATIENCE_IN_DOUBT", 0.2)


# -- who is asking


def is_servers_own(request: str) -> bool:
    """Say whether a server asks that for itself: about leases, what is left of uploads, and stores."""
    _, _, path = request.partition(" ")
    return path.startswith(("/claims/", "/stores/")) and path != "/claims/begin"


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        (ALICE, ("alice", "tenant-a", "member")),
        (ADMIN, ("root", "", "admin")),
        (Identity("\u043e\u043b\u044f", "projekt-\u00fc", frozenset({"b", "a"})), None),
    ],
    ids=["user", "administrator", "other scripts"],
)
def test_all_that_a_request_asks_is_asked_in_the_name_of_its_caller(
    install_remote: Install, recorder: Recorder, caller: Identity, who: tuple[str, ...] | None
) -> None:
    """S7: also if it brings headers of its own."""
    app = install_remote().client(caller)
    recorder.asked.clear()
    spoofed = {"X-User-Id": "root", "X-Tenant-Id": "tenant-b", "X-Roles": "admin", "X-Pyrimage-Signature": "0"}
    app.extra_environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in spoofed.items()}
    path = upload(app, name="f17")
    app.get("/v1/images/detail")
    app.get(path)
    app.put(path, headers=meta(name="f18"))
    app.put(f"{path}/members/tenant-b", status=204)
    app.get(f"{path}/members")
    app.delete(path)
    image = path.removeprefix("/v1")
    asked = {request for request, _ in recorder.asked}
    assert {"POST /claims/begin", "POST /images", "GET /images/detail", f"GET {image}", f"PUT {image}"} <= asked
    assert {f"PUT {image}/members/tenant-b", f"GET {image}/members", f"DELETE {image}"} <= asked
    words = who or ("\u043e\u043b\u044f", "projekt-\u00fc", "a,b")
    expected = tuple(word.encode().decode("latin-1") for word in words)
    assert {said for request, said in recorder.asked if not is_servers_own(request)} == {expected}


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        (READER, ("rita", "tenant-a", "reader")),
        (Identity("rita", "tenant-a", frozenset({"member"}), can_write=False), ("rita", "tenant-a", "reader")),
        (NOBODY, ("", "", "")),
    ],
    ids=["reader", "token that only reads", "nobody"],
)
def test_who_only_reads_is_asked_for_as_one_who_only_reads(
    install_remote: Install, recorder: Recorder, caller: Identity, who: tuple[str, ...]
) -> None:
    """S7."""
    app = install_remote().client(caller)
    recorder.asked.clear()
    app.get("/v1/images")
    app.get("/v1/images/f17", status=404)
    app.post("/v1/images", b"bytes", headers=data_headers(), status=(401, 403))
    assert recorder.asked == [("GET /images", who), ("GET /images/f17", who)]


def test_what_only_an_administrator_may_say_of_an_image_is_not_said_for_others(install_remote: Install) -> None:
    """S11."""
    api, long_ago = install_remote(), "2011-09-22T12:00:00"
    said = meta(name="f17", owner="tenant-x", created_at=long_ago)
    alices, admins = (api.client(caller).post("/v1/images", headers=said).json["image"] for caller in (ALICE, ADMIN))
    assert [alices["owner"], alices["created_at"] > long_ago] == ["tenant-a", True]
    assert [admins["owner"], admins["created_at"]] == ["tenant-x", long_ago]
    stored = api.client(ADMIN).get("/v1/images/detail?is_public=none&sort_dir=asc").json["images"]
    assert [(image["owner"], image["created_at"]) for image in stored] == [
        (image["owner"], image["created_at"]) for image in (admins, alices)
    ]


# -- registries that are away


def test_where_no_registry_answers_clients_are_told_to_come_again(
    install_remote: Install, proxy: FaultProxy, registry: Registry
) -> None:
    api = install_remote()
    app = api.client(ADMIN)
    path = upload(app)
    stored = api.stored_keys()
    proxy.down()
    for method, target in (("GET", "/v1/images"), ("GET", path), ("PUT", path), ("DELETE", path)):
        refused = app.request(target, method=method, status=503)
        assert refused.headers["Retry-After"].isdigit()
        assert error_of(refused) == "No registry answers."
    for data in (b"", b"bytes"):
        refused = app.post("/v1/images", data, headers=data_headers() if data else meta(name="f17"), status=503)
        assert refused.headers["Retry-After"].isdigit()
    assert api.stored_keys() == stored
    proxy.up()
    assert app.get(path).body == b"bytes"
    app.delete(path)
    assert api.stored_keys() == []


def test_a_server_starts_although_no_registry_answers_and_says_so(
    install_remote: Install, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.down()
    app = install_remote().client(ADMIN)
    assert any("No registry answers. The schema is not checked." in record.getMessage() for record in caplog.records)
    app.get("/v1/images", status=503)
    proxy.up()
    assert upload(app)


def test_a_server_with_another_secret_than_the_registrys_does_not_start(install_remote: Install) -> None:
    with pytest.raises(ConfigurationError, match=r"^pyrimage.registry_host: The registry does not accept") as refused:
        install_remote(registry_secret="another secret of theirs")
    assert "another secret" not in str(refused.value)


def test_what_a_registry_is_away_for_tells_a_client_nothing_of_it(
    install_remote: Install, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """S42: neither its address nor the secret; nor does the log have that."""
    app = install_remote().client(ALICE)
    proxy.down()
    refused = app.get("/v1/images", status=503)
    caplog.set_level(logging.DEBUG)
    assert str(proxy.port) not in refused.text
    assert SECRET not in refused.text + caplog.text
