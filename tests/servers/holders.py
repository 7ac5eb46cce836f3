"""Programs that hold a pid file, or try to, and do what they are told line by line."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pyrimage.server.pidfile import PidFile
from servers.processes import OWNED, RUN_SECONDS, clean_environment

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
        if status := self._process.wait(RUN_SECONDS):
            raise AssertionError(f"the program ended with status {status}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


Start = Callable[[], Program]
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
