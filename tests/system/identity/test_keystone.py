"""A real Keystone says who is asking."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from factories import error_of, files_below, meta
from servers import keystone
from servers.keystone import Identity
from servers.keystone_accounts import ADMIN, ALICE, BOB, BOSS, CAROL, PYRIMAGE, User, log_in
from servers.processes import free_port, wait_until
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

Serve = Callable[..., Server]
PATIENCE = 60  # seconds
DATA = bytes(1 << 20)


class Account:
    """A user of Keystone, and a server that the user asks."""

    def __init__(self, identity: Identity, server: Server, user: User) -> None:
        self.url, self.server, self.session = identity.url, server, log_in(identity.url, user)

    @property
    def token(self) -> str:
        token = self.session.get_token()
        if token is None:
            raise AssertionError("Keystone gives no token")
        return token

    @property
    def project(self) -> str:
        return str(self.session.get_project_id())

    def ask(self, method: str, path: str = "/v1/images", token: str = "", **fields: Any) -> Answer:
        return self.server.request(method, path, headers={"X-Auth-Token": token or self.token, **meta(**fields)})

    def add(self, **fields: Any) -> str:
        """Register an image; return its path."""
        return f"/v1/images/{self.ask('POST', **fields).image['id']}"

    def add_credential(self, **more: Any) -> tuple[str, str]:
        """Make an application credential; return its id and secret."""
        fields = {"name": uuid.uuid4().hex, **more}
        url = f"{self.url}/users/{self.session.get_user_id()}/application_credentials"
        made = self.session.post(url, json={"application_credential": fields}).json()["application_credential"]
        return made["id"], made["secret"]

    def token_of_credential(self, **more: Any) -> str:
        name, secret = self.add_credential(**more)
        plugin = v3.ApplicationCredential(
            self.url, application_credential_id=name, application_credential_secret=secret
        )
        return str(Session(plugin).get_token())

    def revoke(self, token: str) -> None:
        self.session.delete(f"{self.url}/auth/tokens", headers={"X-Subject-Token": token})


@pytest.fixture
def account(identity_service: Identity, server: Server) -> Callable[[User], Account]:
    return lambda user: Account(identity_service, server, user)


# -- roles and projects


def test_a_project_owns_images_its_reader_reads_them_and_others_do_not_see_them(
    account: Callable[[User], Account],
) -> None:
    alice, carol, bob, boss, admin = map(account, (ALICE, CAROL, BOB, BOSS, ADMIN))
    path = alice.add(name="f17", owner="of-others")
    assert alice.ask("HEAD", path).headers["x-image-meta-owner"] == alice.project
    assert carol.ask("HEAD", path).status == 200
    assert [carol.ask(method, path).status for method in ("PUT", "DELETE")] == [403, 403]
    assert carol.ask("POST").status == 403
    assert [bob.ask(method, path).status for method in ("HEAD", "PUT", "DELETE")] == [404, 404, 404]
    for each in (boss, admin):
        assert each.ask("PUT", path, owner="of-others").image["owner"] == "of-others"
    assert alice.ask("HEAD", path).status == 404
    assert admin.ask("DELETE", path).status == 200


def test_a_role_that_implies_member_may_write(account: Callable[[User], Account]) -> None:
    admin, carol = account(ADMIN), account(CAROL)
    url, session = admin.url, admin.session
    role = session.post(f"{url}/roles", json={"role": {"name": uuid.uuid4().hex}}).json()["role"]["id"]
    (member,) = session.get(f"{url}/roles?name=member").json()["roles"]
    session.put(f"{url}/roles/{role}/implies/{member['id']}")
    assignment = f"{url}/projects/{carol.project}/users/{carol.session.get_user_id()}/roles/{role}"
    assert carol.ask("POST").status == 403
    session.put(assignment)
    try:
        carol.session.invalidate()
        assert carol.ask("POST").status == 201
    finally:
        session.delete(assignment)


def test_scopes_other_than_a_project(account: Callable[[User], Account], identity_service: Identity) -> None:
    login: dict[str, Any] = {"username": ADMIN.name, "password": ADMIN.password, "user_domain_id": "default"}
    admin = account(ADMIN)
    scopes: list[tuple[dict[str, Any], int]] = [({"system_scope": "all"}, 201), ({"unscoped": True}, 403)]
    for scope, status in scopes:
        token = Session(v3.Password(identity_service.url, **login, **scope)).get_token()
        made = admin.ask("POST", token=str(token), owner="of-others")
        assert made.status == status
        if status == 201:
            assert made.image["owner"] == "of-others"


def test_log_lines_name_user_and_project(account: Callable[[User], Account], server: Server) -> None:
    alice = account(ALICE)
    alice.add()
    caller = f"{alice.session.get_user_id()}/{alice.project}"
    wait_until(lambda: any(line[-1] == caller for line in server.access_lines()), PATIENCE, server.log)


# -- application credentials, expiry, services


def test_an_application_credential_is_its_user_within_its_rules(account: Callable[[User], Account]) -> None:
    alice = account(ALICE)
    assert alice.ask("POST", token=alice.token_of_credential()).image["owner"] == alice.project
    rules = [{"service": "image", "method": "GET", "path": "/v1/images"}]
    ensure_image_service(account(ADMIN), "http://images.invalid")
    restricted = alice.token_of_credential(access_rules=rules)
    assert [alice.ask(method, token=restricted).status for method in ("GET", "POST")] == [200, 401]


def ensure_image_service(admin: Account, url: str) -> None:
    """Let the catalogue have a service of images at a URL, and no other."""
    session = admin.session
    for old in session.get(f"{admin.url}/services?type=image").json()["services"]:
        session.delete(f"{admin.url}/services/{old['id']}")
    made = session.post(f"{admin.url}/services", json={"service": {"type": "image", "name": "pyrimage"}}).json()
    for interface in ("public", "internal", "admin"):
        place = {"interface": interface, "region_id": "RegionOne", "url": url, "service_id": made["service"]["id"]}
        session.post(f"{admin.url}/endpoints", json={"endpoint": place})


def test_an_expired_token_is_good_with_that_of_a_service_only(account: Callable[[User], Account]) -> None:
    alice, service, bob = account(ALICE), account(PYRIMAGE), account(BOB)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    token = alice.token_of_credential(expires_at=soon.strftime("%Y-%m-%dT%H:%M:%S.%f"))
    wait_until(lambda: alice.ask("GET", token=token).status == 401, PATIENCE)

    def ask_with(other: Account) -> int:
        headers = {"X-Auth-Token": token, "X-Service-Token": other.token}
        return alice.server.request("GET", "/v1/images", headers=headers).status

    assert [ask_with(service), ask_with(bob)] == [200, 401]


# -- revocation


def test_a_revoked_token_is_refused_at_once_where_nothing_is_remembered(
    account: Callable[[User], Account], server: Server
) -> None:
    """S46: and neither the answer nor the log tells it."""
    alice, admin = account(ALICE), account(ADMIN)
    token = alice.token
    assert alice.ask("GET", token=token).status == 200
    admin.revoke(token)
    refused = alice.ask("GET", token=token)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, f'Keystone uri="{alice.url}"')
    assert token not in error_of(refused) + server.log()


def test_a_revoked_token_is_good_as_long_as_it_is_remembered(identity_service: Identity, serve: Serve) -> None:
    server = serve(identity_service.url, token_cache_time="2")
    alice, admin = (Account(identity_service, server, user) for user in (ALICE, ADMIN))
    token = alice.token
    assert alice.ask("GET", token=token).status == 200
    admin.revoke(token)
    wait_until(lambda: alice.ask("GET", token=token).status == 401, PATIENCE)


def test_an_upload_whose_token_is_revoked_ends_well_and_the_next_is_refused(
    account: Callable[[User], Account], server: Server
) -> None:
    """S36."""
    alice, admin = account(ALICE), account(ADMIN)
    token = alice.token
    head = f"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\nConnection: close\r\n"
    fields = f"Content-Type: application/octet-stream\r\nContent-Length: {2 * len(DATA)}\r\n\r\n"
    with server.connect((head + fields).encode() + DATA) as client:
        wait_until(lambda: server.sql("SELECT 1 FROM claims"), PATIENCE, server.log)
        admin.revoke(token)
        client.sendall(DATA)
        received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    made = Answer.parse(*received.split(b"\r\n\r\n", 1))
    assert (made.status, made.image["status"], made.image["owner"]) == (201, "active", alice.project)
    before = files_below(server.datadir)
    refused = server.request(
        "POST", "/v1/images", DATA, {"X-Auth-Token": token, "Content-Type": "application/octet-stream"}
    )
    assert refused.status == 401
    assert files_below(server.datadir) == before
    assert server.sql("SELECT count(*) FROM claims") == [(0,)]


# -- Keystone away, and what clients make up


def test_keystone_stopped_and_back(tmp_path: Path, serve: Serve) -> None:
    port = free_port()
    with keystone.serving(tmp_path / "first", port) as identity:
        server, remembering = serve(identity.url), serve(identity.url, token_cache_time="300")
        alice, bob = Account(identity, server, ALICE), Account(identity, remembering, BOB)
        assert [alice.ask("GET").status, bob.ask("GET").status] == [200, 200]
        others = Account(identity, remembering, ALICE).token
    away = alice.ask("GET")
    assert (away.status, away.headers["Retry-After"], "WWW-Authenticate" in away.headers) == (503, "5", False)
    assert "Keystone" in error_of(away)
    assert [bob.ask("GET").status, bob.ask("GET", token=others).status] == [200, 503]
    assert server.request("GET", "/healthcheck").status == 200
    with keystone.serving(tmp_path / "second", port):
        assert [alice.ask("GET").status, bob.ask("GET", token=others).status] == [200, 200]


def test_a_wrong_password_of_the_server_is_503_and_the_log_says_what_to_do(
    identity_service: Identity, serve: Serve
) -> None:
    server = serve(identity_service.url, password="wrong-password")
    alice = Account(identity_service, server, ALICE)
    assert alice.ask("GET").status == 503
    assert "look at username, password, project_name" in server.log()
    assert [secret for secret in ("wrong-password", alice.token) if secret in server.log()] == []


MADE_UP = (
    *("X-Roles", "X-Role", "X-User", "X-User-Id", "X-User-Name", "X-Tenant", "X-Tenant-Id", "X-Tenant-Name"),
    *("X-Project-Id", "X-Project-Name", "X-Domain-Id", "X-Owner", "X-Identity-Status", "X-Is-Admin-Project"),
    *("X-Service-Roles", "X-Service-Identity-Status", "X-Service-Catalog", "OpenStack-System-Scope", "Remote-User"),
)
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    str.lower,
    str.upper,
    lambda name: name.replace("-", "_"),
    lambda name: name.replace("-", "_").lower(),
    lambda name: name.replace("-", "_", 1),
    lambda name: f"{name} ",
)


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_identity_headers_of_a_client_have_no_effect(
    spelled: Callable[[str], str], account: Callable[[User], Account], server: Server
) -> None:
    """S8: over a socket, in every spelling, and twice."""
    alice = account(ALICE)
    path = alice.add(name="private")
    lines = [f"{spelled(name)}: {word}".encode() for name in MADE_UP for word in ("admin", alice.project, "Confirmed")]
    bob = f"X-Auth-Token: {account(BOB).token}".encode()
    # Some spellings are 400 at the server.
    for made_up in ([], lines, *([line] for line in lines)):
        assert server.ask(f"HEAD {path}".encode(), *made_up).status in (400, 401)
    for made_up in ([bob, *lines], [*lines, bob]):
        assert server.ask(f"HEAD {path}".encode(), *made_up).status in (400, 404)
