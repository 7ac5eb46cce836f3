"""The catalogues that the suites are run over: in a database, or over a registry's HTTP."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from sqlalchemy import Engine, update

from conftest import Installation
from pyrimage.catalogue.records import utcnow
from pyrimage.catalogue.remote.catalogue import RemoteCatalogue
from pyrimage.catalogue.sql.catalogue import SqlCatalogue
from pyrimage.catalogue.testing import Subject
from pyrimage.models import ClaimRow
from pyrimage.settings import Settings
from registries import registry_of
from servers.in_process_server import serving


def catalogue_of(installation: Installation, settings: Settings) -> Subject:
    """Make the SQL catalogue of an installation under other settings."""

    def expire(key: str) -> None:
        with installation.engine.begin() as connection:
            lease = utcnow() - timedelta(hours=1)
            connection.execute(update(ClaimRow).where(ClaimRow.key == key).values(lease=lease))

    def limited(**limits: Any) -> Subject:
        return catalogue_of(installation, dataclasses.replace(settings, **limits))

    return Subject(SqlCatalogue(installation.engine, settings), expire, limited)


@contextmanager
def served(app: WSGIApplication) -> Iterator[int]:
    """Serve an application over HTTP; give its port."""
    with serving(app, logging.WARNING) as running:
        yield running.serving.listeners[0].socket.getsockname()[1]


@contextmanager
def remote_catalogue(settings: Settings, *ports: int, **more: Any) -> Iterator[RemoteCatalogue]:
    """Give the catalogue of the registries at these ports, which have the secret that ``settings`` name."""
    hosts = tuple(("127.0.0.1", port) for port in ports)
    remote = RemoteCatalogue(dataclasses.replace(settings, registry_host=hosts, **more))
    yield remote
    remote.close()


class Remotes:
    """Registries over installations, each served for as long as the tests run, and catalogues that ask them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory
        self._made: dict[tuple[str, ...], tuple[Engine, RemoteCatalogue]] = {}

    def catalogue_of(self, installation: Installation, **limits: Any) -> Subject:
        """Make the catalogue of an API server under these limits, which are the registry's to keep."""

        def limited(**more: Any) -> Subject:
            return self.catalogue_of(installation, **{**limits, **more})

        words = {name: str(value) for name, value in sorted(limits.items()) if value is not None}
        key = (str(installation.engine.url), *(f"{name}={word}" for name, word in words.items()))
        if key not in self._made:
            self._made[key] = self._serve(installation, {"image_property_bytes": "0", **words})
        expire = catalogue_of(installation, installation.settings).expire
        return Subject(self._made[key][1], expire, limited)

    def rest(self) -> None:
        """Close the registries' connections to databases, which take a limited number of them."""
        for engine, _ in self._made.values():
            engine.dispose()

    def _serve(self, installation: Installation, limits: dict[str, str]) -> tuple[Engine, RemoteCatalogue]:
        directory = self._directory / str(len(self._made))
        registry = self._stack.enter_context(registry_of(installation, directory, **limits)).installation
        port = self._stack.enter_context(served(registry.wsgi))
        remote = self._stack.enter_context(remote_catalogue(registry.settings, port))
        return registry.engine, remote
