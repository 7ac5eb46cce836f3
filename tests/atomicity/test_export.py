"""Exports that are broken off, or meet something broken: what is whole is written, and what is not is told."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from conftest import Installation
from default_store import file_store_only
from exports import blob_of, ignore, kept, load_all, reasons, save_all
from factories import add_row, files_below, insert_rows, meta, upload
from faults import hinder
from pyrimage.catalogue.records import Status
from pyrimage.errors import ExportUnusable, StoreMissing
from pyrimage.export.directory import Export, NewExport
from pyrimage.export.load import Outcome
from pyrimage.export.save import save
from pyrimage.models import LocationRow

DATA = bytes(range(256)) * 4096  # more than one read
ADDED = Outcome.ADDED


def change(path: Path) -> None:
    path.write_bytes(b"Bytes")


def cut(path: Path) -> None:
    os.truncate(path, 4)


@file_store_only
@pytest.mark.parametrize(
    ("damage", "word"), [(Path.unlink, "missing"), (cut, "holds 4 bytes"), (change, "changed: their checksum is")]
)
def test_damaged_image_is_named_and_exported_without_its_bytes(
    own_installation: Installation,
    committing_app: TestApp,
    export: Path,
    target: Installation,
    damage: Callable[[Path], None],
    word: str,
) -> None:
    for name in ("a", "b", "c"):
        upload(committing_app, name.encode() * 5, id=name)
    (path,) = (own_installation.datadir / "blobs").glob("*/b.*")
    damage(path)
    saved = {each.image.id: str(each.error or "") for each in save_all(own_installation, export, with_data=True)}
    assert word in saved.pop("b")
    assert saved == {"a": "", "c": ""}
    assert "not in the export" in reasons(target, export)["b"]
    assert not (export / "blobs/partial").exists()


def test_image_that_lost_its_location_is_named(
    own_installation: Installation, committing_app: TestApp, export: Path
) -> None:
    add_row(own_installation, id="f17", status=Status.ACTIVE, size=5)
    (saved,) = save_all(own_installation, export)
    assert "does not say where" in str(saved.error)


@pytest.mark.parametrize("owned", [True, False])
def test_image_in_a_store_that_the_settings_do_not_name_is_named(
    own_installation: Installation, export: Path, target: Installation, owned: bool
) -> None:
    add_row(own_installation, id="f17", status=Status.ACTIVE, size=5)
    row = {"store": "tape", "key": "f17.0123456789abcdef", "state": "active"}
    insert_rows(own_installation, LocationRow(image_id="f17", owned=owned, **row))
    (saved,) = save_all(own_installation, export, with_data=True)
    assert str(saved.error) == "This server has no store 'tape'."
    missing = "bytes are not in the export" if owned else "location: an active image has one"  # it is nobody's to adopt
    assert missing in reasons(target, export)["f17"]


def test_image_that_is_deleted_before_its_bytes_are_read_is_exported_as_deleted(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    path = upload(committing_app, id="f17")
    upload(committing_app, id="f18")
    hinder(own_installation).before["open_reader"] = lambda: (
        committing_app.delete(path) if own_installation.catalogue.active.find("f17") else None
    )
    assert [each.error for each in save_all(own_installation, export, with_data=True)] == [None, None]
    assert load_all(target, export) == {"f17": ADDED, "f18": ADDED}
    assert detail_of_deleted(target, "f17") == detail_of_deleted(own_installation, "f17")
    target.client().post("/v1/images", headers=meta(id="f17"), status=409)


def detail_of_deleted(installation: Installation, image_id: str) -> Any:
    """Return a deleted image as a list of changes shows it."""
    found = installation.client().get("/v1/images/detail?is_public=None&changes-since=1999-01-01").json["images"]
    (image,) = (image for image in found if image["id"] == image_id)
    assert image["deleted"]
    return image


@file_store_only
def test_disk_that_is_not_mounted_ends_the_export_and_the_last_one_stays(
    own_installation: Installation, committing_app: TestApp, export: Path
) -> None:
    upload(committing_app, id="f17")
    save_all(own_installation, export, with_data=True)
    before = (export / "images.jsonl").read_bytes()
    upload(committing_app, b"others", id="f18")
    own_installation.datadir.rename(own_installation.datadir.with_name("disk"))
    with pytest.raises(StoreMissing):
        save_all(own_installation, export, with_data=True)
    assert (export / "images.jsonl").read_bytes() == before
    own_installation.datadir.with_name("disk").rename(own_installation.datadir)
    assert [each.written for each in save_all(own_installation, export, with_data=True)] == [None, 6]


def test_export_that_was_broken_off_goes_on_with_what_is_there(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    for name in ("a", "b"):
        upload(committing_app, name.encode(), id=name)
    new = NewExport(export)
    broken = save(own_installation.catalogue, own_installation.stores, new, ignore, with_data=True)
    assert next(broken).written == 1
    new.close()
    (export / "blobs/partial").write_bytes(b"a part of something longer")
    with pytest.raises(ExportUnusable, match=r"images\.jsonl cannot be read: No such file"):
        Export(export)
    assert [each.written for each in save_all(own_installation, export, with_data=True)] == [None, 1]
    assert load_all(target, export) == {"a": ADDED, "b": ADDED}
    assert kept(target) == kept(own_installation)
    assert len(files_below(export)) == 3


def link_of_equal_size(path: Path) -> None:
    path.unlink()
    path.symlink_to("a" * len(b"bytes"))


@pytest.mark.parametrize("damage", [cut, link_of_equal_size])
def test_what_is_not_whole_is_copied_again(
    own_installation: Installation,
    committing_app: TestApp,
    export: Path,
    target: Installation,
    damage: Callable[[Path], None],
) -> None:
    upload(committing_app, id="f17")
    save_all(own_installation, export, with_data=True)
    damage(blob_of(export, b"bytes"))
    assert [each.written for each in save_all(own_installation, export, with_data=True)] == [5]
    assert load_all(target, export) == {"f17": ADDED}


def test_two_exports_do_not_write_into_one_directory(own_installation: Installation, export: Path) -> None:
    new = NewExport(export)
    with pytest.raises(ExportUnusable, match="another export"):
        NewExport(export)
    new.publish()
    new.close()
    assert save_all(own_installation, export) == []


def test_nobody_else_can_read_an_export(
    own_installation: Installation, committing_app: TestApp, export: Path, umask: int
) -> None:
    upload(committing_app)
    save_all(own_installation, export, with_data=True)
    modes = {path.stat().st_mode & 0o777 for path in export.rglob("*") if path.is_file()}
    assert (modes, export.stat().st_mode & 0o077) == ({0o600}, 0)


@pytest.mark.parametrize("name", ["images.jsonl.partial", "blobs/partial"])
def test_nothing_is_written_where_a_link_leads(
    own_installation: Installation, committing_app: TestApp, export: Path, name: str
) -> None:
    upload(committing_app)
    (precious := export.with_name("precious")).write_bytes(b"precious")
    (export / "blobs").mkdir(parents=True)
    (export / name).symlink_to(precious)
    with pytest.raises(ExportUnusable, match=name):
        save_all(own_installation, export, with_data=True)
    assert precious.read_bytes() == b"precious"


def test_no_connection_is_held_while_bytes_are_copied(
    own_installation: Installation, committing_app: TestApp, export: Path
) -> None:
    for name in ("a", "b"):
        upload(committing_app, DATA + name.encode(), id=name)
    held: list[int] = []
    pool: Any = own_installation.engine.pool

    def note(size: int) -> None:
        held.append(pool.checkedout())

    new = NewExport(export)
    assert len(list(save(own_installation.catalogue, own_installation.stores, new, note, with_data=True))) == 2
    new.close()
    assert (set(held), len(held) > 6) == ({0}, True)
