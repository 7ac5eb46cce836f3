"""Starting a program in the background, and waiting for it."""

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import IO, TextIO

from daemon import DaemonContext

from . import FAILED

UMASK = 0o027
START_SECONDS = 60.0  # until a server must answer
PROGRESS_SECONDS = 3.0  # after which it is said what is waited for
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of who sent a datagram


def launch(command: list[str], output: IO[bytes], variables: dict[str, str]) -> int:
    """Run a command in the background; return its pid. Raises OSError."""
    reading, writing = os.pipe()  # it ends when the command is executed
    child = os.fork()
    if child == 0:
        try:
            context = DaemonContext(
                detach_process=True, umask=UMASK, stdout=output, stderr=output, files_preserve=[writing]
            )
            context.open()
            for descriptor in (0, 1, 2):  # python-daemon opens what had been closed, and that ends at exec
                os.set_inheritable(descriptor, True)
            os.write(writing, f"{os.getpid()}\n".encode())
            os.execve(command[0], command, {**os.environ, **variables})  # noqa: S606 - our own program
        except Exception as error:  # noqa: BLE001 - this process has nobody else to tell
            os.write(writing, f"\n{error}".encode())
        finally:
            os._exit(FAILED)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        pid, _, failure = pipe.read().partition("\n")
    if failure or not pid:
        raise OSError(f"{command[1]} cannot be started: {failure.strip()}")
    return int(pid)


class Notifier:
    """Where a server tells that it answers: a socket that has a name as long as it is open, as systemd's has."""

    def __enter__(self) -> "Notifier":
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel gives it a name that begins with a zero byte
        self.name = self._socket.getsockname().decode().replace("\0", "@")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, pid: int, program: str) -> str | None:
        """Wait for a server's word; return None, or what is wrong."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return "ended before it answered"
        deadline = time.monotonic() + START_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            ready = wait_for([handle, self._socket.fileno()], left, f"{program} to answer")
            if self._socket.fileno() in ready and self._is_ready(pid):
                return None
            if handle in ready:
                return "ended before it answered"
        return f"(pid {pid}) does not answer after {START_SECONDS:.0f} s, and goes on starting"

    def _is_ready(self, pid: int) -> bool:
        message, ancillary, _, _ = self._socket.recvmsg(1024, socket.CMSG_SPACE(CREDENTIALS.size))
        senders = [CREDENTIALS.unpack(data)[0] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
        return message == b"READY=1" and senders == [pid]


def wait_for(descriptors: Sequence[int], seconds: float, what: str) -> list[int]:
    """Wait until some descriptors can be read, and return them; say after a while what is waited for."""
    ready, _, _ = select.select(descriptors, [], [], min(seconds, PROGRESS_SECONDS))
    if not ready and seconds > PROGRESS_SECONDS:
        say(f"Waiting for {what} ...", sys.stderr)
        ready, _, _ = select.select(descriptors, [], [], seconds - PROGRESS_SECONDS)
    return ready


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line; on a full disk or a broken pipe, what is to be done goes on without."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else the exit would fail as well
