"""The store on a local file system.

::

    <datadir>/staging/<key>       bytes on their way
    <datadir>/blobs/<xx>/<key>    finished ones; xx are the key's last two digits
    <datadir>/blobs/pyrimage-store    the marker, without which nothing here is read, written or removed
"""

import contextlib
import ctypes
import errno
import io
import itertools
import logging
import os
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyramid.config import Configurator

from ..errors import BlobDamaged, StoreFull, StoreMissing, StoreUnavailable, UploadEnded
from ..readers import directory, setting
from ..settings import Settings
from .directory import Identify, Marker, NotAFile, fsync_directory, open_file
from .interfaces import Buffer, Store, StoredBlob
from .keys import is_key, new_key

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

WRITE_BACK = 32 * 1024 * 1024  # bytes after which the disk shall begin, so that little is left for the last fsync


class FileStore:
    """Blobs as files below one directory, on one file system, so that the last step of an upload is a rename.

    identify: asked once, says which identity the directory must carry, or raises StoreMissing.
    """

    new_key, is_key = staticmethod(new_key), staticmethod(is_key)

    def __init__(self, name: str, directory: Path, identify: Identify) -> None:
        self.name = name
        self._staging, self._blobs = directory / "staging", directory / "blobs"
        self._url = self._blobs.as_uri()
        self.marker = Marker(self._blobs, name)
        self._identify = identify
        self._identity: str | None = None

    def check(self) -> None:
        """Compare the directory's marker with the identity that it must carry."""
        if self._identity is None:
            self._identity = self._identify(self)
        self.marker.check(self._identity)

    def _check_and_log(self) -> None:
        """Check before the directory is used, and tell whoever runs the server what to do."""
        try:
            self.check()
        except StoreMissing as error:
            log.error("%s", error.advice)
            raise

    def open_writer(self, key: str, size: int | None) -> "FileWriter":
        """Begin a new blob, if there is room for ``size`` bytes."""
        final = self._final(key)
        self._check_and_log()
        with _translated():
            self._staging.mkdir(mode=0o700, exist_ok=True)  # its bytes are not for every user here
            final.parent.mkdir(exist_ok=True)
            if size is not None:  # all that a file system without fallocate can tell
                free = os.statvfs(self._staging)
                if size > free.f_bavail * free.f_frsize:
                    raise _no_room(size)
            return FileWriter(self._staging / key, final, size or 0, self._check_and_log)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> "FileReader":
        """Open a blob's file and compare its size with ``size``."""
        final = self._final(key)
        self._check_and_log()
        try:
            reader = FileReader(final, offset, size if length is None else offset + length)
        except FileNotFoundError as error:
            self._check_and_log()  # or the disk went away just now
            raise BlobDamaged("The image's bytes are missing from the store.") from error
        except NotAFile as error:
            raise BlobDamaged("What lies in the store under the image's key is not a file.") from error
        except OSError as error:
            raise StoreUnavailable("The file store cannot be read.") from error
        stored = os.fstat(reader.fileno()).st_size
        if stored != size:
            reader.close()
            raise BlobDamaged(f"The store holds {stored} bytes of the image's {size}.")
        return reader

    def delete(self, key: str) -> None:
        """Remove a blob's file, wherever it is."""
        final = self._final(key)
        self._check_and_log()
        with _translated():
            for path in (self._staging / key, final):
                path.unlink(missing_ok=True)
        self._check_and_log()  # if the disk went away meanwhile, nothing may have been removed

    def blobs(self) -> Iterator[StoredBlob]:
        """List the files that lie where a key's do, staged ones too; their times are those of the last write."""
        self._check_and_log()
        for path in itertools.chain(self._staging.glob("*"), self._blobs.glob("*/*")):
            if self.is_key(path.name) and path in (self._staging / path.name, self._final(path.name)):
                try:
                    status = path.lstat()
                except FileNotFoundError:  # it was removed, or its upload has finished, just now
                    continue
                except OSError as error:
                    raise StoreUnavailable("The file store cannot be read.") from error
                if stat.S_ISREG(status.st_mode):
                    modified = datetime.fromtimestamp(status.st_mtime, UTC).replace(tzinfo=None)
                    yield StoredBlob(path.name, modified)

    def holds(self, key: str) -> bool:
        """Say whether a finished blob's file is there, whatever the directory's marker says."""
        try:
            return stat.S_ISREG(self._final(key).lstat().st_mode)
        except (OSError, BlobDamaged):
            return False

    def url(self, key: str) -> str:
        """Return the finished file's URL."""
        return f"{self._url}/{key[-2:]}/{key}"

    def _final(self, key: str) -> Path:
        if not is_key(key):  # no row, however it came about, leads out of the directory
            raise BlobDamaged(f"{key!a} is not a key of the file store.")
        return self._blobs / key[-2:] / key


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStoreFactory:
    """The settings of a file store."""

    filesystem_store_datadir: Path = setting(directory, "Where the file store keeps its bytes, staging included.")

    def make(self, name: str, settings: Settings, identify: Identify) -> Store:
        """Make the store."""
        return FileStore(name, self.filesystem_store_datadir, identify)


def includeme(config: Configurator) -> None:
    """Make the kind known."""
    config.add_image_store("file", FileStoreFactory)


class FileWriter:
    """A blob on its way to ``final``; invisible there until ``finish``."""

    def __init__(self, staged: Path, final: Path, size: int, check: Callable[[], None]) -> None:
        """Open the file and, where the file system can, take the room for ``size`` bytes. Raises StoreFull, OSError.

        check: raises StoreMissing where the directory is not, or no longer, the store's.
        """
        self._staged, self._final, self._is_finished, self._check = staged, final, False, check
        self._file = staged.open("xb", buffering=0)  # unbuffered: close() has nothing left that could fail
        self._size = self._begun = 0  # bytes written, and those that the disk was told to begin with
        if size and (_is_too_large(self._file, size) or _allocate(self._file.fileno(), size) in _FULL):
            self.discard()
            raise _no_room(size)

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        view = memoryview(data)
        with _translated():
            while view:
                written = self._file.write(view)
                self._size += written
                view = view[written:]
        if self._size - self._begun >= WRITE_BACK:
            _begin_write_back(self._file.fileno(), self._begun, self._size)
            self._begun = self._size

    def finish(self) -> None:
        """Flush the bytes to the disk, rename the file into place, and flush the directories on the way to it.

        All of them, for somebody may just have made them. The key is fresh, so there is nothing to replace.
        """
        with _translated():
            os.fsync(self._file.fileno())
            self._file.close()
        self._check()  # all the bytes may have gone below the mount point
        with _translated():
            self._rename()
            for directory in self._final.parents[:3]:
                fsync_directory(directory)

    def _rename(self) -> None:
        try:
            self._staged.rename(self._final)
        except FileNotFoundError as error:
            if self._staged.exists():
                raise
            raise UploadEnded("The upload's bytes were removed before it was complete.") from error
        self._is_finished = True

    def discard(self) -> None:
        """Remove the file; a disk that is away would keep it."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._check()
        (self._final if self._is_finished else self._staged).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<blob {self._final.name}>"


class FileReader(io.FileIO):
    """A file from ``start`` to ``stop``, whatever happens to it: one that ends early is an error, never an end.

    Servers ask for the size by seeking to the end; they must not hear of a file that was cut short since, or they
    would announce and end a short body in good order. Others read until nothing comes: no more than was announced.
    """

    def __init__(self, path: Path, start: int, stop: int) -> None:
        super().__init__(path, opener=open_file)
        self._stop = stop
        super().seek(start)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes. Raises OSError where the file ends early."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b""))
        wanted = min(size, max(self._stop - self.tell(), 0))
        data = super().read(wanted) or b""
        if wanted and not data:
            raise OSError(errno.EIO, "stored bytes end early", self.name)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move; the end is where the row, or who asked for a part, says."""
        return super().seek(self._stop + offset) if whence == os.SEEK_END else super().seek(offset, whence)


# Two calls that Python's os does not have; its posix_fallocate is another, which may write every block. On 32 bits,
# offsets may be of another size.
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" and sys.maxsize > 2**32 else None
_KEEP_SIZE, _WRITE = 1, 2  # FALLOC_FL_KEEP_SIZE and SYNC_FILE_RANGE_WRITE


def _allocate(descriptor: int, size: int) -> int:
    """Reserve a file's blocks, but let it stay empty. Return the errno: most mean that this file system cannot."""
    failed = LIBC is not None and LIBC.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size))
    return ctypes.get_errno() if failed else 0


def _is_too_large(file: io.FileIO, size: int) -> bool:
    """Say whether the process, or the file system, knows no files of ``size`` bytes. Not every fallocate looks."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and size > limit:
        return True
    try:
        file.seek(size)  # on many file systems that is an error beyond what a file can have
    except OSError as error:
        return error.errno == errno.EINVAL
    finally:
        file.seek(0)
    return False


def _begin_write_back(descriptor: int, start: int, stop: int) -> None:
    """Let the disk begin with these bytes: a hint, whose failure means nothing."""
    if LIBC is not None:
        LIBC.sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(stop - start), _WRITE)


def _no_room(size: int) -> StoreFull:
    return StoreFull(f"The file store has no room for {size} bytes in one file.")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull("The file store is full.") from error
        raise StoreUnavailable("The file store cannot be written.") from error
