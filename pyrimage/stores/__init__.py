"""The stores this server has, by name."""

from collections.abc import Callable

from ..errors import StoreUnavailable
from ..settings import Settings
from .file import FileStore
from .interfaces import Store

__all__ = ["Store", "Stores", "make_stores"]


class Stores(dict[str, Store]):
    """Stores by name."""

    def __missing__(self, name: str) -> Store:
        """Say so, where a row names a store that the settings no longer do."""
        raise StoreUnavailable(f"This server has no store {name!a}.")


def make_stores(settings: Settings, identify: Callable[[FileStore], str]) -> Stores:
    """Make the stores that the settings name; opens nothing. identify: see ``FileStore``."""
    return Stores({FileStore.name: FileStore(settings.filesystem_store_datadir, identify)})
