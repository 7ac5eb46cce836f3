"""A plug-in that brings a kind of store (``pyramid.includes = vault_store``): files that have other URLs."""

from dataclasses import dataclass
from pathlib import Path

from pyramid.config import Configurator

from pyrimage.readers import directory, setting, word
from pyrimage.stores import Identify, Store
from pyrimage.stores.file import FileStore


class VaultStore(FileStore):
    """A file store that is called otherwise."""

    def __init__(self, name: str, directory: Path, realm: str, identify: Identify) -> None:
        super().__init__(name, directory, identify)
        self._realm = realm

    def url(self, key: str) -> str:
        return f"vault://{self._realm}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStoreFactory:
    vault_store_path: Path = setting(directory, "Where the vault is.")
    vault_store_pin: str = setting(str, "What opens it.", secret=True)
    vault_store_realm: str = setting(word("home", "away"), "Which one it is.", default="home")

    def make(self, name: str, identify: Identify) -> Store:
        return VaultStore(name, self.vault_store_path, self.vault_store_realm, identify)


def includeme(config: Configurator) -> None:
    config.add_image_store("vault", VaultStoreFactory)
