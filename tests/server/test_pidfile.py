"""A pid file between real processes: who holds it, when it goes, and what may lie at its path."""

import errno
import os
import signal
import stat
from pathlib import Path

import psutil
import pytest

from pyrimage.server import pidfile
from pyrimage.server.pidfile import NotOurs, hold, holder, remove_stale
from servers.holders import Program, Start, Take, leave, state

OURS = f"{os.getpid()}\n"

# Held, and released


def test_the_file_names_its_holder_and_goes_with_it(path: Path, keeper: Program) -> None:
    assert path.read_text() == f"{keeper.pid}\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0  # who can open it can lock it
    assert holder(path) == keeper.pid
    keeper.end()
    assert (path.exists(), holder(path)) == (False, None)


@pytest.mark.usefixtures("take")
def test_a_released_file_is_free(path: Path, start: Start) -> None:
    other, held = start(), hold(str(path))
    assert held is not None
    assert (other.holder(), path.read_text()) == (str(os.getpid()), OURS)
    held.release()
    assert (path.exists(), other.holder()) == (False, "None")
    assert other.ask("take()") == "None"
    assert (path.read_text(), holder(path)) == (f"{other.pid}\n", other.pid)


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_path_nothing_is_held(nothing: str | None) -> None:
    assert hold(nothing) is None


def test_a_second_process_is_told_who_holds_the_file(path: Path, keeper: Program, take: Take) -> None:
    before = state(path)
    with pytest.raises(OSError, match=f"^the pid file {path} is held by process {keeper.pid}: it runs already$"):
        take()
    with pytest.raises(OSError, match=f"held by process {keeper.pid}"):
        remove_stale(path)
    assert state(path) == before
    path.write_text("1\n")
    assert holder(path) == keeper.pid  # whatever the file says


def test_a_holder_that_cannot_be_named_is_one(path: Path, start: Start, take: Take) -> None:
    """A process of another container has no number here."""
    start().ask("lock_as_nobody()")
    assert holder(path) == 0
    with pytest.raises(OSError, match="is held by process 0"):
        take()


def test_a_holder_that_was_killed_holds_nothing(path: Path, keeper: Program, take: Take) -> None:
    child = int(keeper.ask("os.fork() or signal.pause()"))
    try:
        keeper.kill()
        assert psutil.Process(child).is_running()
        assert (path.read_text(), holder(path)) == (f"{keeper.pid}\n", None)
        take()
        assert path.read_text() == OURS
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_file_that_was_removed_may_be_taken_by_another_and_stays_with_that(
    path: Path, keeper: Program, start: Start
) -> None:
    path.unlink()
    assert holder(path) is None
    successor = start()
    assert successor.ask("take()") == "None"
    keeper.end()
    assert (path.read_text(), holder(path)) == (f"{successor.pid}\n", successor.pid)


@pytest.mark.usefixtures("take")
def test_a_file_that_its_holder_is_just_removing_is_not_taken_for_ones_own(path: Path, start: Start) -> None:
    """It was opened, and is not the one at the path any more. Of all that come at once, one gets the file."""
    rival, got = start(), 0
    rival.tell("hammer(2000)")
    for _ in range(2000):
        try:
            held = hold(str(path))
        except OSError:
            continue
        assert held is not None
        assert os.path.samestat(os.fstat(held.descriptor), path.stat())
        held.release()
        got += 1
    assert got > 0
    assert rival.hear() == "0"


# Children, and a program that executes itself anew


def test_a_child_holds_nothing_and_its_end_removes_nothing(path: Path, keeper: Program) -> None:
    before = state(path)
    assert keeper.ask("fork(lambda: holder(Path(path)))") == repr((str(keeper.pid), 0))
    assert f"is held by process {keeper.pid}" in keeper.ask("fork(take)")
    assert keeper.ask("fork(lambda: os.close(held.descriptor))") == repr(("None", 0))
    assert (state(path), holder(path)) == (before, keeper.pid)
    keeper.end()
    assert not path.exists()


def test_a_program_that_executes_itself_anew_goes_on_holding(path: Path, keeper: Program) -> None:
    before = state(path)
    assert keeper.ask("os.get_inheritable(held.descriptor)") == "False"
    for _ in range(2):
        assert keeper.ask("execute_again()") == "again"
        expected = repr((keeper.pid, str(path), False))
        assert keeper.ask("os.getpid(), held.path, os.get_inheritable(held.descriptor)") == expected
        assert (state(path), holder(path)) == (before, keeper.pid)
    keeper.end()
    assert (path.exists(), holder(path)) == (False, None)


# What lies at the path

STALE = ["", "\n", "9999999999\n", "0000000000\n", "1", "{own}\n", "{pid}\n", "{pid:010}\n"]
GARBAGE = {
    "text": b"listen = 127.0.0.1\n",
    "two lines": b"1\n2\n",
    "a sign": b"-1\n",
    "other digits": "\u0661\n".encode(),
    "zero bytes": bytes(64),
    "more digits than a number has": b"1" * 11,
    "digits, and then much more": b"1\n" + b"\n" * 2**20,
}


@pytest.mark.parametrize("text", STALE)
def test_a_file_that_nobody_holds_is_stale_whatever_program_has_its_number_now(
    text: str, path: Path, start: Start, take: Take
) -> None:
    """A container gives the same numbers at each start, and a clock may have been behind when the file was written."""
    stranger = start()
    leave(path, text.format(own=os.getpid(), pid=stranger.pid))
    assert (remove_stale(path), path.exists(), remove_stale(path)) == (True, False, False)
    leave(path, text.format(own=os.getpid(), pid=stranger.pid), age=-1000)
    take()
    assert path.read_text() == OURS
    assert stranger.ask("1 + 1") == "2"


def descriptors() -> int:
    """Return how many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_is_no_pid_file_is_refused_and_not_touched(content: bytes, path: Path, take: Take) -> None:
    before, opened = leave(path, content, age=1000), descriptors()
    for call in (take, lambda: remove_stale(path)):
        with pytest.raises(NotOurs) as caught:
            call()
        assert str(caught.value) == f"{path} is not a pid file, and stays as it is: name another one"
    assert (state(path), holder(path), descriptors()) == (before, None, opened)


@pytest.mark.usefixtures("take")
def test_another_file_in_its_place_stays(path: Path) -> None:
    held = hold(str(path))
    assert held is not None
    path.rename(path.with_name("moved"))
    before = leave(path, "of somebody else")
    held.release()
    assert state(path) == before
    assert path.with_name("moved").exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_not_followed(is_there: bool, path: Path, take: Take) -> None:
    """Else whoever may write to the directory could have another file overwritten."""
    victim = path.with_name("victim")
    path.symlink_to(victim)
    before = leave(victim, "1\n", age=1000) if is_there else None
    with pytest.raises(OSError, match=str(path)) as caught:
        take()
    assert caught.value.errno == errno.ELOOP
    assert (state(victim) if victim.exists() else None) == before


def test_a_directory_that_is_not_there_is_not_made(path: Path, take: Take) -> None:
    path.parent.rmdir()
    with pytest.raises(FileNotFoundError, match=f"the pid file {path} cannot be written: No such file"):
        take()
    assert not path.parent.exists()


def test_what_is_no_file_at_all_is_refused_and_nobody_waits_for_it(path: Path, take: Take) -> None:
    os.mkfifo(path)
    assert holder(path) is None
    for call in (take, lambda: remove_stale(path)):
        with pytest.raises(NotOurs, match=f"^{path} is not a pid file, and stays as it is"):
            call()
    assert path.is_fifo()


@pytest.mark.usefixtures("take")
def test_only_the_process_that_took_the_file_releases_it(path: Path) -> None:
    held = hold(str(path))
    assert held is not None
    pidfile._release_own(held, os.getppid())
    assert path.exists()
    pidfile._release_own(held, os.getpid())
    assert not path.exists()
