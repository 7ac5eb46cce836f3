"""``pyrimage-manage token``, and the tokens that ``scrub`` removes."""

import io
import re

import pytest

from accounts import write_users
from managed import Manage
from pyrimage.identity.tokens import digest_of
from servers.databases import unreachable_url

LONG_AGO = "2011-09-22 12:00:00.000000"


@pytest.fixture
def manage(manage: Manage) -> Manage:
    """The command in a directory with users, and with a database."""
    manage.configure("pyrimage.users_file", str(write_users(manage.directory)))
    manage("db", "upgrade")
    return manage


def create(manage: Manage, *options: str) -> str:
    """Make a token, and return its id."""
    told = manage("token", "create", *options)
    found = re.search(r"^Token ([0-9a-f]{16}) of [a-z]+\. It is not shown again\.$", told.errors, re.MULTILINE)
    assert found is not None, told.errors
    return found[1]


def ids(manage: Manage, *options: str) -> list[str]:
    return [line.split()[0] for line in manage("token", "list", *options).output.splitlines()[1:]]


def test_create_prints_the_token_alone_and_stores_its_digest(manage: Manage) -> None:
    told = manage("token", "create", "--user", "alice")
    assert re.fullmatch("pyr_[A-Za-z0-9_-]{43}\n", told.output)
    columns = "user, project, digest, is_login, read_only, expires_at, last_used_at"
    stored = manage.sql(f"SELECT {columns} FROM tokens")
    assert stored == [("alice", "tenant-a", digest_of(told.output.strip()), 0, 0, None, None)]


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("90d", 90 * 24), ("1w", 7 * 24)])
def test_create_takes_project_rights_and_end(manage: Manage, text: str, hours: int) -> None:
    create(manage, "--user", "alice", "--project", "tenant-b", "--read-only", "--expires", text)
    lasts = "round((julianday(expires_at) - julianday(created_at)) * 24)"
    assert manage.sql(f"SELECT project, read_only, {lasts} FROM tokens") == [("tenant-b", 1, hours)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--user nobody", "no user 'nobody'"),
        ("--user alice --project tenant-c", "tenant-a, tenant-b"),
        *((f"--user alice --expires {text}", "12h, 90d or 52w") for text in ("90", "0d", "1y", "99999d", "never")),
    ],
)
def test_create_says_what_is_wrong_and_makes_nothing(manage: Manage, options: str, reason: str) -> None:
    assert reason in manage.refused("token", "create", *options.split())
    assert manage.sql("SELECT * FROM tokens") == []


def test_without_users_there_is_nobody_to_make_a_token_for(manage: Manage) -> None:
    manage.configure("pyrimage.users_file", None)
    assert "pyrimage.users_file is not set" in manage.refused("token", "create", "--user", "alice")


def test_before_the_upgrade_the_commands_name_it(manage: Manage) -> None:
    manage.database.unlink()
    for command in ("create --user alice", "list", "revoke x"):
        assert "db upgrade" in manage.refused("token", *command.split())


def test_list_shows_what_there_is_to_know_and_no_secret(manage: Manage) -> None:
    first = create(manage, "--user", "alice", "--read-only", "--expires", "90d")
    second = create(manage, "--user", "bob", "--project", "tenant-b")
    manage.sql("UPDATE tokens SET created_at = ?, expires_at = ? WHERE id = ?", LONG_AGO, LONG_AGO, first)
    manage.sql("UPDATE tokens SET created_at = ?, last_used_at = ? WHERE id = ?", LONG_AGO, LONG_AGO, second)
    shown = manage("token", "list").output
    assert [line.split("  ") for line in re.sub(" {2,}", "  ", shown).splitlines()] == [
        ["ID", "USER", "PROJECT", "RIGHTS", "CREATED", "EXPIRES", "LAST USED"],
        [first, "alice", "tenant-a", "read", "2011-09-22 12:00", "2011-09-22 12:00", "never"],
        [second, "bob", "tenant-b", "all", "2011-09-22 12:00", "never", "2011-09-22 12:00"],
    ]
    assert not any(digest in shown for (digest,) in manage.sql("SELECT digest FROM tokens"))
    assert ids(manage, "--user", "bob") == [second]


def test_revoke_ends_one_token_or_all_of_a_user(manage: Manage) -> None:
    first, second, third = (create(manage, "--user", user) for user in ("alice", "alice", "alice"))
    others = create(manage, "--user", "bob")
    assert first in manage("token", "revoke", first).output
    assert ids(manage) == [second, third, others]
    assert "no token" in manage.refused("token", "revoke", first)
    assert manage("token", "revoke", "--user", "alice").output.startswith("2 API tokens of alice")
    assert ids(manage) == [others]


@pytest.mark.parametrize("arguments", [(), ("x", "--user", "alice")])
def test_revoke_wants_one_or_the_other(manage: Manage, arguments: tuple[str, ...]) -> None:
    token = create(manage, "--user", "alice")
    assert "--user" in manage.refused("token", "revoke", *arguments)
    assert ids(manage) == [token]


def test_scrub_removes_what_has_expired(manage: Manage) -> None:
    with manage.serving():
        pass
    expired, valid = create(manage, "--user", "alice", "--expires", "1d"), create(manage, "--user", "alice")
    manage.sql("UPDATE tokens SET expires_at = ? WHERE id = ?", LONG_AGO, expired)
    assert "expired tokens: 1" in manage("scrub", "--dry-run").output
    assert ids(manage) == [expired, valid]
    assert manage("scrub").output == "expired tokens: 1\n0 cleaned up, 0 failed.\n"
    assert ids(manage) == [valid]
    assert "expired" not in manage("scrub").output


def test_removing_a_user_revokes_its_tokens_for_the_name_may_be_given_to_another(manage: Manage) -> None:
    create(manage, "--user", "alice")
    others = create(manage, "--user", "bob")
    manage("user", "remove", "alice")
    assert ids(manage) == [others]
    manage.configure("sqlalchemy.url", unreachable_url("sqlite", manage.directory))
    assert "token revoke --user bob" in manage.refused("user", "remove", "bob")
    assert "bob" not in manage("user", "list").output


def test_a_new_user_has_no_tokens_that_an_earlier_one_of_the_name_left(
    manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(manage, "--user", "alice")
    write_users(manage.directory, {"bob": {"tenant-b": "member"}})  # not by the command
    monkeypatch.setattr("sys.stdin", io.StringIO("another password\n"))
    manage("user", "add", "alice", "--project", "tenant-a")
    assert ids(manage) == []


def test_removing_a_user_before_there_are_tokens_needs_no_database(manage: Manage) -> None:
    manage.database.unlink()
    manage("user", "remove", "alice")
    assert "alice" not in manage("user", "list").output
    assert not manage.database.exists()  # it would be whose who ran the command
