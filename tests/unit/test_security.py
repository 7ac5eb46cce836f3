"""Who is asking, where no client of the tests gets: through servers that tell less, or other things, than ours."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from factories import ALICE
from pyrimage.catalogue.records import ADMINISTRATOR, Identity
from pyrimage.environ import IDENTITY, REFUSAL
from pyrimage.identity.loopback import LoopbackOnly, LoopbackRegistry
from pyrimage.identity.policy import Permission, SecurityPolicy
from pyrimage.settings import Settings
from pyrimage.web.request import Request

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", "PATH_INFO": "/images"}
OLD = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.0", "SERVER_PORT": "9292", "PATH_INFO": "/images"}


def let_in(
    environ: dict[str, Any], *, allow_anonymous: bool = False, middleware: type[LoopbackOnly] = LoopbackOnly
) -> Any:
    """Send a request through the middleware; return the environ that the application gets."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.update(environ)
        return []

    settings = Settings(auth="none", allow_anonymous=allow_anonymous)
    middleware(app, settings)(dict(environ), print)
    return seen


def test_a_permission_is_its_own_name() -> None:
    assert {each.name.lower() for each in Permission} == {each.value for each in Permission}


def test_a_role_makes_no_user_and_a_name_no_administrator() -> None:
    caller = Identity(user="admin", project="admin")
    assert (caller.is_admin, str(caller), str(ADMINISTRATOR)) == (False, "admin/admin", "admin")


def test_the_policy_knows_the_user_and_keeps_no_sessions(make_request: Callable[..., Request]) -> None:
    assert SecurityPolicy().authenticated_userid(make_request(identity=ALICE)) == ALICE.user
    assert SecurityPolicy().remember(make_request(), "alice") == []
    assert SecurityPolicy().forget(make_request()) == []


@pytest.mark.parametrize(("port", "host"), [("9292", "localhost:9292"), ("/run/pyrimage.sock", "localhost")])
def test_http_1_0_from_here_need_not_name_a_host(port: str, host: str) -> None:
    seen = let_in({**OLD, "SERVER_PORT": port})
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
def test_http_1_0_without_a_host_lets_in_nobody_else(changes: dict[str, Any]) -> None:
    assert REFUSAL in let_in({**OLD, **changes})


def test_where_everybody_is_let_in_no_host_is_made_up() -> None:
    assert "HTTP_HOST" not in let_in({**OLD, "REMOTE_ADDR": "192.0.2.1"}, allow_anonymous=True)


@pytest.mark.parametrize("missing", ["REMOTE_ADDR", "HTTP_HOST"])
def test_nothing_is_taken_for_granted(missing: str) -> None:
    assert REFUSAL in let_in({name: value for name, value in LOCAL.items() if name != missing})


def test_a_registry_without_a_secret_is_not_opened_by_what_opens_the_api() -> None:
    seen = let_in({**LOCAL, "REMOTE_ADDR": "192.0.2.1"}, allow_anonymous=True, middleware=LoopbackRegistry)
    assert IDENTITY not in seen
    assert "pyrimage.registry_secret" in str(seen[REFUSAL])
