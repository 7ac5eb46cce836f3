"""A file store without a database, and a blob that tests put into it."""

from pathlib import Path

from pyrimage.stores.file import FileStore

DATA = b"0123456789"
KEY = "f17.0123456789abcdef"
IDENTITY = "0" * 32


def make_store(directory: Path) -> FileStore:
    """Make a store in a directory that carries its marker."""
    store = FileStore("file", directory, lambda asking: IDENTITY)
    store.marker.write(IDENTITY, replace=True)
    return store


def put(store: FileStore, key: str = KEY) -> None:
    writer = store.open_writer(key, len(DATA))
    writer.write(DATA)
    writer.finish()
