"""The store in OpenStack Swift. What speaks to Swift is imported only where such a store is configured."""

from dataclasses import dataclass

from pyramid.config import Configurator

from ...errors import ConfigurationError
from ...settings import Settings
from ..directory import Identify
from ..interfaces import Store
from .settings import SwiftSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftStoreFactory(SwiftSettings):
    """The settings of a Swift store, which make it."""

    def make(self, name: str, settings: Settings, identify: Identify) -> Store:
        """Make the store; opens nothing. Raises ConfigurationError where what it needs is not installed."""
        try:
            from .store import make_store  # noqa: PLC0415 - servers without such a store do without swiftclient
        except ImportError as error:
            needed = f"needs {error.name}, which is not installed: pip install pyrimage[keystone]"
            raise ConfigurationError(f"The store {name} {needed}.") from error
        return make_store(name, self)


def includeme(config: Configurator) -> None:
    """Make the kind known."""
    config.add_image_store("swift", SwiftStoreFactory)
