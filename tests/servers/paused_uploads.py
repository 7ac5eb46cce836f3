"""A pyrimage whose uploads can be paused at chosen steps, to look at what goes on beside them.

While a file with the step's name is there, uploads wait at that step, and each leaves a mark that it does.
``main`` runs in the server's process, ``PausableServer`` in the test's.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import event

from pyrimage import app
from pyrimage.identity.policy import WSGIApp
from pyrimage.stores.interfaces import BlobWriter, Buffer, Store
from servers.processes import wait_until
from servers.pyrimage import Server

TESTS = Path(__file__).parents[1]
SECONDS = 60  # nobody waits longer


def main(global_conf: dict[str, str], pauses: str, busy_seconds: str, **ini: Any) -> WSGIApp:
    """Make the application as ``egg:pyrimage`` does, and let its store pause (a ``paste.app_factory``)."""
    wsgi: Any = app.main(global_conf, **ini)
    registry = wsgi._app.registry
    stores = registry["pyrimage.stores"]
    stores.update({name: PausingStore(store, Path(pauses)) for name, store in stores.items()})

    @event.listens_for(registry["pyrimage.catalogue"].engine, "connect")
    def wait_less(connection: Any, record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {float(busy_seconds) * 1000:.0f}")

    made: WSGIApp = wsgi
    return made


class PausingStore:
    """A store whose writers may pause."""

    def __init__(self, store: Store, pauses: Path) -> None:
        self.name, self._store, self._pauses = store.name, store, pauses

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        return PausingWriter(self._store.open_writer(key, size), self._pauses)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        return self._store.open_reader(key, size, offset, length)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class PausingWriter:
    """A writer that waits before each step that is paused."""

    def __init__(self, writer: BlobWriter, pauses: Path) -> None:
        self._writer, self._pauses = writer, pauses

    def write(self, data: Buffer) -> None:
        self._pause("write")
        self._writer.write(data)

    def finish(self) -> None:
        self._pause("finish")
        self._writer.finish()

    def discard(self) -> None:
        self._writer.discard()

    def _pause(self, step: str) -> None:
        file = self._pauses / step
        if not file.exists():
            return
        mark = self._pauses / f"{step}.{uuid.uuid4()}"
        mark.touch()
        wait_until(lambda: not file.exists(), SECONDS)
        mark.unlink(missing_ok=True)


class PausableServer(Server):
    """The server, with uploads that the test pauses and resumes."""

    def __init__(self, directory: Path, *, busy_seconds: float = 15, main: dict[str, str] | None = None) -> None:
        self.pauses = directory / "pauses"
        self.pauses.mkdir()
        pausable = {
            "use": "call:servers.paused_uploads:main",
            "pauses": str(self.pauses),
            "busy_seconds": str(busy_seconds),
        }
        super().__init__(directory, main={**pausable, **(main or {})}, server={"threads": "24"})

    def start(self, *command: str, **environment: str) -> None:
        """Run it with this folder on its path."""
        super().start(*command, PYTHONPATH=str(TESTS), **environment)

    @contextmanager
    def paused(self, step: str) -> Iterator[None]:
        """Pause uploads before ``write`` or ``finish`` until they are resumed, or the block ends."""
        (self.pauses / step).touch()
        try:
            yield
        finally:
            self.resume(step)

    def resume(self, step: str) -> None:
        """Let those who wait go on."""
        (self.pauses / step).unlink(missing_ok=True)

    def wait_for_paused(self, step: str, uploads: int = 1) -> None:
        """Wait until so many uploads are paused there."""
        wait_until(lambda: len(list(self.pauses.glob(f"{step}.*"))) >= uploads, SECONDS, self.log)
