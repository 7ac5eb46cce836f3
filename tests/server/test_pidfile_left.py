"""What is found at the path of a pid file: it is taken if it was left behind, and stays if it is something else."""

import errno
import os
from pathlib import Path

import pytest

from pyrimage.server.pidfile import NotOurs, holder, remove_stale
from servers.holders import Start, Take, leave, state


@pytest.fixture
def gone(start: Start) -> int:
    """The pid of a process that ended."""
    made = start()
    made.kill()
    return made.pid


LEFT = {
    "nothing": "",
    "a line feed": "\n",
    "a dead process": "{gone}\n",
    "a dead process and no line feed": "{gone}",
    "a number that no process has": "9999999999\n",
    "zero": "0\n",
    "zeros": "0000000000\n",
}


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_a_file_that_was_left_behind_is_taken(text: str, path: Path, gone: int, take: Take, start: Start) -> None:
    leave(path, text.format(gone=gone))
    take()
    assert start().holder() == str(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_a_file_that_was_left_behind_is_removed(text: str, path: Path, gone: int) -> None:
    leave(path, text.format(gone=gone))
    assert remove_stale(path) is True
    assert not path.exists()
    assert remove_stale(path) is False


@pytest.mark.parametrize("age", [-1000, 0, 1000], ids=["from the future", "fresh", "old"])
@pytest.mark.parametrize("text", ["{pid}\n", "{pid}", "{pid:010}\n"])
def test_a_file_that_nobody_holds_was_left_behind_whatever_program_has_its_number_now(
    text: str, age: float, path: Path, start: Start, take: Take
) -> None:
    """A container gives the same numbers at each start, and a clock may have been behind when the file was written."""
    stranger = start()
    leave(path, text.format(pid=stranger.pid), age)
    assert remove_stale(path) is True
    leave(path, text.format(pid=stranger.pid), age)
    take()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stranger.ask("1 + 1") == "2"


@pytest.mark.parametrize("number", [1, os.getpid()], ids=["the first", "its own"])
def test_a_number_that_is_always_in_use_is_that_of_no_other_program(number: int, path: Path, take: Take) -> None:
    leave(path, f"{number}\n")
    take()
    assert path.read_text() == f"{os.getpid()}\n"


GARBAGE = {
    "text": b"listen = 127.0.0.1\n",
    "two lines": b"1\n2\n",
    "a sign": b"-1\n",
    "a blank": b" 1\n",
    "other digits": "\u0661\n".encode(),
    "no text": b"\xff\xfe\0",
    "zero bytes": bytes(64),
    "more digits than a number has": b"1" * 11,
    "long": b"A" * 2**20,
    "digits, and then much more": b"1\n" + b"\n" * 2**20,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_is_no_pid_file_is_refused_and_not_touched(content: bytes, path: Path, take: Take) -> None:
    before = leave(path, content, age=1000)
    for call in (take, lambda: remove_stale(path)):
        with pytest.raises(NotOurs) as caught:
            call()
        assert str(caught.value) == f"{path} is not a pid file, and stays as it is: name another one"
    assert (state(path), holder(path)) == (before, None)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_not_followed(is_there: bool, path: Path, take: Take) -> None:
    """Else whoever may write to the directory could have another file overwritten."""
    victim = path.with_name("victim")
    path.symlink_to(victim)
    before = leave(victim, "1\n", age=1000) if is_there else None
    with pytest.raises(OSError, match=str(path)) as caught:
        take()
    assert caught.value.errno == errno.ELOOP
    assert path.is_symlink()
    assert (state(victim) if victim.exists() else None) == before


def test_a_directory_that_is_not_there_is_not_made(path: Path, take: Take) -> None:
    path.parent.rmdir()
    with pytest.raises(FileNotFoundError, match=str(path)):
        take()
    assert not path.parent.exists()


def test_a_directory_that_cannot_be_written_to_is_told(path: Path, start: Start) -> None:
    path.parent.chmod(0o555)
    program = start()
    if os.geteuid() == 0:
        program.ask("os.seteuid(65534)")
    program.ask("globals().update(path='api.pid')")  # the directories above may be nobody else's to enter
    assert (
        program.ask("take()") == "PermissionError: [Errno 13] the pid file api.pid cannot be written: Permission denied"
    )


def test_what_is_no_file_at_all_is_refused_and_nobody_waits_for_it(path: Path, take: Take) -> None:
    os.mkfifo(path)
    assert holder(path) is None
    for call in (take, lambda: remove_stale(path)):
        with pytest.raises(NotOurs, match=f"^{path} is not a pid file, and stays as it is"):
            call()
    assert path.is_fifo()


def test_a_directory_is_no_pid_file(path: Path, take: Take) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=str(path)):
        take()
