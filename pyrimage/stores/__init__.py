"""The stores this server has, by name, and the kinds of stores that it knows.

A kind is a module of its own, ours or a plug-in's, that calls ``config.add_image_store(kind, factory)`` in its
``includeme``. ``docs/architecture.md`` shows a whole one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError as PyramidConfigurationError
from pyramid.registry import Registry

from ..catalogue.records import Location
from ..errors import ConfigurationError, Invalid, StoreUnavailable
from ..server.logtext import shown
from ..settings import STORE_NAME, Settings, read_settings
from .directory import Identify
from .interfaces import LocationStore, ReadableStore, Store

__all__ = [
    "FOREIGN",
    "Identify",
    "ReadableStore",
    "Store",
    "StoreFactory",
    "Stores",
    "load_settings",
    "make_configurator",
    "make_stores",
    "store_kinds",
]

# What rows name as the store of bytes that another server has put where no store here reads them. Cannot be configured.
FOREIGN = "(elsewhere)"

BUILT_IN = ("pyrimage.stores.file", "pyrimage.stores.http", "pyrimage.stores.s3", "pyrimage.stores.swift")

_KINDS = "pyrimage.store_kinds"  # in Pyramid's registry


class StoreFactory(Protocol):
    """The settings of a kind of store, which make one: a frozen dataclass, each field of it a ``readers.setting``.

    ``__post_init__`` may raise ValueError for settings that do not go together.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def make(self, name: str, settings: Settings, identify: Identify) -> ReadableStore:
        """Make the store of this name; opens nothing. settings: the service's, of which some concern stores too.

        identify: for kinds whose places carry a ``Marker``.
        """


class Stores(dict[str, ReadableStore]):
    """Stores by name."""

    def __missing__(self, name: str) -> ReadableStore:
        """Say so, where a row names a store that the settings no longer do, or none."""
        if name == FOREIGN:
            raise StoreUnavailable("The image's bytes lie where no store of this server reads them.")
        raise StoreUnavailable(f"This server has no store {name!a}.")

    def writable(self, name: str) -> Store:
        """Return a store that takes uploads. Raises StoreUnavailable for one that does not."""
        store = self[name]
        if not isinstance(store, Store):
            raise StoreUnavailable(f"The store {name} can only be read.")
        return store

    def locate(self, url: str) -> Location:
        """Return where the bytes lie that a client wants to register at a URL; asks nobody. Raises Invalid."""
        # All are asked: to one store it may be another bucket, and to the next its own, which may not be registered.
        locations = [
            Location(store.name, key, owned=False)
            for store in self.values()
            if isinstance(store, LocationStore) and (key := store.register(url)) is not None
        ]
        if locations:
            return locations[0]
        raise Invalid(f"External sources are not supported: '{shown(url)}'.")

    def own(self, url: str) -> Location | None:
        """Return the location of the blob of ours, there or not, whose URL this is; asks nobody."""
        parts = url.rsplit("/", 2)
        for store in self.values():
            for key in (parts[-1], "/".join(parts[-2:])):
                if isinstance(store, Store) and store.is_key(key) and store.url(key) == url:
                    return Location(store.name, key)
        return None

    def check_registered(self, location: Location) -> None:
        """Refuse a location that another server has registered, unless it could be here too; asks nobody.

        Raises Invalid.
        """
        if location.store not in self or not isinstance(store := self[location.store], LocationStore):
            raise Invalid(f"{location.store!a} is not a store here in which locations can be registered.")
        url = store.url(location.key)
        self.locate(url)  # it could be another store's own place
        if store.register(url) != location.key:
            raise Invalid(f"{location.key!a} is not a key of a location in the store {location.store}.")

    def stat(self, location: Location) -> int:
        """Ask how many bytes lie at a registered location. Raises Invalid where there are none, StoreError."""
        store = self[location.store]
        if not isinstance(store, LocationStore):
            raise StoreUnavailable(f"In the store {location.store} no location can be registered.")
        return store.stat(location.key)


def make_stores(settings: Settings, identify: Identify) -> Stores:
    """Make the stores that the settings name; opens nothing. identify: says what a place must carry.

    Raises ConfigurationError for two of one place, where each would take the other's bytes for its own, and for a
    default store that takes no uploads.
    """
    stores, urls = Stores(), dict[str, str]()
    for each in settings.stores:
        factory: StoreFactory = each.factory
        store = stores[each.name] = factory.make(each.name, settings, identify)
        other = urls.setdefault(store.url("key"), each.name)
        if other != each.name:
            raise ConfigurationError(f"The stores {other} and {each.name} have the same place: give each its own.")
    if not isinstance(stores[settings.default_store], Store):
        writable = [name for name, store in stores.items() if isinstance(store, Store)]
        use = f"set it to {' or '.join(writable)}" if writable else "name one in pyrimage.stores that does"
        raise ConfigurationError(f"pyrimage.default_store = {settings.default_store} takes no uploads: {use}.")
    return stores


def add_image_store(config: Configurator, kind: str, factory: type[StoreFactory]) -> None:
    """Let ``pyrimage.stores`` name stores of this kind: the directive ``config.add_image_store``.

    Takes effect at once, for the settings are read before Pyramid executes what others are told to do. Raises
    ConfigurationError for a kind that is known already, or a setting that is the service's.
    """
    names = {field.name for field in dataclasses.fields(factory)}
    if not STORE_NAME.fullmatch(kind):
        raise ConfigurationError(f"{kind!a} cannot be the name of a kind of store.")
    if taken := names & {field.name for field in dataclasses.fields(Settings)}:
        raise ConfigurationError(f"Settings of the kind of store {kind} are the service's: {', '.join(sorted(taken))}.")
    if config.registry[_KINDS].setdefault(kind, factory) is not factory:
        raise ConfigurationError(f"There are two kinds of store with the name {kind}.")


def includeme(config: Configurator) -> None:
    """Add the directive, and our own kinds."""
    config.registry.setdefault(_KINDS, {})
    config.add_directive("add_image_store", add_image_store, action_wrap=False)
    for module in BUILT_IN:
        config.include(module)


def make_configurator(ini: Mapping[str, str]) -> Configurator:
    """Make a configurator with an ini's settings, which has included its ``pyramid.includes``.

    Pyramid includes them in ``setup_registry``, which its constructor calls unless there is a registry; they may call
    our directive, so that must be there before. Raises ConfigurationError for one that is not there.
    """
    config = Configurator(registry=Registry("pyrimage"), package="pyrimage")
    config.include("pyrimage.stores")
    try:
        config.setup_registry(settings=ini)
    except (ImportError, PyramidConfigurationError) as error:
        raise ConfigurationError(f"pyramid.includes: {error}") from error
    return config


def store_kinds(config: Configurator) -> Mapping[str, type[StoreFactory]]:
    """Return what makes the stores of each kind that is known."""
    kinds: Mapping[str, type[StoreFactory]] = config.registry[_KINDS]
    return kinds


def load_settings(ini: Mapping[str, str]) -> Settings:
    """Read an ini's settings, those of stores of its ``pyramid.includes`` too. Raises ConfigurationError."""
    return read_settings(ini, store_kinds(make_configurator(ini)))
