"""The files of an export, as they are written and as they are read.

What is written gets its own name when it is complete and on the disk: an export that was killed has no ``images.jsonl``
yet, or that of the one before it, and its next run goes on with the bytes that are there.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import ExportUnusable, Invalid
from ..stores.directory import NotAFile, fsync_directory, open_file
from ..stores.interfaces import Buffer
from .lines import MAX_LINE, parse_end, parse_header, render_end, render_header

_IMAGES, _PARTIAL = "images.jsonl", "images.jsonl.partial"
_BLOBS, _PARTIAL_BLOB = "blobs", "partial"


class NewExport:
    """A directory that an export is written to, by one process at a time."""

    def __init__(self, directory: Path) -> None:
        """Make the directory if need be, and begin. Raises ExportUnusable."""
        self._directory, self._partial, self._count = directory, directory / _PARTIAL, 0
        with _told("written", directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # private images are not for every user here
            (directory / _BLOBS).mkdir(mode=0o700, exist_ok=True)
            self._file = os.fdopen(_open_private(self._partial, os.O_APPEND), "ab")
            if not self._lock():
                self._file.close()
                raise ExportUnusable(f"{directory}: another export is being written there.")
            self._file.truncate(0)
            self._file.write(render_header())

    def _lock(self) -> bool:
        """Lock the list; False if another process has, or had until it gave the list its name just now."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(self._file.fileno()), self._partial.lstat())
        except (BlockingIOError, FileNotFoundError):
            return False

    def add(self, line: bytes) -> None:
        """Write the line of an image."""
        with _told("written", self._partial):
            self._file.write(line)
        self._count += 1

    def has_blob(self, sha256: str, size: int) -> bool:
        """Say whether the bytes are there. What an import finds in them is compared then."""
        try:
            status = _blob_path(self._directory, sha256).lstat()
        except OSError:  # if it is more than that the file is missing, the attempt to write it will tell
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    def open_blob(self) -> "BlobFile":
        """Begin to write bytes."""
        return BlobFile(self._directory / _BLOBS / _PARTIAL_BLOB)

    def keep(self, blob: "BlobFile", sha256: str) -> None:
        """Give bytes that are complete their name."""
        final = _blob_path(self._directory, sha256)
        with _told("written", final):
            final.parent.mkdir(mode=0o700, exist_ok=True)
            blob.rename(final)

    def publish(self) -> None:
        """Give the list its name: the export is complete."""
        with _told("written", self._partial):
            self._file.write(render_end(self._count))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._partial.rename(self._directory / _IMAGES)
            for directory in (self._directory, self._directory.absolute().parent):
                fsync_directory(directory)

    def close(self) -> None:
        """Let another export begin."""
        with suppress(OSError):  # whatever could not be written was told before
            self._file.close()


class BlobFile:
    """Bytes on their way into an export."""

    def __init__(self, path: Path) -> None:
        """Begin to write. Raises ExportUnusable."""
        self._path = path
        with _told("written", path):
            self._file = os.fdopen(_open_private(path, os.O_TRUNC), "wb", buffering=0)

    def write(self, data: Buffer) -> None:
        """Append bytes. Raises ExportUnusable."""
        view = memoryview(data)
        with _told("written", self._path):
            while view:
                view = view[self._file.write(view) :]

    def finish(self) -> None:
        """Flush the bytes to the disk. Raises ExportUnusable."""
        with _told("written", self._path):
            os.fsync(self._file.fileno())
            self._file.close()

    def rename(self, final: Path) -> None:
        """Let finished bytes have their name, whatever happens to the machine. Raises OSError."""
        self._path.rename(final)
        for directory in final.parents[:3]:
            fsync_directory(directory)

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # the next export writes over it
            self._file.close()
            self._path.unlink(missing_ok=True)


class Export:
    """A directory with a whole export. count: how many images it lists."""

    def __init__(self, directory: Path) -> None:
        """Read the list once, to see whether it is whole. Raises ExportUnusable."""
        self._directory, self.path = directory, directory / _IMAGES
        self.count = self._check()

    def _check(self) -> int:
        last: bytes | None = b""
        number = 0
        for number, last in self._numbered():  # noqa: B007 - both are those of the last line
            pass
        if last is None or (count := parse_end(last)) is None:
            raise ExportUnusable(f"{self.path} is cut short: its last line should tell how many images it lists.")
        if count != number - 2:
            raise ExportUnusable(f"{self.path} should list {count} images, but lists {number - 2}.")
        return count

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Give the lines of images, with their numbers in the file; None for one that is too long to be held."""
        for number, line in self._numbered():
            if 1 < number < self.count + 2:
                yield number, line

    def open_blob(self, sha256: str) -> IO[bytes]:
        """Open bytes. Raises ExportUnusable if they are not there."""
        path = _blob_path(self._directory, sha256)
        with _told("read", path):
            return os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering=0)

    def _numbered(self) -> Iterator[tuple[int, bytes | None]]:
        with _told("read", self.path), os.fdopen(open_file(self.path, os.O_RDONLY), "rb") as file:
            for number, line in enumerate(_lines(file), 1):
                if number == 1:
                    self._check_header(line)
                yield number, line

    def _check_header(self, line: bytes | None) -> None:
        try:
            parse_header(line or b"")
        except Invalid as error:
            raise ExportUnusable(f"{self.path}: {error}") from error


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    while line := file.readline(MAX_LINE + 1):
        is_whole = len(line) <= MAX_LINE
        while not line.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
            is_whole, line = False, rest
        yield line if is_whole else None


def _blob_path(directory: Path, sha256: str) -> Path:
    return directory / _BLOBS / sha256[:2] / sha256


def _open_private(path: Path, flags: int) -> int:
    """Open a file to write, which nobody else can read; never what a link leads to."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)


@contextmanager
def _told(verb: str, path: Path) -> Iterator[None]:
    """Name the file that cannot be written, or read, and why."""
    try:
        yield
    except NotAFile as error:
        raise ExportUnusable(f"{path} is not a file.") from error
    except OSError as error:
        raise ExportUnusable(f"{error.filename or path} cannot be {verb}: {error.strerror}.") from error
