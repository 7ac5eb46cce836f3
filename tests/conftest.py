"""What tests share: an application over the real SQLite and the real file store."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import pytest
from pyramid.registry import Registry
from sqlalchemy import Engine, delete, event
from webtest import TestApp

import default_catalogue
from default_catalogue import Registries
from default_store import KIND, SERVICES, Service, give_back, place_in
from factories import files_below
from pyrimage.app import main
from pyrimage.catalogue.records import Identity
from pyrimage.catalogue.sql.catalogue import SqlCatalogue
from pyrimage.environ import CHALLENGE, IDENTITY
from pyrimage.errors import StoreError
from pyrimage.models import Base, StoreRow, make_engine, migrations
from pyrimage.settings import Settings
from pyrimage.stores import Store, Stores
from pyrimage.uploads.scrub import scrub
from servers import keystone, origin, seaweedfs, swift
from servers.keystone import Identity as IdentityService
from servers.machine import environment, installed
from servers.origin import Origin
from servers.seaweedfs import S3
from servers.shared import shared
from servers.swift import Cluster

pytest.register_assert_rewrite("pyrimage.stores.testing", "pyrimage.catalogue.testing")


@dataclass
class Installation:
    """An application with its database and its data directory, and a client of it.

    place: the ini's keys of its stores. asked: the registry that it asks, if it has no database.
    """

    wsgi: Any
    datadir: Path
    place: dict[str, str] = field(default_factory=dict)
    asked: Any = None

    @property
    def registry(self) -> Registry:
        return self.wsgi._app.registry

    @property
    def settings(self) -> Settings:
        settings: Settings = self.registry["pyrimage.settings"]
        return settings

    @property
    def catalogue(self) -> SqlCatalogue:
        """The catalogue over its database, or over that of the registry that it asks."""
        registry = self.registry if self.asked is None else self.asked._app.registry
        catalogue: SqlCatalogue = registry["pyrimage.catalogue"]
        return catalogue

    @property
    def stores(self) -> Stores:
        stores: Stores = self.registry["pyrimage.stores"]
        return stores

    @property
    def engine(self) -> Engine:
        return self.catalogue.engine

    def scrub(self, grace: timedelta, *, dry_run: bool = False) -> list[tuple[str, StoreError | None]]:
        return list(scrub(self.stores, self.registry["pyrimage.catalogue"].claims, grace, dry_run=dry_run))

    @property
    def shared(self) -> dict[str, str]:
        """What another server of the same database and stores has in its ini."""
        return {"sqlalchemy.url": self.engine.url.render_as_string(hide_password=False), **self.place}

    def client(self, identity: Identity | None = None, **environ: Any) -> TestApp:
        """Return a client on this machine; with an identity, its requests carry that, as from the middleware."""
        environ = {"REMOTE_ADDR": "127.0.0.1", **environ}
        if identity is not None:
            environ[IDENTITY] = identity
            if not identity.is_known:
                environ[CHALLENGE] = 'Basic realm="pyrimage"'
        return TestApp(self.wsgi, extra_environ=environ)

    @property
    def store(self) -> Store:
        """The default store."""
        return self.stores.writable(self.settings.default_store)

    def stored_keys(self) -> list[str]:
        """Return the keys under which something lies in the default store, uploads that never ended too.

        Of files that there is anything else must show as well, and whether their directory is the store's.
        """
        if KIND == "file":
            return sorted(name.rpartition("/")[2] for name in files_below(self.datadir))
        store: Any = self.store
        return sorted({blob.key for blob in store.blobs()})

    def lose_blobs(self) -> None:
        """Remove everything from the default store, and leave the rows as they are."""
        for key in self.stored_keys():
            self.store.delete(key)

    def rows(self, model: type[Base]) -> int:
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {model.__table__}").scalar_one())

    def empty(self) -> None:
        with self.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                if table is not StoreRow.__table__:  # the directory keeps its marker, too
                    connection.execute(delete(table))
        self.lose_blobs()


def ini_settings(directory: Path, **more: str) -> dict[str, str]:
    """Make the ``[app:main]`` of an installation in ``directory``; ``more`` are ``pyrimage.*`` keys.

    Unless ``more`` says where its stores are, it has the default store, one of its own for each directory. That of
    ``file, http`` has its files there, too.
    """
    keys = {key if "." in key else f"pyrimage.{key}": value for key, value in more.items()}
    if keys.keys().isdisjoint({"pyrimage.stores", "pyrimage.filesystem_store_datadir"}):
        keys |= place_in(directory)
    elif keys.get("pyrimage.stores") == "file, http":
        keys.setdefault("pyrimage.filesystem_store_datadir", str(directory / "images"))
    return {
        "pyrimage.auth": "none",
        "pyrimage.auto_migrate": "true",
        "sqlalchemy.url": f"sqlite:///{directory}/pyrimage.sqlite",
        **keys,
    }


@cache
def migrated_database() -> bytes:
    """Migrate an SQLite database once; what is in its file serves every installation that has its own."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "pyrimage.sqlite"
        engine = make_engine({"sqlalchemy.url": f"sqlite:///{path}"})
        migrations.upgrade(engine)
        engine.dispose()
        return path.read_bytes()


def install(directory: Path, ini: str = "", **more: str) -> Installation:
    """Make an installation; the caller disposes of its engine. ini: the path of a file with other sections."""
    settings, database = ini_settings(directory, **more), directory / "pyrimage.sqlite"
    if not database.exists() and {"sqlalchemy.url", "auto_migrate"}.isdisjoint(more):
        directory.mkdir(parents=True, exist_ok=True)
        database.write_bytes(migrated_database())
    asked = None
    if default_catalogue.KIND == "remote" and settings.get("pyrimage.application", "api") == "api":
        asked, keys = Registries.serve(directory, settings)
        settings |= keys
    place = {key: text for key, text in settings.items() if key == "pyrimage.stores" or "_store_" in key}
    datadir = place.get("pyrimage.filesystem_store_datadir", directory / "images")
    made = Installation(main({"__file__": ini} if ini else {}, **settings), Path(datadir), place, asked)
    if asked is not None:
        Registries.running[directory].callback(made.registry["pyrimage.catalogue"].close)
    return made


@pytest.fixture(scope="session", autouse=KIND in SERVICES)
def default_service(request: pytest.FixtureRequest) -> None:
    """The service of the default store, where that is not on the disk."""
    Service.running = request.getfixturevalue(SERVICES[KIND])


@pytest.fixture(autouse=KIND in SERVICES)
def place_given_back(tmp_path: Path) -> Iterator[None]:
    """The places of the test's own installations, which others have after it."""
    yield
    give_back(tmp_path)


@pytest.fixture(autouse=default_catalogue.KIND == "remote")
def registries_ended(tmp_path: Path) -> Iterator[None]:
    """The registries that the test's own installations asked."""
    yield
    Registries.end(tmp_path)


@pytest.fixture(scope="session", autouse=default_catalogue.KIND == "remote")
def all_registries_ended() -> Iterator[None]:
    """The registries that shared installations asked."""
    yield
    Registries.end(Path("/"))


@pytest.fixture(scope="session")
def shared_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = install(tmp_path_factory.mktemp("shared"))
    yield made
    made.engine.dispose()


@pytest.fixture
def installation(shared_installation: Installation) -> Iterator[Installation]:
    """The shared installation, empty."""
    yield shared_installation
    shared_installation.empty()


@pytest.fixture
def testapp(installation: Installation) -> TestApp:
    """The fast one: a client, an administrator as ``auth = none`` makes them, of the shared installation."""
    return installation.client()


@pytest.fixture
def own_installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation of the test's own, to be broken."""
    made = install(tmp_path)
    yield made
    made.engine.dispose()


@pytest.fixture
def committing_app(own_installation: Installation) -> TestApp:
    """A client of the test's own installation."""
    return own_installation.client()


@pytest.fixture
def statements(installation: Installation) -> Iterator[list[str]]:
    """The SQL statements that the shared installation ran."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(installation.engine, "before_cursor_execute", note)
    yield seen
    event.remove(installation.engine, "before_cursor_execute", note)


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse sockets to other machines."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test called {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let the process have a umask: whatever it is, no file of ours is for others."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def install_with(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Give a function that makes an installation of the test's own, with more ``pyrimage.*`` keys."""
    made: list[Installation] = []

    def make(**keys: str) -> Installation:
        made.append(install(tmp_path / str(len(made)), **keys))
        return made[-1]

    yield make
    for each in made:
        each.engine.dispose()


# The machines are shared: how long an example takes proves nothing.
hypothesis.settings.register_profile("pyrimage", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("pyrimage")


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The directory of the test run, the same one in each of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def identity_service(run_directory: Path) -> Iterator[IdentityService]:
    """A Keystone that all tests share."""
    environment("keystone")
    with shared(keystone.serving, run_directory) as running:
        yield running


@pytest.fixture(scope="session")
def swift_cluster(run_directory: Path, identity_service: IdentityService) -> Iterator[Cluster]:
    """A Swift that all tests share, in that Keystone's catalogue: each has containers of its own."""
    environment("swift")
    with shared(swift.serving, run_directory, identity_service) as running:
        yield running


@pytest.fixture(scope="session")
def s3_server(run_directory: Path) -> Iterator[S3]:
    """A SeaweedFS that all tests share: each has buckets of its own."""
    environment("seaweedfs")
    with shared(seaweedfs.serving, run_directory) as running:
        yield running


@pytest.fixture(scope="session")
def origin_server(run_directory: Path) -> Iterator[Origin]:
    """A web server that all tests share: each has files of its own."""
    installed("nginx")
    with shared(origin.serving, run_directory) as running:
        yield running
