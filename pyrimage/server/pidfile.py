"""A pid file, which its process holds locked as long as it lives.

The lock is a POSIX record lock (``fcntl``): the kernel knows its holder, releases it however that process ends, keeps
it over ``exec``, and gives it to no child. So a pid file without a lock is stale, even if another program has the same
process id by now.
"""

import atexit
import contextlib
import fcntl
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

_FLOCK = "hhlli4x"  # struct flock of Linux: type, whence, start, length, pid
_LONGEST = 64  # bytes of what can be a pid file


class NotOurs(OSError):
    """What lies at the path is not a pid file."""


def holder(path: Path) -> int | None:
    """Return the id of the process that holds the file locked; None if there is none, or no file.

    0 is a process that has no id here, for it runs in another container.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a FIFO must not block
    except FileNotFoundError:
        return None
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, *_, pid = struct.unpack(_FLOCK, found)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


@dataclass(frozen=True, slots=True)
class PidFile:
    """A pid file that this process holds locked."""

    path: str
    descriptor: int  # closing this or any other descriptor of the file releases the lock

    def release(self) -> None:
        """Remove the file and release the lock."""
        with contextlib.suppress(OSError):
            if _is_at(self.descriptor, self.path):
                Path(self.path).unlink()
        os.close(self.descriptor)


def hold(path: str | None) -> PidFile | None:
    """Hold a pid file until this process ends; None for no path.

    Raises OSError if another process holds the file or it cannot be written, and NotOurs.
    """
    if not path:
        return None
    try:
        return keep(_take(path))
    except OSError as error:
        if error.errno is None:  # raised below, with a text of its own
            raise
        raise OSError(error.errno, f"the pid file {path} cannot be written: {error.strerror}") from error


def keep(pid_file: PidFile) -> PidFile:
    """Go on holding a pid file after this process has executed itself again."""
    os.set_inheritable(pid_file.descriptor, False)
    atexit.register(_release_own, pid_file, os.getpid())
    return pid_file


def remove_stale(path: Path) -> bool:
    """Remove a stale pid file; return whether there was one. Raises as ``hold`` does."""
    is_there = path.exists()
    if is_there:
        _take(str(path)).release()
    return is_there


def _release_own(pid_file: PidFile, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker runs the same exit handlers
        pid_file.release()


def _take(path: str) -> PidFile:
    while True:
        # Not readable for all: whoever can open a file can lock it, and keep the server from starting.
        pid_file = PidFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640))
        try:
            if not stat.S_ISREG(os.fstat(pid_file.descriptor).st_mode):
                raise NotOurs(f"{path} is not a pid file, and stays as it is: name another one")
            _lock(pid_file)
            if _is_at(pid_file.descriptor, path):
                if not re.fullmatch(rb"[0-9]{0,10}\n?", os.pread(pid_file.descriptor, _LONGEST, 0)):
                    raise NotOurs(f"{path} is not a pid file, and stays as it is: name another one")
                os.ftruncate(pid_file.descriptor, 0)
                os.pwrite(pid_file.descriptor, f"{os.getpid()}\n".encode(), 0)
                return pid_file
        except BaseException:
            os.close(pid_file.descriptor)
            raise
        os.close(pid_file.descriptor)  # its holder removed it between open() and the lock


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), Path(path).stat())
    except FileNotFoundError:
        return False


def _lock(pid_file: PidFile) -> None:
    try:
        fcntl.lockf(pid_file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX allows either
        pid = holder(Path(pid_file.path))
        raise OSError(f"the pid file {pid_file.path} is held by process {pid}: it runs already") from error
