"""What functional tests share beside the API: a registry of the same database, and the command."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Pool, event

import origins
from conftest import Installation, install
from keystones import Keystone
from logged import own_logging
from managed import Manage
from registries import Registry, registry_of
from servers.processes import PROGRAMS


@pytest.fixture(scope="session")
def shared_registry(shared_installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_of(shared_installation, tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def registry(installation: Installation, shared_registry: Registry) -> Registry:
    """A registry, asked by an administrator, of the database and store of ``installation``, which is empty."""
    return shared_registry


@pytest.fixture(scope="session")
def shared_web_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = install(tmp_path_factory.mktemp("web"), stores="file, http", allowed_hosts="127.0.0.1")
    yield made
    made.engine.dispose()


@pytest.fixture
def web_installation(shared_web_installation: Installation) -> Iterator[Installation]:
    """An installation with a store on web servers, which may ask those of this machine; empty."""
    yield shared_web_installation
    shared_web_installation.empty()


@pytest.fixture
def origin() -> Iterator[origins.Origin]:
    """A web server that images are registered at."""
    with origins.serving() as made:
        yield made


@pytest.fixture
def install_keystone(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Give a function that makes an installation which asks a Keystone: with options of its section, and settings."""
    made: list[Installation] = []

    def make(keystone: Keystone, section: dict[str, str] | None = None, **keys: str) -> Installation:
        directory = tmp_path / f"keystone-{len(made)}"
        ini = keystone.write_ini(directory, **(section or {}))
        made.append(install(directory, str(ini), auth="keystone", **keys))
        return made[-1]

    yield make
    for each in made:
        each.engine.dispose()


@pytest.fixture
def manage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Manage]:
    """The command ``pyrimage-manage``, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(PROGRAMS / "pyrimage-manage")])
    opened: list[Any] = []

    def note(connection: Any, record: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    with own_logging():
        yield Manage(tmp_path, capsys)
    event.remove(Pool, "connect", note)
    for connection in opened:
        connection.close()  # the end of a program does that
