"""The directory of a file store: its marker, and how its files are opened and flushed.

The marker is a file with an identity that the database knows as well. With the disk not mounted, what lies below its
mount point is a directory like any other, and carries none.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from ..catalogue.interfaces import MarkedStore
from ..errors import StoreMissing

MARKER = "pyrimage-store"

_IDENTITY = re.compile(rb"([0-9a-f]{32})\n")
_UNREADABLE = "Give it to the user that runs the servers, or mount its disk anew; if it is no file, remove it, and run:"


class Marker:
    """The marker of ``directory``, which is that of the store of this name."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self._path, self._name = directory, directory / MARKER, name
        self._command = f"pyrimage-manage --config FILE.ini store adopt {name}"
        self._verified: tuple[str, int, int, int] | None = None

    def check(self, identity: str) -> None:
        """Refuse a directory that does not carry ``identity``. Raises StoreMissing.

        For every use of the store: a marker that is the same file as the last time is not read again.
        """
        try:
            status = self._path.lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self.refusal("does not carry the marker of this database's store") from error
        except OSError as error:
            raise self._trouble("read", error) from error
        seen = identity, status.st_dev, status.st_ino, status.st_ctime_ns
        if seen != self._verified:
            if self.read() != identity:
                raise self.refusal("carries the marker of another store than this database's")
            self._verified = seen

    def read(self) -> str | None:
        """Return the identity, None where there is no marker, an empty text for one without. Raises StoreMissing."""
        try:
            with os.fdopen(open_file(self._path, os.O_RDONLY), "rb", buffering=0) as file:
                found = _IDENTITY.fullmatch(file.read(100))
                return found[1].decode() if found else ""
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._trouble("read", error) from error

    def write(self, identity: str, *, replace: bool) -> None:
        """Mark the directory, and make it if need be; after a power cut the marker is whole or not there.

        replace: whether a marker that is there may go. Raises StoreMissing if that cannot be.
        """
        temporary = self._path.with_name(f"{MARKER}.{secrets.token_hex(8)}")
        try:
            self._make_directory()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    os.fchmod(descriptor, 0o600)  # whatever the umask
                    _give_to_owner_of(self.directory, descriptor)
                    file.write(f"{identity}\n".encode())
                    os.fsync(descriptor)
                if replace or not self._link(temporary):
                    temporary.rename(self._path)
            finally:
                temporary.unlink(missing_ok=True)
            for directory in (self.directory, *self.directory.parents[:2]):
                fsync_directory(directory)
        except OSError as error:
            raise self._trouble("written", error) from error

    def _make_directory(self) -> None:
        missing = [each for each in (self.directory, *self.directory.parents) if not each.exists()]
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # its bytes are not for every user here
        for each in reversed(missing):
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                # Whatever the umask: who can write to a directory can put another one in the place of what it holds.
                os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o755)
                _give_to_owner_of(each.parent, descriptor)
            finally:
                os.close(descriptor)

    def _link(self, temporary: Path) -> bool:
        """Give the marker its name, if no other has it: another database's server may be as quick. False: no links."""
        try:
            os.link(temporary, self._path)
        except FileExistsError as error:
            raise self.unknown() from error
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):  # vfat, some in user space
                return False
            raise
        return True

    def withdraw(self, identity: str) -> None:
        """Remove the marker that was just written, if it is the one; at an error it stays."""
        with contextlib.suppress(OSError, StoreMissing):
            if self.read() == identity:
                self._path.unlink()

    def unknown(self) -> StoreMissing:
        """Make the error for a marked directory where the database knows none."""
        return self.refusal("carries the marker of a store that this database does not know")

    def anothers(self, other: str) -> StoreMissing:
        """Make the error for the directory of another store of this database."""
        problem = f"{self.directory} is the directory of the store {other}"
        return StoreMissing("The file store is not there.", f"{problem}: give the store {self._name} one of its own.")

    def refusal(self, problem: str, *, holds_nothing: bool = False) -> StoreMissing:
        """Make the error for a directory that is not the store's, or does not look like it."""
        otherwise = "if they are lost" if holds_nothing else "if this is the right directory"
        command = f"{self._command} --force" if holds_nothing else self._command
        advice = f"Mount its disk, or correct the directory of the store {self._name}; {otherwise}, run: {command}"
        return StoreMissing("The file store is not there.", f"{self.directory} {problem}. {advice}")

    def _trouble(self, verb: str, error: OSError) -> StoreMissing:
        problem = f"{self._path} cannot be {verb}: {error.strerror}."
        advice = f" {_UNREADABLE} {self._command}" if verb == "read" else ""
        return StoreMissing(f"The file store cannot be {verb}.", problem + advice)


# Says which identity a store's directory must carry, or raises StoreMissing.
Identify = Callable[[MarkedStore], str]


class NotAFile(OSError):
    """A pipe, a link, a directory or the like lies where a file should."""


def open_file(path: str | Path, flags: int) -> int:
    """Open a regular file, and nothing else: a pipe would wait for its writer, and a link may lead anywhere.

    Raises NotAFile, OSError. An opener, as ``open`` takes it.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise NotAFile(*error.args) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def _give_to_owner_of(directory: Path, descriptor: int) -> None:
    """Let what root has just made in ``directory`` belong to its owner, or the servers could not read it."""
    owner, made = directory.stat(), os.fstat(descriptor)
    if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def fsync_directory(path: Path) -> None:
    """Make what was made, renamed or removed in a directory outlive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some of networks, and some in user space, cannot
            raise
    finally:
        os.close(descriptor)
