"""A pyrimage whose uploads can be held at chosen steps, to look at what goes on beside them.

A gate is a file's name: while the file is there, uploads wait at that step, and each leaves a mark that it does.
``main`` runs in the server's process, ``GatedServer`` in the test's.
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


def main(global_conf: dict[str, str], gates: str, busy_seconds: str, **ini: Any) -> WSGIApp:
    """Make the application as ``egg:pyrimage`` does, and put its store behind gates (a ``paste.app_factory``)."""
    wsgi: Any = app.main(global_conf, **ini)
    registry = wsgi._app.registry
    stores = registry["pyrimage.stores"]
    stores.update({name: GatedStore(store, Path(gates)) for name, store in stores.items()})

    @event.listens_for(registry["pyrimage.catalogue"].engine, "connect")
    def wait_less(connection: Any, record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {float(busy_seconds) * 1000:.0f}")

    made: WSGIApp = wsgi
    return made


class GatedStore:
    """A store that asks at each step of a writer."""

    def __init__(self, store: Store, gates: Path) -> None:
        self.name, self._store, self._gates = store.name, store, gates

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        return GatedWriter(self._store.open_writer(key, size), self._gates)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        return self._store.open_reader(key, size, offset, length)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class GatedWriter:
    """A writer that waits before each step whose gate is shut."""

    def __init__(self, writer: BlobWriter, gates: Path) -> None:
        self._writer, self._gates = writer, gates

    def write(self, data: Buffer) -> None:
        self._pass("write")
        self._writer.write(data)

    def finish(self) -> None:
        self._pass("finish")
        self._writer.finish()

    def discard(self) -> None:
        self._writer.discard()

    def _pass(self, step: str) -> None:
        gate = self._gates / step
        if not gate.exists():
            return
        mark = self._gates / f"{step}.{uuid.uuid4()}"
        mark.touch()
        wait_until(lambda: not gate.exists(), SECONDS)
        mark.unlink(missing_ok=True)


class GatedServer(Server):
    """The server, with gates that the test shuts and opens; all are open at first."""

    def __init__(self, directory: Path, *, busy_seconds: float = 15, main: dict[str, str] | None = None) -> None:
        self.gates = directory / "gates"
        self.gates.mkdir()
        gated = {"use": "call:servers.gated:main", "gates": str(self.gates), "busy_seconds": str(busy_seconds)}
        super().__init__(directory, main={**gated, **(main or {})}, server={"threads": "24"})

    def start(self, *command: str, **environment: str) -> None:
        """Run it with this folder on its path."""
        super().start(*command, PYTHONPATH=str(TESTS), **environment)

    @contextmanager
    def shut(self, step: str) -> Iterator[None]:
        """Shut the gate before ``write`` or ``finish`` until it is opened, or the block ends."""
        (self.gates / step).touch()
        try:
            yield
        finally:
            self.open(step)

    def open(self, step: str) -> None:
        """Let those who wait go on."""
        (self.gates / step).unlink(missing_ok=True)

    def wait_for(self, step: str, uploads: int = 1) -> None:
        """Wait until so many uploads stand before a gate."""
        wait_until(lambda: len(list(self.gates.glob(f"{step}.*"))) >= uploads, SECONDS, self.log)
