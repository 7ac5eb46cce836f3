"""The files of users: what they say, what is wrong in them, and that they are read again when they change."""

import configparser
import contextlib
import logging
import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import hash_of, write_users
from pyrimage.catalogue.records import Identity
from pyrimage.errors import ConfigurationError
from pyrimage.identity.user_files import ROLES, User, UserFiles, _File, parse_htpasswd, parse_users, user_paths
from pyrimage.settings import Settings
from servers.in_process_server import SECONDS

PATH = Path("/etc/pyrimage/users")
ALICE = User("alice", {"build": frozenset({"member"}), "lab": frozenset({"reader", "admin"})})
TEXT = """\
# The users.

[alice]
build = member
  ; her second project
lab=reader , admin
[ bob@example.org ]
b.o-b_1 = reader
"""


def names(files: UserFiles) -> list[str]:
    return [user.name for user in files.all()]


def rewrite(path: Path, text: str) -> None:
    """Change a file as careful programs do: there is an old one or a new one, and never half of it."""
    new = path.with_name("new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o600)
    new.rename(path)


def test_a_section_is_a_user_and_a_line_a_project() -> None:
    assert parse_users(PATH, TEXT) == {
        "alice": ALICE.projects,
        "bob@example.org": {"b.o-b_1": frozenset({"reader"})},
    }
    assert list(parse_users(PATH, TEXT)["alice"]) == ["build", "lab"]
    assert parse_users(PATH, "") == {}


project_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True)
projects = st.dictionaries(project_names, st.sets(st.sampled_from(ROLES), min_size=1), min_size=1, max_size=4)


@given(st.dictionaries(project_names.filter(lambda name: name != "DEFAULT"), projects, max_size=4))
def test_other_programs_read_the_same(users: dict[str, dict[str, set[str]]]) -> None:
    lines = []
    for name, theirs in users.items():
        lines += [f"[{name}]", *(f"{project} = {', '.join(roles)}" for project, roles in theirs.items())]
    ini = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    ini.optionxform = str  # type: ignore[assignment,method-assign]
    ini.read_string("\n".join(lines))
    expected = {name: dict(section) for name, section in ini.items() if name != "DEFAULT"}
    found = parse_users(PATH, "\n".join(lines))
    assert {name: list(theirs) for name, theirs in found.items()} == {
        name: list(theirs) for name, theirs in expected.items()
    }
    assert found == users


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[alice]\nbuild = member\n[alice]\nlab = member", 3, "the user alice is there twice"),
        ("[alice]\nbuild = member\nbuild = reader", 3, "the project build is there twice"),
        ("[alice]\nbuild = owner", 2, "the roles are admin, member, reader"),
        ("[alice]\nbuild =", 2, "the roles are admin, member, reader"),
        ("[alice]\nbuild = member, ", 2, "the roles are admin, member, reader"),
        ("[alice]\nbuild", 2, "write [user], and below it"),
        ("\nbuild = member", 2, "write [user], and below it"),
        ("[alice\nbuild = member", 1, "write [user], and below it"),
        ("[]\nbuild = member", 1, "the name of a user is"),
        ("[al ice]\nbuild = member", 1, "the name of a user is"),
        (f"[{'a' * 65}]\nbuild = member", 1, "the name of a user is"),
        ("[.alice]\nbuild = member", 1, "the name of a user is"),
        ("[alicé]\nbuild = member", 1, "the name of a user is"),
        ("[alice]\nbuild/x = member", 2, "the name of a project is"),
        ("[alice]\n= member", 2, "the name of a project is"),
        ("[alice]\n\n[bob]\nbuild = member", 1, "alice has no project"),
        ("[alice]\nbuild = member\n[bob]", 3, "bob has no project"),
    ],
)
def test_what_is_wrong_with_users_is_told_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_users(PATH, text)
    assert str(caught.value).startswith(f"{PATH}, line {line}: {problem}")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("# old ones\nalice:$apr1$zzzzzzzz$aaaaaaaaaaaaaaaaaaaaaa", 2, "the password of alice is hashed neither"),
        ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", 1, "the password of alice is hashed neither"),
        ("alice:secret-words", 1, "the password of alice is hashed neither"),
        ("alice:", 1, "the password of alice is hashed neither"),
        ("alice", 1, "the password of alice is hashed neither"),
        ("al ice:x", 1, "the name of a user is"),
        ("$2b$04$secret-words", 1, "the name of a user is"),
        (f"alice:{hash_of('a')}\n\nalice:{hash_of('b')}", 3, "the user alice is there twice"),
    ],
)
def test_what_is_wrong_with_passwords_is_told_with_its_line_and_without_the_hash(
    text: str, line: int, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_htpasswd(PATH, text)
    assert str(caught.value).startswith(f"{PATH}, line {line}: {problem}")
    assert "secret" not in str(caught.value)


def test_a_login_is_in_the_first_project_unless_it_names_another() -> None:
    assert ALICE.identity() == Identity("alice", "build", frozenset({"member"}))
    assert ALICE.identity("lab") == Identity("alice", "lab", frozenset({"reader", "admin"}))
    with pytest.raises(KeyError):
        ALICE.identity("elsewhere")


@pytest.mark.parametrize(
    ("roles", "can_write"), [("reader", False), ("member", True), ("admin", True), ("reader, member", True)]
)
def test_who_is_a_reader_only_cannot_write(roles: str, can_write: bool) -> None:
    user = User("u", parse_users(PATH, f"[u]\np = {roles}")["u"])
    assert user.identity().can_write == can_write
    assert not user.identity(can_write=False).can_write
    assert user.identity().is_admin == ("admin" in roles)


def test_a_user_is_in_both_files_or_does_not_exist(tmp_path: Path) -> None:
    path = write_users(tmp_path, {"alice": {"p": "member"}, "bob": {"p": "member"}})
    rewrite(tmp_path / "htpasswd", f"bob:{hash_of('b')}\neve:{hash_of('e')}\n")
    files = UserFiles(path)
    assert names(files) == ["bob"]
    assert (files.find("alice"), files.find("eve")) == (None, None)
    assert files.find("bob") == User("bob", {"p": frozenset({"member"})})
    assert (files.find_hash("alice"), files.find_hash("eve")) == (None, hash_of("e"))
    assert files.hashes() == [hash_of("b"), hash_of("e")]


def test_passwords_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    (tmp_path / "htpasswd").rename(tmp_path / "other")
    assert UserFiles(path, tmp_path / "other").find("alice") is not None


def test_the_settings_say_where_the_files_are(tmp_path: Path) -> None:
    path, other = tmp_path / "users", tmp_path / "other"
    assert user_paths(Settings(auth="users", users_file=path)) == (path, tmp_path / "htpasswd")
    assert user_paths(Settings(auth="users", users_file=path, htpasswd_file=other)) == (path, other)
    with pytest.raises(ConfigurationError, match=r"pyrimage\.users_file is not set"):
        user_paths(Settings(auth="users", htpasswd_file=other))


@pytest.mark.parametrize("name", ["users", "htpasswd"])
def test_a_file_that_is_missing_at_first_is_an_error(name: str, tmp_path: Path) -> None:
    path = write_users(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name} cannot be read: No such file or directory"):
        UserFiles(path)


def test_a_file_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    path.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigurationError, match="users is not UTF-8"):
        UserFiles(path)


def test_what_changes_is_read_again(tmp_path: Path) -> None:
    files = UserFiles(path := write_users(tmp_path, {"alice": {"p": "member"}}))
    rewrite(path, "[alice]\np = reader\n[bob]\np = member\n")
    assert names(files) == ["alice"]
    assert not files.all()[0].identity().can_write
    with (tmp_path / "htpasswd").open("a", encoding="utf-8") as htpasswd:  # as an editor does, in place
        htpasswd.write(f"bob:{hash_of('b')}\n")
    assert names(files) == ["alice", "bob"]
    rewrite(path, "[bob]\np = member\n")
    assert (files.find("alice"), names(files)) == (None, ["bob"])


def test_what_does_not_change_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, read, read_text = UserFiles(write_users(tmp_path)), [], Path.read_text

    def note(path: Path, *more: str, **options: str) -> str:
        read.append(path.name)
        return read_text(path, *more, **options)

    monkeypatch.setattr(Path, "read_text", note)
    assert names(files) == names(files)
    assert read == []
    rewrite(tmp_path / "htpasswd", f"bob:{hash_of('b')}\n")
    assert names(files) == names(files) == ["bob"]
    assert read == ["htpasswd"]


def damage(path: Path) -> None:
    rewrite(path, "bo b\n")


def replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_two_that_notice_a_change_at_once_read_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = UserFiles(path := write_users(tmp_path, {"alice": {"p": "member"}}))
    rewrite(path, "damaged")
    both, stat, waiting = threading.Barrier(2), Path.stat, [1, 2]

    def meet(self: Path, **options: bool) -> os.stat_result:
        status = stat(self, **options)
        if waiting:
            waiting.pop()
            both.wait(20)
        return status

    monkeypatch.setattr(Path, "stat", meet)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(files.find, ["alice", "alice"]))
    assert [user.name for user in found if user is not None] == ["alice", "alice"]
    assert len(caplog.messages) == 1


BREAKS: dict[str, Callable[[Path], None]] = {"damaged": damage, "lost": Path.unlink, "unreadable": replace}


@pytest.mark.parametrize("name", ["users", "htpasswd"])
@pytest.mark.parametrize("how", BREAKS)
def test_what_a_file_said_before_stays_in_force_when_it_is_damaged(
    how: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, broken = UserFiles(write_users(tmp_path, {"alice": {"p": "member"}})), tmp_path / name
    good = broken.read_text(encoding="utf-8")
    caplog.set_level(logging.WARNING)
    BREAKS[how](broken)
    assert names(files) == names(files) == ["alice"]
    (said,) = caplog.messages  # once for each change
    assert str(broken) in said
    assert said.endswith("What the file said before stays in force.")
    if how == "unreadable":
        broken.rmdir()
        assert names(files) == ["alice"]
        assert len(caplog.messages) == 2
    more = {"users": "[bob]\np = member\n", "htpasswd": f"bob:{hash_of('b')}\n"}
    rewrite(broken, good + more[name])
    other = tmp_path / ("htpasswd" if name == "users" else "users")
    rewrite(other, other.read_text(encoding="utf-8") + more[other.name])
    assert names(files) == ["alice", "bob"]


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o640, False), (0o660, True), (0o604, True), (0o602, True)], ids=oct
)
def test_files_for_others_are_told_at_first(
    mode: int, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_users(tmp_path)
    (tmp_path / "htpasswd").chmod(mode)
    UserFiles(path).all()
    assert [record.levelname for record in caplog.records] == (["WARNING"] if is_told else [])
    assert all(f"can read or change {tmp_path / 'htpasswd'}" in said for said in caplog.messages)


def test_who_comes_while_a_change_is_read_waits_for_it(tmp_path: Path) -> None:
    reading, goes_on = threading.Event(), threading.Event()

    def parse(path: Path, text: str) -> str:
        if text == "new":
            reading.set()
            assert goes_on.wait(SECONDS)
        return text

    path = tmp_path / "file"
    path.write_text("old")
    file = _File(path, parse)
    path.write_text("new")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(file.read)
        assert reading.wait(SECONDS)
        second = threads.submit(file.read)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        goes_on.set()
        assert [first.result(SECONDS), second.result(SECONDS)] == ["new"] * 2


def test_a_change_that_no_descriptor_was_left_for_is_read_later(tmp_path: Path) -> None:
    files = UserFiles(write_users(tmp_path))
    write_users(tmp_path, {"bob": {"build": "member"}})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 2, hard)
        )
        with contextlib.suppress(OSError):
            while True:
                descriptors.append(os.dup(0))
        assert files.find("alice") is not None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in descriptors:
            os.close(each)
    assert files.find("alice") is None
