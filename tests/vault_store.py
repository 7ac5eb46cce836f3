"""A plug-in that brings a kind of store (``pyramid.includes = vault_store``): files that have other URLs."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from pyramid.config import Configurator

from pyrimage.readers import directory, endpoint, setting, word
from pyrimage.settings import Settings
from pyrimage.stores import Identify, Store
from pyrimage.stores.file import FileStore
from pyrimage.stores.interfaces import BlobWriter

IDENTITY = "0" * 32
SIGNATURE = "not-for-the-log"


class VaultStore:
    """Files in a directory that need no marker of the service's database."""

    def __init__(self, name: str, directory: Path, realm: str, public: str | None) -> None:
        self.name, self._realm, self._public = name, realm, public
        self._files = FileStore(name, directory, lambda asking: IDENTITY)
        self._files.marker.write(IDENTITY, replace=True)
        self.new_key, self.is_key, self.delete = self._files.new_key, self._files.is_key, self._files.delete

    def check(self) -> None:
        self._files.check()

    def open_writer(self, key: str, size: int | None) -> BlobWriter:
        self.check()
        return self._files.open_writer(key, size)

    def open_reader(self, key: str, size: int, offset: int = 0, length: int | None = None) -> IO[bytes]:
        self.check()
        return self._files.open_reader(key, size, offset, length)

    def url(self, key: str) -> str:
        return f"vault://{self._realm}/{key}"

    def temporary_url(self, key: str, seconds: int, disposition: str) -> str | None:
        query = urlencode({"Signature": SIGNATURE, "seconds": seconds, "disposition": disposition})
        return f"{self._public}/{key}?{query}" if self._public else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStoreFactory:
    vault_store_path: Path = setting(directory, "Where the vault is.")
    vault_store_pin: str = setting(str, "What opens it.", secret=True)
    vault_store_realm: str = setting(word("home", "away"), "Which one it is.", default="home")
    vault_store_public: str | None = setting(endpoint, "Where clients read what is in it.", default=None)

    def make(self, name: str, settings: Settings, identify: Identify) -> Store:
        return VaultStore(name, self.vault_store_path, self.vault_store_realm, self.vault_store_public)


def includeme(config: Configurator) -> None:
    config.add_image_store("vault", VaultStoreFactory)
