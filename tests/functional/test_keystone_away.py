"""Keystone away, slow, or answering what makes no sense: 503, and never 401."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

import origins
from factories import error_of
from keystones import PASSWORD, Keystone, answer, refusal
from origins import Asked, Behaviour, certified, closed_port

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

TOKEN = {"X-Auth-Token": "of-somebody"}


def ask(app: TestApp, headers: dict[str, str] = TOKEN) -> str:
    """Ask something while Keystone is away; return what is said, whose form is that of other errors."""
    refused = app.get("/v1/images", headers=headers, status=503)
    assert refused.headers["Retry-After"] == "5"
    assert "WWW-Authenticate" not in refused.headers
    return error_of(refused)


def hangs(origin: origins.Origin) -> Behaviour:
    def behave(asked: Asked) -> Iterable[bytes]:
        origin.over.wait(origins.SECONDS)
        return []

    return behave


OWNED = {"methods": ["password"], "user": {"id": "x"}, "expires_at": "2999-01-01T00:00:00Z"}
NONSENSE: dict[str, Behaviour] = {
    "nothing": lambda asked: [],
    "an error": lambda asked: refusal(500),
    "a proxy's error": lambda asked: answer(502, "<html>"),
    "a page": lambda asked: answer(200, "<html>"),
    "another page": lambda asked: answer(404, "<html>"),
    "not found as others say it": lambda asked: answer(404, {"detail": "Not Found"}),
    "no token": lambda asked: answer(200, {}),
    "an empty token": lambda asked: answer(200, {"token": {}}),
    "an owner without id": lambda asked: answer(200, {"token": {**OWNED, "user": {}}}),
    "no time": lambda asked: answer(200, {"token": {**OWNED, "expires_at": "soon"}}),
    "a role without name": lambda asked: answer(200, {"token": {**OWNED, "roles": [{}]}}),
    "no object": lambda asked: answer(200, []),
    "it refuses this server": lambda asked: refusal(401),
    "it refuses this server's role": lambda asked: refusal(403),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_an_answer_that_makes_no_sense_is_503_and_the_next_one_counts(
    what: str, install_keystone: Install, caplog: pytest.LogCaptureFixture
) -> None:
    with origins.serving() as origin:
        keystone = Keystone(origin)
        app = install_keystone(keystone, {"token_cache_time": "300"}).client()
        keystone.answer_with(NONSENSE[what])
        token = {"X-Auth-Token": keystone.issue("member")}
        ask(app, token)
        lines = [record for record in caplog.records if record.name == "pyrimage.identity.keystone.tokens"]
        assert [line.levelname for line in lines] in (["WARNING"], ["ERROR"])
        assert [record for record in caplog.records if record.exc_info] == []
        keystone.work()
        app.get("/v1/images", headers=token, status=200)


def test_a_token_whose_credential_makes_no_sense_is_503(install_keystone: Install) -> None:
    with origins.serving() as origin:
        keystone = Keystone(origin)
        ask(install_keystone(keystone).client(), {"X-Auth-Token": keystone.issue("member", application_credential="x")})


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_token_follows_a_redirect(code: int, install_keystone: Install) -> None:
    """S24."""
    with origins.serving() as origin, origins.serving() as elsewhere:
        keystone, other = Keystone(origin), Keystone(elsewhere)
        token = {"X-Auth-Token": keystone.issue("member")}
        other.tokens = keystone.tokens
        keystone.answer_with(lambda asked: answer(code, "", f"Location: {other.url}/auth/tokens"))
        ask(install_keystone(keystone).client(), token)
        assert elsewhere.asked == []


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_server_that_keystone_does_not_let_in_says_what_to_do(
    status: int, install_keystone: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """S46: without the password, too."""
    with origins.serving() as origin:
        keystone = Keystone(origin)
        keystone.log_in_with(lambda asked: refusal(status))
        app = install_keystone(keystone).client()
        text = ask(app, {"X-Auth-Token": keystone.issue("member")})
        (line,) = (record for record in caplog.records if record.levelname == "ERROR" and "look at" in record.message)
        assert "password, project_name" in line.message
        assert PASSWORD not in caplog.text + text
        keystone.work()  # the user was repaired
        app.get("/v1/images", headers={"X-Auth-Token": keystone.issue("member")}, status=200)


def test_a_catalogue_that_was_repaired_counts_at_once(install_keystone: Install) -> None:
    with origins.serving() as origin:
        keystone = Keystone(origin)
        fields = keystone.tokens[keystone.issue("service", catalog=[{"type": "compute", "endpoints": []}])]
        keystone.log_in_with(lambda asked: answer(201, fields, "X-Subject-Token: x", "Content-Type: application/json"))
        app, token = install_keystone(keystone).client(), {"X-Auth-Token": keystone.issue("member")}
        ask(app, token)
        keystone.work()
        app.get("/v1/images", headers=token, status=200)


def test_nobody_is_needed_to_start_and_what_needs_no_identity_is_answered(install_keystone: Install) -> None:
    keystone = Keystone(origins.Origin())
    keystone.origin.server_close()
    app = install_keystone(keystone, {"auth_url": f"http://localhost:{closed_port()}/v3"}).client()
    assert "Keystone" in ask(app)
    for path in ("/healthcheck", "/versions"):
        app.get(path, headers=TOKEN, status=200)
    app.get("/v1/images", status=401)


def test_a_keystone_that_hangs_is_waited_for_no_longer_than_the_setting_says(install_keystone: Install) -> None:
    with origins.serving() as origin:
        keystone = Keystone(origin)
        keystone.answer_with(hangs(origin))
        section = {"http_connect_timeout": "1", "http_request_max_retries": "0"}
        app = install_keystone(keystone, section).client()
        ask(app)
        assert not origin.over.is_set()
        assert keystone.asked == ["of-somebody"]
        app.get("/healthcheck", headers=TOKEN, status=200)
        assert keystone.asked == ["of-somebody"]


def test_while_keystone_is_away_one_thread_waits_for_it_and_the_others_do_not(install_keystone: Install) -> None:
    with origins.serving() as origin:
        keystone, entered, may_answer = Keystone(origin), threading.Event(), threading.Event()
        installation, good = install_keystone(keystone), {"X-Auth-Token": keystone.issue("member")}
        app = installation.client()
        keystone.answer_with(NONSENSE["an error"])
        ask(app, good)

        def slow(asked: Asked) -> Iterable[bytes]:
            entered.set()
            may_answer.wait(origins.SECONDS)
            return refusal(404)

        keystone.answer_with(slow)
        waiting = threading.Thread(target=lambda: installation.client().get("/v1/images", headers=TOKEN, status=401))
        waiting.start()
        assert entered.wait(origins.SECONDS)
        ask(app, good)
        assert not may_answer.is_set()
        assert keystone.asked == [good["X-Auth-Token"], "of-somebody"]
        may_answer.set()
        waiting.join(origins.SECONDS)
        keystone.work()
        app.get("/v1/images", headers=good, status=200)


@pytest.mark.parametrize(
    ("name", "is_trusted", "days"), [("other", True, 2), ("localhost", False, 2), ("localhost", True, -1)]
)
def test_a_certificate_must_be_trusted_and_of_the_host(
    name: str, is_trusted: bool, days: int, install_keystone: Install, tmp_path: Path
) -> None:
    """S47: neither token nor password goes to a server whose certificate is another's, nobody's, or too old."""
    certificate, context = certified(tmp_path, name, days)
    section = {"cafile": str(certificate)} if is_trusted else {}
    with origins.serving(context) as origin:
        keystone = Keystone(origin)
        ask(install_keystone(keystone, section).client())
        assert (keystone.asked, keystone.logins) == ([], 0)


def test_a_certificate_of_an_authority_of_the_settings_is_trusted(install_keystone: Install, tmp_path: Path) -> None:
    certificate, context = certified(tmp_path, "localhost")
    with origins.serving(context) as origin:
        keystone = Keystone(origin)
        app = install_keystone(keystone, {"cafile": str(certificate)}).client()
        app.get("/v1/images", headers={"X-Auth-Token": keystone.issue("member")}, status=200)
