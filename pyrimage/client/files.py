"""Downloads into files: under a name of their own beside the target, until every byte is there and verified.

The name is ``<target>.<image id>.part``. A download that ended too early leaves that file, and the next one of the same
image to the same target goes on from there.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

from .digests import Digests
from .downloads import Reader, read_parts
from .errors import HashMismatch
from .records import Image

READ = 1 << 20  # bytes that are read at once

Progress = Callable[[int, int | None], object]


class PartFile:
    """The file that is not complete yet. Only one download at a time may have it, and nobody else may read it.

    Raises FileExistsError where it belongs to somebody else, BlockingIOError while another download has it.
    """

    def __init__(self, target: Path, image_id: str) -> None:
        self._target = target
        name = f"{target.name}.{image_id}.part"
        self.path = target.with_name(name if len(os.fsencode(name)) <= 255 else f"{image_id}.part")
        file = self._open()
        while not self._is_at_its_path(file):
            os.close(file)  # another download has just completed it
            file = self._open()
        self._file = os.fdopen(file, "r+b")
        self.size = os.fstat(file).st_size

    def _open(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
                raise FileExistsError(f"{self.path} is in the way: it is not a file of a download of yours.")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(f"{self._target} is being downloaded by somebody else.") from error
        except BaseException:
            os.close(file)
            raise
        return file

    def _is_at_its_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self.path.lstat())
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Keep what came for the next time."""
        if not self.size and self._is_at_its_path(self._file.fileno()):
            self.path.unlink()
        self._file.close()

    def read(self) -> Iterator[bytes]:
        """Yield what is there; then write behind it."""
        self._file.seek(0)
        while piece := self._file.read(READ):
            yield piece

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._file.write(piece)
        self.size += len(piece)

    def empty(self) -> None:
        """Throw away what is there."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def finish(self, *, overwrite: bool) -> None:
        """Give it its name, durably. Raises FileExistsError if there is something of that name."""
        mask = os.umask(0o077)
        os.umask(mask)
        self._file.flush()
        os.fchmod(self._file.fileno(), 0o666 & ~mask)
        os.fsync(self._file.fileno())
        if overwrite:
            self.path.replace(self._target)
        else:
            self._link()
        directory = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _link(self) -> None:
        """Give it a name that nobody has, even if others give names at this moment."""
        try:
            self._target.hardlink_to(self.path)
        except FileExistsError:
            raise
        except OSError:  # some file systems have no links
            check_free(self._target)
            self.path.rename(self._target)
        else:
            self.path.unlink()


def check_free(target: Path) -> None:
    """Raise FileExistsError if there is something already."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already.")


def save(
    make_reader: Callable[[], Reader],
    image: Image,
    target: Path,
    *,
    connections: int,
    overwrite: bool,
    progress: Progress | None,
) -> None:
    """Download into a file. Raises as ``PartFile`` and ``read_parts``, and what the progress raises."""
    with PartFile(target, image.id) as part:
        is_rest = part.size > 0
        try:
            _fill(part, make_reader(), image, connections, progress)
        except HashMismatch:
            if not is_rest:
                raise
            # What was left of the last time was wrong, for example because the power had failed.
            _fill(part, make_reader(), image, connections, progress)
        part.finish(overwrite=overwrite)


def _fill(part: PartFile, reader: Reader, image: Image, connections: int, progress: Progress | None) -> None:
    """Read what is there, fetch the rest, and verify all of it."""
    digests = Digests()

    def report() -> None:
        if progress is not None:
            progress(digests.size, image.size)

    with ExitStack() as stack:
        stack.callback(digests.close)
        for piece in part.read():
            digests.update(piece)
            report()
        if connections > 1:
            pieces = read_parts(reader, part.size, image.size, connections, report)
        else:
            pieces = reader.pieces(part.size, image.size, check=report)
        for piece in stack.enter_context(closing(pieces)):
            part.write(piece)
            digests.update(piece)
            report()
        try:
            digests.check(image, f"What came for {part.path} is not the image")
        except HashMismatch:
            part.empty()
            raise
