"""The file store: the suite, where files lie, and that they outlive a power cut."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blob import DATA, KEY, make_store, put
from factories import files_below
from pyrimage.errors import BlobDamaged, StoreMissing, StoreUnavailable
from pyrimage.stores.file import FileStore
from pyrimage.stores.testing import ListingConformance, StoreConformance

OUTSIDE = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../f17.0123456789abcdef",
    "x/../../../f17.0123456789abcdef",
    "staging/f17.0123456789abcdef",
    ".f17.0123456789abcdef",
    "f17",
    "f17.0123456789abcde/",
    "f17.0123456789abcdef\n",
    "f17.0123456789abcdef\x00",
    "f17.0123456789ABCDEF",
    "f\u00b9.0123456789abcdef",
    f"{'x' * 65}.0123456789abcdef",
]


class TestFileStore(StoreConformance, ListingConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        self.directory = tmp_path / "images"
        return make_store(self.directory)

    def leftovers(self) -> list[str]:
        return files_below(self.directory)


# -- where files lie


def test_bytes_are_staged_inside_the_directory(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, None)
    assert files_below(directory) == [f"staging/{KEY}"]
    writer.discard()


def test_what_is_no_blob_where_it_lies_is_not_listed(store: FileStore, directory: Path) -> None:
    put(store)
    for name in ("blobs/notes.txt", "blobs/ef/notes.txt", f"blobs/aa/{KEY}", f"{KEY}", "staging/x", "else/ef/" + KEY):
        path = directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    other = KEY.replace("f17", "f18")
    (directory / "blobs/ef" / other).symlink_to(directory / "blobs/notes.txt")
    assert [blob.key for blob in store.blobs()] == [KEY]


def test_a_directory_that_is_not_the_stores_is_not_listed(store: FileStore, directory: Path) -> None:
    put(store)
    (directory / "blobs/pyrimage-store").unlink()
    with pytest.raises(StoreMissing):
        list(store.blobs())


def test_blobs_are_spread_over_subdirectories(store: FileStore, directory: Path) -> None:
    for number in range(64):
        put(store, store.new_key(f"f{number}"))
    shelves = {path.name for path in (directory / "blobs").iterdir() if path.is_dir()}
    assert len(shelves) > 16
    assert {path.name[-2:] for path in (directory / "blobs").glob("*/*")} == shelves


def test_a_finished_file_was_moved_and_not_copied(store: FileStore, directory: Path) -> None:
    writer = store.open_writer(KEY, None)
    writer.write(DATA)
    staged = (directory / "staging" / KEY).stat().st_ino
    writer.finish()
    assert files_below(directory) == [f"blobs/ef/{KEY}"]
    assert (directory / "blobs/ef" / KEY).stat().st_ino == staged


def test_no_key_is_written_twice(store: FileStore) -> None:
    writer = store.open_writer(KEY, None)
    with pytest.raises(StoreUnavailable):
        store.open_writer(KEY, None)
    writer.discard()


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.open_writer(key, None),
        lambda store, key: store.open_reader(key, 1),
        lambda store, key: store.delete(key),
    ],
    ids=["open_writer", "open_reader", "delete"],
)
def test_key_that_leads_out_of_the_directory_is_refused(
    store: FileStore, directory: Path, key: str, use: Callable[[FileStore, str], object]
) -> None:
    """S26."""
    assert not store.is_key(key)
    with pytest.raises(BlobDamaged):
        use(store, key)
    assert files_below(directory.parent.parent) == []


def test_url_names_the_file(store: FileStore, stored: Path) -> None:
    assert store.url(KEY) == f"file://{stored}"


# -- durability


def test_file_and_directories_are_flushed_in_this_order(store: FileStore, directory: Path) -> None:
    """A rename that is durable before its bytes would show an empty file after a power cut.

    The directories on its way are flushed as well: another upload may have made them a moment ago.
    """
    staged, final = directory / "staging" / KEY, directory / "blobs/ef" / KEY
    directories = [f"fsync {each}" for each in (final.parent, directory / "blobs", directory)]
    assert traced(lambda: put(store)) == [f"fsync {staged}", f"rename {staged} {final}", *directories]


def test_other_users_of_the_machine_read_no_bytes(store: FileStore, directory: Path) -> None:
    put(store)
    assert [(directory / name).stat().st_mode & 0o777 for name in ("staging", "blobs")] == [0o700, 0o700]


def traced(action: Callable[[], None]) -> list[str]:
    """Return the names of what an action flushed and renamed, in order."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        seen.append(f"fsync {name_of(descriptor)}")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        seen.append(f"rename {source} {target}")
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", note_fsync)
        patch.setattr(os, "rename", note_rename)
        action()
    return seen


def name_of(descriptor: int) -> str:
    return os.path.realpath(f"/proc/self/fd/{descriptor}")
