"""Logins with a password: what is verified, what is remembered, and how much of it there may be."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from passlib.context import CryptContext

from accounts import hash_of, password_of, write_users
from pyrimage.errors import TooManyAttempts, Unauthenticated
from pyrimage.identity import attempts, passwords
from pyrimage.identity.attempts import ATTEMPTS, CACHED_ATTEMPTS, source_of
from pyrimage.identity.passwords import MAX_VERIFYING, MAX_WAITING, Passwords
from pyrimage.identity.user_files import UserFiles
from servers.processes import wait_until

HERE, THERE = "192.0.2.1", "192.0.2.2"
SECONDS = 20  # nothing waits longer
WRONG = "The name or the password is wrong."


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Verifications:
    """What passlib is asked for: the hashes, in order. It waits before each while it is paused."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.running = threading.Event()
        self.running.set()
        self.begun = threading.Semaphore(0)
        self.now = self.most = 0
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()

    def __call__(self, verify: Callable[..., bool], context: CryptContext, secret: str, hashed: str) -> bool:
        with self._lock:
            self.hashes.append(hashed)
            self.now += 1
            self.most = max(self.most, self.now)
        self.begun.release()
        try:
            if not self.running.wait(SECONDS):
                raise AssertionError("nobody lets it run on")
            if self.failures:
                raise self.failures.pop()
            return verify(context, secret, hashed)
        finally:
            with self._lock:
                self.now -= 1

    @property
    def count(self) -> int:
        return len(self.hashes)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    """The real verifications, counted."""
    made, verify = Verifications(), CryptContext.verify
    monkeypatch.setattr(CryptContext, "verify", lambda *words: made(verify, *words))
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(tmp_path: Path, clock: Clock) -> Passwords:
    return Passwords(UserFiles(write_users(tmp_path)), clock)


def log_in(logins: Passwords, name: str = "alice", password: str | None = None, address: str = HERE) -> str:
    """Try to log in; return the name of the user, or why it was refused."""
    try:
        return logins.check(name, password_of(name) if password is None else password, address).name
    except Unauthenticated as refusal:
        return str(refusal)


def fail(logins: Passwords, count: int, address: str = HERE) -> None:
    """Fail with so many different passwords."""
    for number in range(count):
        assert log_in(logins, password=f"wrong {number}", address=address) == WRONG


def refused(logins: Passwords, name: str = "alice", password: str | None = None, address: str = HERE) -> int:
    """Try to log in, which must be one attempt too many; return the seconds to wait."""
    with pytest.raises(TooManyAttempts) as caught:
        log_in(logins, name, password, address)
    return caught.value.seconds


def test_who_has_the_password_is_the_user(logins: Passwords, verified: Verifications) -> None:
    assert log_in(logins) == "alice"
    assert log_in(logins, password="wrong") == WRONG
    assert log_in(logins, "bob", password_of("alice")) == WRONG
    assert log_in(logins, "ALICE", password_of("alice")) == WRONG
    assert verified.count == 4


@pytest.mark.parametrize("name", ["eve", "", "al\0ice", "\ud800", "x" * 100_000])
def test_for_an_unknown_user_as_much_is_done(name: str, logins: Passwords, verified: Verifications) -> None:
    assert log_in(logins, name, "whatever") == WRONG
    assert log_in(logins, name, "whatever") == WRONG  # remembered, as it is for others
    (hashed,) = verified.hashes
    assert hashed in {hash_of(password_of(each)) for each in ("alice", "bob", "rita", "root")}


def test_a_name_that_is_unknown_is_so_in_the_same_time_each_time(tmp_path: Path, verified: Verifications) -> None:
    """Which hash it is compared with depends on the name alone, in every process."""
    for _ in range(4):
        logins = Passwords(UserFiles(write_users(tmp_path)))
        assert [log_in(logins, "eve", f"guess {number}") for number in range(4)] == [WRONG] * 4
    assert len(set(verified.hashes)) == 1


def test_the_password_of_another_lets_no_unknown_user_in(tmp_path: Path, verified: Verifications) -> None:
    logins = Passwords(UserFiles(write_users(tmp_path, {"alice": {"p": "member"}})))
    for _ in range(2):
        assert log_in(logins, "eve", password_of("alice")) == WRONG
    assert verified.hashes == [hash_of(password_of("alice"))]


def test_where_there_is_no_user_as_much_is_done(tmp_path: Path, verified: Verifications) -> None:
    logins = Passwords(UserFiles(write_users(tmp_path, {})))
    assert log_in(logins) == WRONG
    assert [hashed[:7] for hashed in verified.hashes] == ["$2b$12$"]


@pytest.mark.parametrize("password", ["p" * 73, "é" * 37, "p\0", "p\n", "\ud800"], ids=repr)
def test_a_password_that_nobody_can_have_is_wrong(password: str, logins: Passwords) -> None:
    assert log_in(logins, password=password) == WRONG


@pytest.mark.parametrize(("password", "told"), [(None, "alice"), ("wrong", WRONG)])
def test_a_login_is_remembered_for_a_minute(
    password: str | None, told: str, logins: Passwords, verified: Verifications, clock: Clock
) -> None:
    assert log_in(logins, password=password) == told
    clock.now += 59.9
    assert log_in(logins, password=password) == told
    assert verified.count == 1
    clock.now += 0.1
    assert log_in(logins, password=password) == told
    assert verified.count == 2


def test_a_login_is_remembered_for_its_source_alone(logins: Passwords, verified: Verifications) -> None:
    for address in (HERE, THERE, HERE):
        assert log_in(logins, address=address) == "alice"
    assert verified.count == 2


def test_a_password_that_changes_counts_at_once(tmp_path: Path, logins: Passwords) -> None:
    assert log_in(logins) == "alice"
    assert log_in(logins, password="new words") == WRONG
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(f"alice:{hash_of('new words')}\n")
    assert log_in(logins) == WRONG
    assert log_in(logins, password="new words") == "alice"
    htpasswd.write_text("")
    assert log_in(logins, password="new words") == WRONG


def test_a_user_that_goes_and_comes_back_is_noticed_at_once(tmp_path: Path, logins: Passwords) -> None:
    users = tmp_path / "users"
    before = users.read_text()
    for text, told in ((before, "alice"), ("", WRONG), (before, "alice")):
        users.write_text(text)
        assert log_in(logins) == told


def test_after_ten_failures_nothing_is_verified_for_a_minute(
    logins: Passwords, verified: Verifications, clock: Clock
) -> None:
    fail(logins, 5)
    clock.now += 30
    fail(logins, 5)  # the same ones, which are remembered, are failures as well
    assert refused(logins, password="wrong 0") == 30
    assert refused(logins, "eve", "wrong 0") == 30
    clock.now += 28.5
    assert refused(logins) == 2  # also the right one, or it could be found
    assert verified.count == 5
    clock.now += 1.5
    assert log_in(logins) == "alice"
    fail(logins, ATTEMPTS)


def test_others_are_not_refused(logins: Passwords) -> None:
    fail(logins, ATTEMPTS)
    refused(logins)
    assert log_in(logins, address=THERE) == "alice"


def test_right_logins_are_no_failures(logins: Passwords, clock: Clock) -> None:
    fail(logins, ATTEMPTS - 1)
    for name in ("alice", "bob", "alice", "rita", "root"):
        assert log_in(logins, name) == name
    fail(logins, 1)
    refused(logins, password="wrong")


def test_what_is_remembered_goes_on_but_not_while_somebody_might_guess_it(
    logins: Passwords, verified: Verifications
) -> None:
    assert log_in(logins) == "alice"
    fail(logins, ATTEMPTS)
    for _ in range(CACHED_ATTEMPTS - ATTEMPTS):
        refused(logins, password="a guess")
        assert log_in(logins) == "alice"
    refused(logins, password="a guess")
    assert refused(logins) == 60
    assert verified.count == 1 + ATTEMPTS


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_an_address_counts_with_those_that_its_owner_has_as_well(address: str, source: str) -> None:
    assert source_of(address) == source


def test_no_more_sources_are_remembered_than_there_is_room_for(
    logins: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "MAX_SOURCES", 2)
    fail(logins, ATTEMPTS, HERE)
    fail(logins, 1, THERE)
    refused(logins, address=HERE)
    fail(logins, 1, "192.0.2.3")
    assert log_in(logins, address=HERE) == "alice"  # it was forgotten, for it had begun first


def test_no_more_logins_are_remembered_than_there_is_room_for(
    logins: Passwords, verified: Verifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "MAX_REMEMBERED", 2)
    for name in ("alice", "bob", "bob", "rita", "bob", "alice"):
        assert log_in(logins, name) == name
    assert verified.count == 4


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def test_few_logins_are_verified_at_once_and_few_wait(
    tmp_path: Path, verified: Verifications, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(3)))
    logins = Passwords(UserFiles(write_users(tmp_path)))
    verified.running.clear()
    waiting = [threads.submit(log_in, logins, "alice", f"wrong {number}") for number in range(MAX_VERIFYING)]
    for _ in range(2):  # the cores but one
        assert verified.begun.acquire(timeout=SECONDS)
    wait_until(lambda: logins._places._value == 0, SECONDS)
    for _ in range(ATTEMPTS):  # they are no failures
        assert refused(logins, "bob") == 1
    verified.running.set()
    assert {each.result(SECONDS) for each in waiting} == {WRONG}
    assert verified.most == 2
    assert log_in(logins, "bob") == "bob"


@pytest.mark.parametrize("cores", [1, 2])
def test_one_login_is_verified_however_few_cores_there_are(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert log_in(Passwords(UserFiles(write_users(tmp_path)))) == "alice"


def test_who_would_wait_too_long_is_told_to_come_again(
    tmp_path: Path, verified: Verifications, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(passwords, "WAITING_SECONDS", 0.0)
    logins = Passwords(UserFiles(write_users(tmp_path)))
    verified.running.clear()
    first = threads.submit(log_in, logins)
    assert verified.begun.acquire(timeout=SECONDS)
    for _ in range(2 * MAX_VERIFYING + ATTEMPTS):
        assert refused(logins, "bob") == 1
    verified.running.set()
    assert first.result(SECONDS) == "alice"
    monkeypatch.setattr(passwords, "WAITING_SECONDS", SECONDS)
    assert log_in(logins, "bob") == "bob"


@pytest.mark.parametrize(("password", "told"), [(None, "alice"), ("wrong", WRONG)])
def test_many_logins_with_the_same_password_at_once_are_verified_once(
    password: str | None, told: str, logins: Passwords, verified: Verifications, threads: ThreadPoolExecutor
) -> None:
    verified.running.clear()
    many = [threads.submit(log_in, logins, "alice", password) for _ in range(1 + MAX_WAITING)]
    assert verified.begun.acquire(timeout=SECONDS)
    wait_until(lambda: logins._waiting._value == 0, SECONDS)
    assert refused(logins, "alice", password_of("alice") if password is None else password) == 1  # no thread is left
    verified.running.set()
    assert [each.result(SECONDS) for each in many] == [told] * (1 + MAX_WAITING)
    assert verified.count == 1
    if password is None:
        fail(logins, 1 + MAX_WAITING)  # none of them was a failure
    fail(logins, ATTEMPTS - 1 - MAX_WAITING)
    refused(logins, password="another")


def test_who_has_logged_in_before_may_wait_with_any_number_of_requests(
    logins: Passwords, verified: Verifications, clock: Clock, threads: ThreadPoolExecutor
) -> None:
    assert log_in(logins) == "alice"
    clock.now += 61
    verified.running.clear()
    many = [threads.submit(log_in, logins) for _ in range(ATTEMPTS)]
    for _ in range(2):
        assert verified.begun.acquire(timeout=SECONDS)
    verified.running.set()
    assert [each.result(SECONDS) for each in many] == ["alice"] * ATTEMPTS


def test_what_nobody_could_find_out_is_not_remembered(
    logins: Passwords, verified: Verifications, threads: ThreadPoolExecutor
) -> None:
    verified.failures.append(MemoryError())
    with pytest.raises(MemoryError):
        log_in(logins)
    assert log_in(logins) == "alice"


def test_no_password_is_kept(logins: Passwords) -> None:
    log_in(logins)
    log_in(logins, password="a wrong one")
    kept = repr([vars(each) for each in (logins, logins._remembered, logins._attempts)])
    assert password_of("alice") not in kept
    assert "a wrong one" not in kept
