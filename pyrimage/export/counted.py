"""Bytes that are copied into an export, or out of one."""

from collections.abc import Callable
from typing import IO

from ..errors import PyrimageError

Came = Callable[[int], object]


class Counted:
    """What ``transfer.copy`` reads of; there, errors of the system are a client's.

    came: is told of bytes, chunk by chunk. failure: is raised instead of an error of the system.
    """

    def __init__(self, reader: IO[bytes], came: Came, failure: PyrimageError) -> None:
        self._reader, self._came, self._failure = reader, came, failure

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes."""
        try:
            data = self._reader.read(size)
        except OSError as error:
            raise self._failure from error
        self._came(len(data))
        return data
