"""``pyrimage-manage user``: it makes and changes the files that ``pyrimage.auth = users`` reads."""

import getpass
import io
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from accounts import basic, hash_of, write_users
from managed import Manage
from pyrimage.errors import PyrimageError
from pyrimage.identity.hashes import verify
from pyrimage.identity.user_changes import HEAD, UserChanges
from pyrimage.identity.user_files import UserFiles, parse_htpasswd, parse_users

PASSWORD = "correct horse"


class Users:
    """The command, with what it is told on standard input, and the files that it works on."""

    def __init__(self, manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manage, self._monkeypatch = manage, monkeypatch
        self.directory = manage.directory / "var"
        self.path, self.htpasswd = self.directory / "users", self.directory / "htpasswd"
        self.directory.mkdir()

    def type(self, line: bytes) -> None:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line), encoding="utf-8"))

    def __call__(self, words: str, line: str = f"{PASSWORD}\n") -> str:
        """Run an action, and return what it says."""
        self.type(line.encode())
        return self.manage("user", *words.split()).output

    def refused(self, words: str, line: bytes = f"{PASSWORD}\n".encode()) -> str:
        """Run an action that must be refused, and must change nothing."""
        before = self.texts()
        self.type(line)
        said = self.manage.refused("user", *words.split())
        assert self.texts() == before
        return said

    def texts(self) -> dict[str, str]:
        return {path.name: path.read_text(encoding="utf-8") for path in self.directory.iterdir() if path.is_file()}

    def projects(self) -> dict[str, dict[str, frozenset[str]]]:
        return parse_users(self.path, self.path.read_text(encoding="utf-8"))

    def hashes(self) -> dict[str, str]:
        return parse_htpasswd(self.htpasswd, self.htpasswd.read_text(encoding="utf-8"))


@pytest.fixture
def users(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> Users:
    return Users(manage, monkeypatch)


@pytest.fixture
def some(users: Users) -> Users:
    """The command where there are users already."""
    write_users(users.directory)
    return users


@pytest.mark.parametrize("words", ["", *("add", "passwd", "remove", "list", "project")])
def test_help_is_there_for_every_action_and_none_takes_a_password(manage: Manage, words: str) -> None:
    shown = manage("user", *words.split(), "--help").output
    assert shown.startswith(f"usage: pyrimage-manage user {words}".rstrip())
    assert "--pass" not in shown


@pytest.mark.parametrize(
    "words",
    [
        *("", "no-such", "add", "add alice", "add --project build", "add alice --project build --role owner", "passwd"),
        *("add alice secret --project build", "passwd alice secret", "remove", "list alice", "project alice build"),
        *("project alice --remove", "project alice build --remove --role admin", "project alice build --role owner"),
    ],
)
def test_what_is_no_action_is_refused_with_the_usage(manage: Manage, words: str) -> None:
    assert manage("user", *words.split(), status=2).errors.startswith("usage: pyrimage-manage")


def test_the_first_user_makes_both_files_for_their_owner_alone(users: Users, umask: int) -> None:
    assert users("add alice --project build") == "alice is a user now, in the project build.\n"
    assert users.path.read_text(encoding="utf-8") == f"{HEAD}\n[alice]\nbuild = member\n"
    assert list(users.hashes()) == ["alice"]
    assert verify(PASSWORD, users.hashes()["alice"])
    assert sorted(path.name for path in users.directory.iterdir()) == ["htpasswd", "users"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in users.directory.iterdir()} == {0o600}


def test_who_was_added_logs_in(users: Users) -> None:
    users("add alice --project build --role member")
    users("add root --project lab --role reader --role admin", "another password\r\n")
    users.manage.configure("pyrimage.auth", "users")
    users.manage("db", "upgrade")
    with users.manage.serving() as installation:
        app = installation.client(REMOTE_ADDR="192.0.2.1")
        made = app.post("/images", headers={"x-image-meta-name": "x", **basic("alice", PASSWORD)}, status=201)
        assert made.json["image"]["owner"] == "build"
        app.get(made.headers["Location"], headers=basic("root", "another password"), status=404)  # it has no data
        app.head(made.headers["Location"], headers=basic("root", "another password"), status=200)
        users("passwd alice", "a new password\n")
        app.get("/images", headers=basic("alice", PASSWORD), status=401)
        app.get("/images", headers=basic("alice", "a new password"), status=200)
        users("project alice lab --role reader")
        users("project alice build --remove")
        app.post("/images", headers={"x-image-meta-name": "x", **basic("alice", "a new password")}, status=403)
        users("remove alice")
        app.get("/images", headers=basic("alice", "a new password"), status=401)


def test_a_list_shows_projects_and_who_cannot_log_in(some: Users) -> None:
    some.htpasswd.write_text(some.htpasswd.read_text().replace("bob:", "# bob:") + f"eve:{hash_of('e')}\nold:x\n")
    assert some("list").splitlines() == [
        "alice: tenant-a = member; tenant-b = reader",
        "bob: tenant-b = member; no password, cannot log in",
        "rita: tenant-a = reader",
        "root: operators = admin, member",
        "eve: no project, cannot log in",
        "old: no project, cannot log in",
    ]


def test_a_list_of_nobody_is_empty(users: Users) -> None:
    assert users("list") == ""
    assert users.texts() == {}


def test_a_user_that_is_half_there_can_be_completed_or_removed(some: Users) -> None:
    some.htpasswd.write_text(f"eve:{hash_of('e')}\nold:$1$md5\n")
    assert "user project and user passwd" in some.refused("add alice --project build")
    assert "has a password, but no project" in some.refused("add eve --project build")
    some("passwd alice")
    some("project eve build --role admin")
    some("passwd old")
    some("remove old")
    some("remove bob")
    assert list(some.hashes()) == ["eve", "alice"]
    assert some.projects()["eve"] == {"build": frozenset({"admin"})}
    assert UserFiles(some.path).find("eve") is not None
    assert "bob" not in some.projects()


def test_roles_and_projects_are_set_and_removed(some: Users) -> None:
    assert some("project alice tenant-b --role member --role admin") == (
        "alice is member and admin in the project tenant-b now.\n"
    )
    some("project alice new --role reader")
    assert list(some.projects()["alice"].items()) == [
        ("tenant-a", frozenset({"member"})),
        ("tenant-b", frozenset({"member", "admin"})),
        ("new", frozenset({"reader"})),
    ]
    assert some("project alice tenant-a --remove") == "alice is no user of the project tenant-a now.\n"
    some("project alice tenant-b --remove")
    assert some.projects()["alice"] == {"new": frozenset({"reader"})}
    assert "is in no other project" in some.refused("project alice new --remove")
    assert "is not in the project tenant-a" in some.refused("project alice tenant-a --remove")


COMMENTED = """\
# These work on images.
[alice]
# her own
 tenant-a = member

; the other one
tenant-b=reader

# who builds
[ bob ]
tenant-b = member
# the end
"""


def test_what_else_stands_in_the_files_stays(some: Users) -> None:
    some.path.write_text(COMMENTED)
    some.htpasswd.write_text(f"# old\nalice:{hash_of('a')}\n\n; more\nbob:{hash_of('b')}")
    some("project alice tenant-a --role admin")
    some("project bob lab --role member")
    assert some.path.read_text() == COMMENTED.replace(" tenant-a = member", "tenant-a = admin").replace(
        "tenant-b = member\n", "tenant-b = member\nlab = member\n"
    )
    some("remove alice")
    assert some.path.read_text().startswith("# These work on images.\n\n# who builds\n[ bob ]\n")
    some("passwd bob")
    some("add eve --project lab")
    lines = some.htpasswd.read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["# old", "", "; more", "bob", "eve"]
    assert verify(PASSWORD, some.hashes()["bob"])


@pytest.mark.parametrize(
    ("words", "line", "reason"),
    [
        ("add eve --project lab", b"1234567\n", "a password has 8 characters or more"),
        ("add eve --project lab", b"", "a password has 8 characters or more"),
        ("passwd alice", b"1234567\n", "a password has 8 characters or more"),
        ("passwd alice", b"p" * 73, "up to 72 bytes"),
        ("passwd alice", "é".encode() * 37, "up to 72 bytes"),
        ("passwd alice", b"12345678\0", "no control characters"),
        ("passwd alice", b"12345678\xff", "not UTF-8"),
        ("add .eve --project lab", b"12345678\n", "The name of a user is"),
        ("add e:ve --project lab", b"12345678\n", "The name of a user is"),
        ("add eve --project la/b", b"12345678\n", "The name of a project is"),
        ("add alice --project lab", b"12345678\n", "There is a user alice"),
        ("project alice la/b --role admin", b"", "The name of a project is"),
        *((f"{words}", b"12345678\n", "There is no user 'eve'") for words in ("passwd eve", "remove eve")),
        ("project eve lab --role admin", b"", "There is no user 'eve'"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(some: Users, words: str, line: bytes, reason: str) -> None:
    assert reason in some.refused(words, line)


def test_a_damaged_file_is_not_changed(some: Users) -> None:
    some.path.write_text("[alice]\nlab = owner\n")
    for words in ("add eve --project lab", "passwd alice", "remove alice", "list", "project alice lab --role admin"):
        assert "users, line 2: the roles are" in some.refused(words)


def test_files_that_nobody_can_have_are_told(users: Users) -> None:
    assert "users is" not in users("list")
    users.manage.configure("pyrimage.users_file", str(users.directory / "none/users"))
    assert "none cannot be changed: No such file" in users.refused("add alice --project lab")
    users.manage.configure("pyrimage.users_file", str(users.directory))
    assert "pyrimage.users_file = " in users.refused("list")
    (users.directory / "htpasswd").mkdir()
    users.manage.configure("pyrimage.users_file", str(users.directory / "users"))
    assert "htpasswd cannot be read: Is a directory" in users.refused("add alice --project lab")
    users.manage.configure("pyrimage.users_file", None)
    assert "pyrimage.users_file is not set" in users.refused("list")


@pytest.fixture
def terminal(users: Users, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is typed at a terminal without being shown; what is left was not asked for."""
    typed: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def ask(prompt: str) -> str:
        if not typed:
            raise EOFError
        return typed.pop(0)

    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr(getpass, "getpass", ask)
    yield typed
    assert typed == []


def test_at_a_terminal_a_password_is_asked_for_twice(users: Users, terminal: list[str]) -> None:
    terminal[:] = [PASSWORD, "correct house"]
    assert users.manage.refused("user", "add", "alice", "--project", "lab").startswith("The two are not the same")
    terminal[:] = [PASSWORD]
    assert users.manage.refused("user", "add", "alice", "--project", "lab").startswith("No password was given")
    terminal[:] = [PASSWORD, PASSWORD]
    users.manage("user", "add", "alice", "--project", "lab")
    assert verify(PASSWORD, users.hashes()["alice"])


def test_no_change_of_two_commands_at_once_is_lost(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(20)]

    def add(name: str) -> None:
        changes = UserChanges(tmp_path / "users", tmp_path / "htpasswd")
        with changes.locked():
            changes.set_roles(name, "lab", ["member"])
            changes.set_hash(name, hash_of("a"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, names))
    assert {user.name for user in UserFiles(tmp_path / "users").all()} == set(names)


def test_a_file_that_cannot_be_written_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_users(tmp_path)
    before = path.read_text()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    changes = UserChanges(path, tmp_path / "htpasswd")
    with pytest.raises(PyrimageError, match="cannot be changed: No space left on device"), changes.locked():
        changes.set_roles("alice", "lab", ["member"])
    assert path.read_text() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["htpasswd", "users"]


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write_users(tmp_path / "real")
    for name in ("users", "htpasswd"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    changes = UserChanges(tmp_path / "users", tmp_path / "htpasswd")
    with changes.locked():
        changes.set_roles("eve", "lab", ["member"])
        changes.set_hash("eve", hash_of("e"))
    assert (tmp_path / "users").is_symlink()
    assert (tmp_path / "htpasswd").is_symlink()
    assert UserFiles(tmp_path / "real/users").find("eve") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_stays_with_whom_it_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    changes = UserChanges(tmp_path / "users", tmp_path / "htpasswd")
    with changes.locked():
        changes.set_roles("eve", "lab", ["member"])
        os.chown(tmp_path / "users", 1, 2)
        (tmp_path / "users").chmod(0o640)
        changes.set_roles("eve", "build", ["member"])
        changes.set_hash("eve", hash_of("e"))
    kept = [
        (each.st_uid, each.st_gid, stat.S_IMODE(each.st_mode)) for each in map(Path.stat, sorted(tmp_path.iterdir()))
    ]
    assert kept == [(12345, 23456, 0o600), (1, 2, 0o640)]


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_follows_no_link_of_another_user(users: Users, tmp_path: Path) -> None:
    """Who may write to the directory could let root change any file."""
    (tmp_path / "any").write_text("")
    users.htpasswd.unlink(missing_ok=True)
    users.htpasswd.symlink_to(tmp_path / "any")
    users("list")
    os.chown(users.htpasswd, 65534, 65534, follow_symlinks=False)
    assert "another user" in users.refused("add alice --project build")
    assert (tmp_path / "any").read_text() == ""
