"""The API and the registry of one ini, as their operator starts them, over real sockets."""

import configparser
import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from factories import ADMIN, ALICE, data_headers, error_of
from pyrimage.catalogue.records import Identity
from pyrimage.signatures import SIGNATURE, WHO
from registries import SECRET, signed
from servers.processes import free_port, run
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

COMMAND = ("pserve", "-n", "registry", "--server-name", "registry")


def with_registry(directory: Path, **options: Any) -> tuple[Server, Server]:
    """Prepare the two servers of one ini below ``directory``."""
    api = Server(directory, **options)
    registry = copy.copy(api)
    registry.port, registry.log_file = free_port(), directory / "registry.log"
    ini = configparser.RawConfigParser()
    ini.read(api.ini, encoding="utf-8")
    ini["server:registry"]["listen"] = f"127.0.0.1:{registry.port}"
    ini["logger_root"]["level"] = ini["logger_pyrimage"]["level"] = "DEBUG"
    with api.ini.open("w", encoding="utf-8") as file:
        ini.write(file)
    return api, registry


@contextmanager
def started(registry: Server, **environment: str) -> Iterator[Server]:
    registry.start(*COMMAND, str(registry.ini), **environment)
    try:
        yield registry
    finally:
        registry.stop()
        print(registry.log()[-5000:])


def ask(
    registry: Server, identity: Identity, method: str, target: str, value: Any = None, chunked: bool = False
) -> Answer:
    """Send JSON to the registry, signed."""
    body = b"" if value is None else json.dumps(value).encode()
    headers = signed(identity, method, target, body, chunked=chunked)
    if chunked:
        return registry.request(method, target, iter([body[:5], body[5:]]), headers, encode_chunked=True)
    return registry.request(method, target, body or None, headers)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """An API and a registry that know a secret from the environment."""
    api, registry = with_registry(tmp_path)
    with api, started(registry, PYRIMAGE_REGISTRY_SECRET=SECRET):
        yield api, registry


@pytest.mark.parametrize("sample", ["development", "production"])
def test_one_ini_serves_both_applications(sample: str, tmp_path: Path) -> None:
    api, registry = with_registry(tmp_path, sample=sample)
    upgraded = run("pyrimage-manage", "--config", api.ini, "db", "upgrade", cwd=tmp_path)
    assert upgraded.returncode == 0, upgraded.stderr
    with api, started(registry):
        made = api.request("POST", "/images", b"bytes", data_headers(name="f17", is_public="true")).image
        [listed] = registry.request("GET", "/images/detail").json["images"]
        assert (listed["id"], listed["location"]) == (made["id"], made["location"])
        assert Path(listed["location"].removeprefix("file://")).read_bytes() == b"bytes"
        assert registry.request("DELETE", f"/images/{made['id']}").status == 200
        assert api.request("GET", f"/images/{made['id']}").status == 404
        assert len(api.files()) == 1  # whoever asks the registry removes the bytes, or the scrubber does
        scrubbed = run("pyrimage-manage", "--config", api.ini, "scrub", cwd=tmp_path)
        assert "1 cleaned up, 0 failed" in scrubbed.stdout
        assert api.files() == []


def test_identity_counts_under_a_signature_alone(servers: tuple[Server, Server]) -> None:
    """S8: headers of an administrator's identity, with a hyphen or an underscore, and a signature of others."""
    _, registry = servers
    right = signed(ALICE, "GET", "/images")
    names: dict[str, str] = dict(zip(WHO, ("root", "tenant-a", "admin"), strict=True))
    tries: list[Mapping[str, str]] = [
        *({}, names, {name.replace("-", "_"): value for name, value in names.items()}),
        *({**right, **names}, {**right, SIGNATURE: "0" * 64}, signed(ADMIN, "GET", "/", secret="another" * 3)),
    ]
    for headers in tries:
        refused = registry.request("GET", "/images", headers=headers)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "PYRIMAGE-HMAC-SHA256"
        assert error_of(refused)
    assert registry.request("GET", "/images", headers=right).status == 200
    underscored = {**right, "X_Roles": "admin", "X_Tenant_Id": "tenant-b"}
    assert registry.request("GET", "/images", headers=underscored).status == 200
    assert registry.request("GET", "/healthcheck").body == b"OK"


def test_what_stands_in_paths_queries_and_names_is_signed_as_it_is_sent(servers: tuple[Server, Server]) -> None:
    _, registry = servers
    caller = Identity(user="\u00e9mile", project="proj\u00e9t \U0001f600", roles=frozenset({"member"}))
    made = ask(registry, caller, "POST", "/images", {"image": {"name": "f 17"}}).image
    assert made["owner"] == caller.project
    path = f"/images/{made['id']}/members/a%20%C3%A9%3Fb"
    assert ask(registry, caller, "PUT", path).status == 204
    assert (
        ask(registry, ADMIN, "GET", "/shared-images/a%20%C3%A9%3Fb").json["shared_images"][0]["image_id"] == made["id"]
    )
    assert [image["id"] for image in ask(registry, caller, "GET", "/images?name=f+17&x=%2f").json["images"]] == [
        made["id"]
    ]


def test_neither_the_secret_nor_a_signature_nor_a_token_is_logged(servers: tuple[Server, Server]) -> None:
    """S42, S44, S46: with the log at DEBUG, whatever is asked and refused."""
    _, registry = servers
    token = "gAAAAABtokentokentoken"
    headers = {**signed(ALICE, "GET", "/images?limit=x"), "X-Auth-Token": token, "Authorization": f"Bearer {token}"}
    answers = [registry.request("GET", "/images?limit=x", headers=headers)]
    answers.append(registry.request("GET", "/images", headers={**headers, **dict.fromkeys(WHO, "admin")}))
    answers.append(ask(registry, ALICE, "POST", "/images", {"image": {"id": "f17", "status": 5}}))
    answers.append(ask(registry, ADMIN, "POST", "/claims/garbage"))
    assert [answer.status for answer in answers] == [400, 401, 400, 200]
    told = [registry.log(), *(f"{answer.headers} {answer.body!r}" for answer in answers)]
    assert "DEBUG" in told[0]
    assert [text for secret in (SECRET, headers[SIGNATURE], token) for text in told if secret in text] == []
