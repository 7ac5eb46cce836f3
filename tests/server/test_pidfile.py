"""A pid file between real processes: who holds it, and when it goes. What was left there: test_pidfile_left.py."""

import os
import signal
import stat
from pathlib import Path

import psutil
import pytest

from pyrimage.server import pidfile
from pyrimage.server.pidfile import hold, holder, remove_stale
from servers.holders import Program, Start, Take, leave, state

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
    assert other.holder() == str(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
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
    assert (state(path), holder(path)) == (before, keeper.pid)


def test_of_many_that_come_at_once_one_gets_the_file(path: Path, start: Start) -> None:
    holders = [start() for _ in range(6)]
    assert [each.ask("held") for each in holders] == ["None"] * len(holders)
    for each in holders:
        each.tell("take()")
    said = [each.hear() for each in holders]
    assert said.count("None") == 1
    assert holder(path) == holders[said.index("None")].pid


@pytest.mark.parametrize("text", ["", "1\n", "999999999\n", "garbage\n"])
def test_the_kernel_tells_the_holder_whatever_the_file_says(text: str, path: Path, keeper: Program) -> None:
    path.write_text(text)
    assert holder(path) == keeper.pid


def test_of_no_file_there_is_no_holder(path: Path) -> None:
    assert holder(path) is None


def test_a_holder_that_cannot_be_named_is_one(path: Path, start: Start, take: Take) -> None:
    """A process of another container has no number here."""
    start().ask("lock_as_nobody()")
    assert holder(path) == 0
    with pytest.raises(OSError, match="is held by process 0"):
        take()


def test_a_holder_that_was_killed_holds_nothing(path: Path, keeper: Program, take: Take) -> None:
    keeper.kill()
    assert (path.read_text(), holder(path)) == (f"{keeper.pid}\n", None)
    take()
    assert path.read_text() == f"{os.getpid()}\n"


# Removed under its holder


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
def test_another_file_in_its_place_stays(path: Path) -> None:
    held = hold(str(path))
    assert held is not None
    path.rename(path.with_name("moved"))
    before = leave(path, "of somebody else")
    held.release()
    assert state(path) == before
    assert path.with_name("moved").exists()


@pytest.mark.usefixtures("take")
def test_a_file_that_its_holder_is_just_removing_is_not_taken_for_ones_own(path: Path, start: Start) -> None:
    """It was opened, and is not the one at the path any more."""
    rival, got = start(), 0
    rival.tell("hammer(5000)")
    for _ in range(5000):
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


@pytest.mark.usefixtures("take")
def test_only_the_process_that_took_the_file_releases_it(path: Path) -> None:
    held = hold(str(path))
    assert held is not None
    pidfile._release_own(held, os.getppid())
    assert path.exists()
    pidfile._release_own(held, os.getpid())
    assert not path.exists()


# Children, and a program that executes itself anew


def test_a_child_holds_nothing_and_its_end_removes_nothing(path: Path, keeper: Program) -> None:
    before = state(path)
    assert keeper.ask("fork(lambda: None)") == repr(("None", 0))
    assert keeper.ask("fork(lambda: holder(Path(path)))") == repr((str(keeper.pid), 0))
    assert f"is held by process {keeper.pid}" in keeper.ask("fork(take)")
    assert keeper.ask("fork(lambda: os.close(held.descriptor))") == repr(("None", 0))
    assert (state(path), holder(path)) == (before, keeper.pid)
    keeper.end()
    assert not path.exists()


def test_a_child_that_outlives_the_holder_does_not_keep_the_file(path: Path, keeper: Program) -> None:
    child = int(keeper.ask("os.fork() or signal.pause()"))
    try:
        keeper.kill()
        assert psutil.Process(child).is_running()
        assert holder(path) is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_file_is_not_inherited_by_programs_that_the_holder_starts(keeper: Program) -> None:
    assert keeper.ask("os.get_inheritable(held.descriptor)") == "False"


def test_a_program_that_executes_itself_anew_goes_on_holding(path: Path, keeper: Program) -> None:
    before = state(path)
    for _ in range(2):
        assert keeper.ask("execute_again()") == "again"
        assert keeper.ask("os.getpid(), held.path, os.get_inheritable(held.descriptor)") == repr(
            (keeper.pid, str(path), False)
        )
        assert (state(path), holder(path)) == (before, keeper.pid)
    keeper.end()
    assert (path.exists(), holder(path)) == (False, None)
