from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid.authorization import Allow, Authenticated, Deny, Everyone

from factories import ADMIN, ALICE, NOBODY
from pyrimage.catalogue.records import ADMINISTRATOR, Identity
from pyrimage.environ import IDENTITY, REFUSAL
from pyrimage.errors import Forbidden
from pyrimage.identity.loopback import LoopbackOnly, LoopbackRegistry
from pyrimage.identity.policy import Permission, SecurityPolicy, principals_of
from pyrimage.settings import Settings
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", "PATH_INFO": "/images"}
ELSEWHERE = {**LOCAL, "REMOTE_ADDR": "192.0.2.1"}


@pytest.mark.parametrize(
    ("identity", "principals", "is_admin", "name"),
    [
        (Identity(), [Everyone], False, "-"),
        (Identity(project="p"), [Everyone, "project:p"], False, "-"),
        (Identity(user="u"), [Everyone, Authenticated], False, "u"),
        (Identity(user="u", project="p"), [Everyone, Authenticated, "project:p"], False, "u"),
        (Identity(user="u", roles=frozenset({"r"})), [Everyone, "role:r", Authenticated], False, "u"),
        (Identity(roles=frozenset({"r"})), [Everyone, "role:r", Authenticated], False, "-"),
        (ADMINISTRATOR, [Everyone, "role:admin", Authenticated], True, "admin"),
        (Identity(user="u", roles=frozenset({"admin"})), [Everyone, "role:admin", Authenticated], True, "u"),
        (Identity(user="admin", project="admin"), [Everyone, Authenticated, "project:admin"], False, "admin"),
    ],
)
def test_what_an_identity_is(identity: Identity, principals: list[str], is_admin: bool, name: str) -> None:
    assert principals_of(identity) == principals
    assert identity.is_admin is is_admin
    assert str(identity) == name


def test_a_permission_is_its_own_name() -> None:
    assert {each.name.lower() for each in Permission} == {each.value for each in Permission}


@pytest.mark.parametrize(("identity", "user"), [(ALICE, "alice"), (ADMINISTRATOR, None), (NOBODY, None)])
def test_the_policy_finds_the_identity_in_the_environ(
    identity: Identity, user: str | None, make_request: MakeRequest
) -> None:
    request = make_request(identity=identity)
    assert request.identity is identity
    assert request.authenticated_userid == user


def test_the_policy_keeps_no_sessions(make_request: MakeRequest) -> None:
    assert SecurityPolicy().remember(make_request(), "alice") == []
    assert SecurityPolicy().forget(make_request()) == []


def place(*acl: Any, parent: object = None) -> Any:
    return SimpleNamespace(__acl__=list(acl), __parent__=parent, __name__="")


ROOT = place((Allow, "role:admin", "see"))
OWN = place((Allow, "project:tenant-a", "see"), parent=ROOT)
CLOSED = place((Deny, Everyone, "see"), parent=OWN)


@pytest.mark.parametrize(
    ("identity", "context", "permitted"),
    [
        (ALICE, OWN, True),
        (ALICE, ROOT, False),
        (ALICE, CLOSED, False),
        (ADMIN, OWN, True),
        (ADMIN, CLOSED, False),
        (NOBODY, OWN, False),
    ],
)
def test_the_policy_asks_the_acls_up_to_the_root(
    identity: Identity, context: object, permitted: bool, make_request: MakeRequest
) -> None:
    assert bool(make_request(identity=identity).has_permission("see", context)) is permitted


def behind_the_door(environ: dict[str, Any], *, allow_anonymous: bool = False) -> dict[str, Any]:
    """Send a request through the door; return the environ that the application gets."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.update(environ)
        return [b"answer"]

    settings = Settings(auth="none", allow_anonymous=allow_anonymous)
    assert LoopbackOnly(app, settings)(dict(environ), print) == [b"answer"]
    return seen


def test_the_door_makes_administrators_of_local_callers() -> None:
    seen = behind_the_door(LOCAL)
    assert seen[IDENTITY] == ADMINISTRATOR
    assert REFUSAL not in seen


def test_the_door_keeps_an_identity_that_is_there() -> None:
    seen = behind_the_door({**ELSEWHERE, IDENTITY: ALICE})
    assert seen[IDENTITY] is ALICE
    assert REFUSAL not in seen


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"REMOTE_ADDR": "192.0.2.1"}, "comes from another one"),
        ({"REMOTE_ADDR": ""}, "comes from another one"),
        ({"HTTP_HOST": "evil.example"}, "the Host header does not name it"),
        ({"HTTP_HOST": "a:b:c"}, "the Host header does not name it"),
        ({"pyrimage.forwarded": True}, "forwarded by a proxy"),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, "forwarded by a proxy"),
        ({"HTTP_FORWARDED": ""}, "forwarded by a proxy"),
    ],
)
def test_the_door_notes_why_others_are_refused(changes: dict[str, Any], reason: str) -> None:
    seen = behind_the_door({**LOCAL, **changes})
    assert IDENTITY not in seen
    assert isinstance(seen[REFUSAL], Forbidden)
    assert reason in str(seen[REFUSAL])
    assert "pyrimage.auth" in str(seen[REFUSAL])
    assert "pyrimage.allow_anonymous = true" in str(seen[REFUSAL])


OLD = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.0", "SERVER_PORT": "9292", "PATH_INFO": "/images"}


@pytest.mark.parametrize(("port", "host"), [("9292", "localhost:9292"), ("/run/pyrimage.sock", "localhost")])
def test_http_1_0_from_here_need_not_name_a_host(port: str, host: str) -> None:
    seen = behind_the_door({**OLD, "SERVER_PORT": port})
    assert (seen[IDENTITY], seen["HTTP_HOST"]) == (ADMINISTRATOR, host)


@pytest.mark.parametrize(
    "changes",
    [
        *({"SERVER_PROTOCOL": protocol} for protocol in ("HTTP/1.1", "HTTP/2", "")),
        *({"HTTP_HOST": host} for host in ("", "evil.example")),
        {"REMOTE_ADDR": "192.0.2.1"},
        {"pyrimage.forwarded": True},
        {"HTTP_ORIGIN": "http://evil.example"},
    ],
)
def test_http_1_0_without_a_host_opens_the_door_to_nobody_else(changes: dict[str, Any]) -> None:
    assert REFUSAL in behind_the_door({**OLD, **changes})


def test_an_open_door_makes_up_no_host() -> None:
    assert "HTTP_HOST" not in behind_the_door({**OLD, "REMOTE_ADDR": "192.0.2.1"}, allow_anonymous=True)


@pytest.mark.parametrize("missing", ["REMOTE_ADDR", "HTTP_HOST"])
def test_the_door_takes_nothing_for_granted(missing: str) -> None:
    assert REFUSAL in behind_the_door({name: value for name, value in LOCAL.items() if name != missing})


def test_the_door_lets_everybody_ask_after_our_health_as_nobody() -> None:
    seen = behind_the_door({**ELSEWHERE, "PATH_INFO": "/healthcheck"})
    assert REFUSAL not in seen
    assert IDENTITY not in seen


def test_an_open_door_makes_administrators_of_all() -> None:
    seen = behind_the_door({**ELSEWHERE, "pyrimage.forwarded": True}, allow_anonymous=True)
    assert seen[IDENTITY] == ADMINISTRATOR


# The registry's


def test_a_registry_without_a_secret_is_not_opened_by_what_opens_the_api() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.update(environ)
        return []

    settings = Settings(auth="none", allow_anonymous=True)
    LoopbackRegistry(app, settings)(dict(ELSEWHERE), print)
    assert IDENTITY not in seen
    assert "pyrimage.registry_secret" in str(seen[REFUSAL])
