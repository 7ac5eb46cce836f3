"""A pid file between real processes: who may take it, who holds it, and when it goes."""

import atexit
import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from pyrimage.server import pidfile
from pyrimage.server.pidfile import CLOCK_SECONDS, NotOurs, PidFile, check, hold, holder, remove_stale
from servers.processes import OWNED, RUN_SECONDS, clean_environment, wait_until

# It evaluates line by line, and says what came of it. With FORMER in its environment it has executed itself anew.
PROGRAM = """
import fcntl, json, os, signal, struct, sys
from dataclasses import astuple
from pathlib import Path
from pyrimage.server.pidfile import PidFile, hold, holder, keep

path = os.environ["PID_FILE"]
held = None
if "FORMER" in os.environ:
    held = keep(PidFile(*json.loads(os.environ.pop("FORMER"))))
    print("again", flush=True)

def take():
    global held
    held = hold(path)

def execute_again():
    os.set_inheritable(held.descriptor, True)
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "FORMER": json.dumps(astuple(held))})

def fork(work):
    # Return what a child of this process, which then ends as processes do, made of it.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(work())
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        sys.exit()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    return said, os.waitpid(child, 0)[1]

def lock_as_nobody():
    # A lock of the open file, as databases have it; it is of no process.
    global other
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhlli4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))

def hammer(times):
    # Take and release; count what was got and was not the file at the path.
    wrong = 0
    for _ in range(times):
        try:
            got = hold(path)
        except OSError:
            continue
        try:
            wrong += not os.path.samestat(os.fstat(got.descriptor), os.stat(path))
        except FileNotFoundError:
            wrong += 1
        got.release()
    return wrong

for line in sys.stdin:
    try:
        said = repr(eval(line))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)
"""


class Program:
    """A process that is told what to do, and ends when it is asked to."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [*OWNED, sys.executable, "-c", PROGRAM],
            cwd=path.parent,
            env=clean_environment(path.parent, {"PID_FILE": str(path)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        with self._process:  # close the pipes
            pass

    def tell(self, line: str) -> None:
        os.write(self._process.stdin.fileno(), f"{line}\n".encode())  # type: ignore[union-attr]

    def hear(self) -> str:
        return self._process.stdout.readline().decode().rstrip("\n")  # type: ignore[union-attr]

    def ask(self, expression: str) -> str:
        """Return what came of an expression: its representation, or the error."""
        self.tell(expression)
        return self.hear()

    def holder(self) -> str:
        """Return who holds the file; a process that asked itself would lose it."""
        return self.ask("holder(Path(path))")

    def end(self) -> None:
        """Let it end by itself."""
        self._process.stdin.close()  # type: ignore[union-attr]
        assert self._process.wait(RUN_SECONDS) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


Start = Callable[[], Program]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run/api.pid"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """A function that starts a program, which ends with the test."""
    with contextlib.ExitStack() as programs:
        yield lambda: programs.enter_context(Program(path))


@pytest.fixture
def keeper(start: Start) -> Program:
    """A program that holds the file."""
    made = start()
    assert made.ask("take()") == "None"
    return made


@pytest.fixture
def take(path: Path) -> Iterator[Callable[[], PidFile]]:
    """A function that takes the file for this process; it is released with the test."""
    with contextlib.ExitStack() as taken:

        def take_now() -> PidFile:
            made = hold(str(path))
            assert made is not None
            taken.callback(made.release)
            return made

        yield take_now
    atexit.unregister(pidfile._release_own)


Take = Callable[[], PidFile]


def leave(path: Path, content: str | bytes, age: float = 0) -> tuple[object, ...]:
    """Write a file as somebody did ``age`` seconds ago; return what must stay where it is not to be touched."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return state(path)


def state(path: Path) -> tuple[object, ...]:
    known = path.lstat()
    return path.read_bytes(), known.st_ino, known.st_mtime_ns, known.st_mode


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
    crowd = [start() for _ in range(6)]
    assert [each.ask("held") for each in crowd] == ["None"] * len(crowd)
    for each in crowd:
        each.tell("take()")
    said = [each.hear() for each in crowd]
    assert said.count("None") == 1
    assert holder(path) == crowd[said.index("None")].pid


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


# What was left there


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


def test_a_file_older_than_the_process_of_its_number_was_left_behind(path: Path, start: Start, take: Take) -> None:
    """Numbers are given again."""
    stranger = start()
    leave(path, f"{stranger.pid}\n", age=1000)
    take()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stranger.ask("1 + 1") == "2"


def test_a_process_that_ended_and_was_not_buried_left_its_file_behind(path: Path, start: Start, take: Take) -> None:
    parent = start()
    child = parent.ask("os.fork() or os._exit(0)")
    wait_until(lambda: psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE, RUN_SECONDS)
    leave(path, f"{child}\n")
    take()
    assert path.read_text() == f"{os.getpid()}\n"


def test_the_own_number_is_that_of_no_other_program(path: Path, take: Take) -> None:
    """In a container, every start has the same."""
    leave(path, f"{os.getpid()}\n")
    take()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", ["{pid}\n", "{pid}", "{pid:010}\n"])
def test_the_file_of_another_program_is_refused_and_not_touched(
    text: str, path: Path, start: Start, take: Take
) -> None:
    stranger = start()
    assert stranger.ask("1 + 1") == "2"
    before = leave(path, text.format(pid=stranger.pid))
    name = psutil.Process(stranger.pid).name()
    for call in (take, lambda: remove_stale(path)):
        with pytest.raises(NotOurs) as caught:
            call()
        assert str(caught.value) == (
            f"the pid file {path} belongs to another program, {name} with pid {stranger.pid}: name another one"
        )
    assert (state(path), holder(path)) == (before, None)
    assert stranger.ask("1 + 1") == "2"


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


@pytest.mark.parametrize(("seconds", "refused"), [(0.0, True), (CLOCK_SECONDS / 2, True), (CLOCK_SECONDS + 1, False)])
def test_a_file_may_look_a_little_older_than_the_process_that_wrote_it(
    seconds: float, refused: bool, path: Path, start: Start
) -> None:
    """The two times come from different clocks."""
    stranger = start()
    written = psutil.Process(stranger.pid).create_time() - seconds
    with pytest.raises(NotOurs) if refused else contextlib.nullcontext():
        check(f"{stranger.pid}\n", written, path)


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
