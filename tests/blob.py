"""A blob that tests put into a file store."""

from pyrimage.stores.file import FileStore

DATA = b"0123456789"
KEY = "f17.0123456789abcdef"


def put(store: FileStore, key: str = KEY) -> None:
    writer = store.open_writer(key, len(DATA))
    writer.write(DATA)
    writer.seal()
    writer.publish()
