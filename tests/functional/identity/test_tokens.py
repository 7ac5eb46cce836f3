"""Who a token's holder is: over a database, and the files of users."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, update

from accounts import USERS, write_users
from conftest import Installation
from factories import stored
from faults import on_connect
from pyrimage.catalogue.records import Identity, Token, utcnow
from pyrimage.errors import DatabaseAway, Unauthenticated
from pyrimage.identity.tokens import MAX_GENERATION, MAX_LOGINS, TokenLogin, TokenLogins, digest_of, make_token
from pyrimage.identity.user_files import UserFiles
from pyrimage.models import TokenRow
from servers.in_process_server import SECONDS
from servers.processes import wait_until

HOUR = timedelta(hours=1)


class Subject:
    """The logins under test: their database, their files."""

    def __init__(self, installation: Installation, directory: Path) -> None:
        self.installation, self.directory = installation, directory
        self.tokens = installation.catalogue.tokens
        self.files = UserFiles(write_users(directory))
        self.logins = TokenLogins(self.tokens, self.files, HOUR)

    def api_token(self, user: str = "alice", project: str | None = None, **more: Any) -> str:
        """Make an API token as the command does."""
        project = project or next(iter(USERS.get(user, USERS["alice"])))
        secret, token = make_token(user, project, **{"expires_at": None, **more})
        self.tokens.add(token)
        return secret

    def log_in(self, project: str = "tenant-a", parent: str | None = None) -> str:
        """Log alice in, by password unless there is a parent."""
        user = self.files.find("alice")
        assert user is not None
        return self.logins.log_in(user, project, None if parent is None else self.row(parent))[0]

    def row(self, secret: str) -> Token:
        token = self.tokens.find(digest_of(secret))
        assert token is not None
        return token

    def is_valid(self, secret: str) -> bool:
        try:
            self.logins.identify(secret)
        except Unauthenticated:
            return False
        return True

    def change(self, secret: str, **columns: Any) -> None:
        """Write columns of the row, as time does."""
        with self.installation.engine.begin() as connection:
            connection.execute(update(TokenRow).where(TokenRow.digest == digest_of(secret)).values(**columns))


@pytest.fixture
def subject(installation: Installation, tmp_path: Path) -> Subject:
    return Subject(installation, tmp_path)


@pytest.mark.parametrize(
    ("user", "project", "read_only", "expected"),
    [
        ("alice", None, False, Identity("alice", "tenant-a", frozenset({"member"}))),
        ("alice", None, True, Identity("alice", "tenant-a", frozenset({"member"}), can_write=False)),
        ("alice", "tenant-b", False, Identity("alice", "tenant-b", frozenset({"reader"}), can_write=False)),
        ("root", "operators", False, Identity("root", "operators", frozenset({"member", "admin"}))),
    ],
)
def test_a_token_is_its_user_in_its_project(
    subject: Subject, user: str, project: str | None, read_only: bool, expected: Identity
) -> None:
    assert subject.logins.identify(subject.api_token(user, project, read_only=read_only)) == expected


def test_only_the_digest_of_a_secret_is_stored(subject: Subject) -> None:
    secret = subject.api_token()
    assert secret.startswith("pyr_")
    assert len({secret, subject.api_token()}) == 2
    assert secret not in repr(stored(subject.installation))
    assert secret.removeprefix("pyr_") not in repr(stored(subject.installation))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "pyr_",
        "pyr_" + "x" * 42,
        "pyr_" + "x" * 44,
        "PYR_" + "x" * 43,
        "pyr_" + "x" * 42 + "=",
        "pyr_" + "x" * 42 + "\u0660",
        "pyr_" + "x" * 42 + "\ud800",
        "pyr_" + "x" * 43 + "\n",
        "pyr_" + "x" * 10**6,
    ],
)
def test_what_cannot_be_a_token_asks_no_database(subject: Subject, statements: list[str], secret: str) -> None:
    """S41."""
    with pytest.raises(Unauthenticated):
        subject.logins.identify(secret)
    assert statements == []


def test_a_token_that_is_none_writes_nothing(subject: Subject, statements: list[str]) -> None:
    """S41: one question, for it could be one."""
    before = stored(subject.installation)
    statements.clear()
    with pytest.raises(Unauthenticated) as refused:
        subject.logins.identify("pyr_" + "x" * 43)
    assert [statement.split()[0] for statement in statements] == ["SELECT"]
    assert stored(subject.installation) == before
    assert refused.value.challenge


def test_a_valid_token_costs_one_select_and_its_use_one_update_an_hour(subject: Subject, statements: list[str]) -> None:
    secret, login = subject.api_token(), subject.log_in()
    words = []
    for minutes in (0, 59, 61, 61):
        last = subject.row(secret).last_used_at
        if last is not None:
            subject.change(secret, last_used_at=utcnow() - timedelta(minutes=minutes))
        statements.clear()
        subject.logins.identify(secret)
        words.append([statement.split()[0] for statement in statements])
    assert words == [["SELECT", "UPDATE"], ["SELECT"], ["SELECT", "UPDATE"], ["SELECT", "UPDATE"]]
    statements.clear()
    subject.logins.identify(login)
    assert len(statements) == 1
    assert subject.row(login).last_used_at is None


def test_a_use_that_cannot_be_written_fails_no_request_and_is_told_once(
    own_installation: Installation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subject = Subject(own_installation, tmp_path)
    secrets = [subject.api_token(), subject.api_token()]
    on_connect(own_installation, "query_only = ON")
    for secret in (*secrets, *secrets):
        assert subject.logins.identify(secret).user == "alice"
    assert [record.levelname for record in caplog.records if "is not written" in record.message] == ["WARNING"]
    assert not any(secret in caplog.text for secret in secrets)


def test_one_request_at_most_waits_until_a_use_can_be_written(own_installation: Installation, tmp_path: Path) -> None:
    subject = Subject(own_installation, tmp_path)
    secret = subject.api_token()
    with own_installation.engine.connect() as writing, ThreadPoolExecutor() as threads:
        writing.execute(update(TokenRow).values(read_only=True))
        waiting = threads.submit(subject.logins.identify, secret)
        wait_until(subject.logins._noting.locked, SECONDS)
        assert subject.logins.identify(secret).user == "alice"
        assert not waiting.done()
        writing.rollback()
        assert waiting.result(SECONDS).user == "alice"
    assert subject.row(secret).last_used_at is not None


def test_a_revoked_token_is_refused_at_once_by_whoever_has_seen_it(subject: Subject) -> None:
    """As other workers and servers do: nobody remembers that a token was valid."""
    others = TokenLogins(subject.tokens, subject.files, HOUR)
    secret = subject.api_token()
    assert [others.identify(secret).user, subject.logins.identify(secret).user] == ["alice", "alice"]
    subject.logins.revoke(subject.row(secret))
    for logins in (others, subject.logins):
        with pytest.raises(Unauthenticated):
            logins.identify(secret)


def test_an_expired_token_is_refused(subject: Subject) -> None:
    secret = subject.api_token(expires_at=utcnow() + HOUR)
    assert subject.is_valid(secret)
    subject.change(secret, expires_at=utcnow())
    assert not subject.is_valid(secret)


def test_a_user_who_leaves_has_no_token_and_one_who_comes_back_has_it_again(subject: Subject) -> None:
    first, other = subject.api_token(), subject.api_token(project="tenant-b")
    write_users(subject.directory, {**USERS, "alice": {"tenant-a": "member"}})
    assert [subject.is_valid(first), subject.is_valid(other)] == [True, False]
    write_users(subject.directory, {"bob": USERS["bob"]})
    assert [subject.is_valid(first), subject.is_valid(other)] == [False, False]
    write_users(subject.directory)
    assert [subject.is_valid(first), subject.is_valid(other)] == [True, True]


def test_a_database_that_is_away_is_no_wrong_token(subject: Subject) -> None:
    def away(*arguments: Any) -> None:
        raise DatabaseAway("The database cannot be reached.")

    secret, engine = subject.api_token(), subject.installation.engine
    event.listen(engine, "before_cursor_execute", away)
    with pytest.raises(DatabaseAway):
        subject.logins.identify(secret)
    event.remove(engine, "before_cursor_execute", away)


# Logins


def found(subject: Subject, secret: str) -> TokenLogin:
    return subject.logins.get(secret)


def test_a_login_by_password_lasts_its_time_and_may_change_its_project(subject: Subject) -> None:
    secret = subject.log_in("tenant-b")
    login = found(subject, secret)
    assert login.identity == Identity("alice", "tenant-b", frozenset({"reader"}), can_write=False)
    assert login.token.expires_at is not None
    assert abs(login.token.expires_at - utcnow() - HOUR) < timedelta(minutes=1)
    assert [login.may_scope_to(project) for project in ("tenant-a", "tenant-b", "tenant-c")] == [True, True, False]


@pytest.mark.parametrize("lifetime", [timedelta(minutes=1), timedelta(days=9), None])
def test_a_login_ends_with_the_token_that_it_was_made_with_at_the_latest(
    subject: Subject, lifetime: timedelta | None
) -> None:
    expires_at = None if lifetime is None else utcnow() + lifetime
    api = subject.api_token(expires_at=expires_at, read_only=True)
    secret = subject.log_in(parent=api)
    made = subject.row(secret)
    assert made.expires_at is not None
    assert made.expires_at == expires_at if lifetime == timedelta(minutes=1) else made.expires_at < utcnow() + HOUR
    assert (made.parent, made.read_only, subject.row(api).is_login) == (subject.row(api).id, True, False)
    assert not subject.logins.identify(secret).can_write
    subject.logins.revoke(subject.row(api))
    assert not subject.is_valid(secret)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_a_login_returns_is_what_its_token_is_from_then_on(subject: Subject, read_only: bool) -> None:
    api = found(subject, subject.api_token(read_only=read_only))
    secret, login = subject.logins.log_in(api.user, "tenant-a", api.token)
    assert login == found(subject, secret)


def test_a_token_and_what_is_made_from_it_are_for_one_project(subject: Subject) -> None:
    api = subject.api_token()
    for secret in (api, subject.log_in(parent=api), subject.log_in(parent=subject.log_in("tenant-b"))):
        login = found(subject, secret)
        assert [login.may_scope_to(project) for project in ("tenant-a", "tenant-b")] == [True, False]


def test_tokens_are_made_from_tokens_so_many_times(subject: Subject) -> None:
    secret = subject.log_in()
    for _ in range(MAX_GENERATION):
        secret = subject.log_in(parent=secret)
    assert subject.is_valid(secret)
    with pytest.raises(Unauthenticated, match="log in anew"):
        subject.log_in(parent=secret)


def test_no_login_is_made_with_a_token_that_has_just_gone(subject: Subject) -> None:
    secret, token = make_token("alice", "tenant-a", expires_at=None)
    subject.tokens.add(token)
    user = found(subject, secret).user
    subject.tokens.revoke(token.id)
    with pytest.raises(Unauthenticated):
        subject.logins.log_in(user, "tenant-a", token)


def test_a_login_removes_those_of_its_user_that_have_expired_and_the_oldest_of_too_many(subject: Subject) -> None:
    """S38: the rows of a user's logins are bounded."""
    expired, oldest, api = subject.log_in(), subject.log_in(), subject.api_token(expires_at=utcnow())
    subject.change(expired, expires_at=utcnow())
    many = [make_token("alice", "tenant-a", expires_at=utcnow() + HOUR)[1] for _ in range(MAX_LOGINS - 1)]
    with subject.installation.engine.begin() as connection:
        connection.execute(insert(TokenRow), [{**dataclasses.asdict(token), "is_login": True} for token in many])
    subject.log_in()
    assert subject.installation.rows(TokenRow) == MAX_LOGINS + 1  # the API token is counted elsewhere
    assert subject.tokens.find(digest_of(expired)) is None
    assert not subject.is_valid(oldest)
    assert subject.tokens.of_user() == [subject.row(api)]
