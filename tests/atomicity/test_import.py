"""Imports that are broken off, or meet something broken: nothing is lost, nothing left, and the rest goes on."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from webtest import TestApp

from conftest import Installation, install
from default_store import file_store_only
from exports import blob_of, edit, kept, load_all, load_each, reasons, save_all
from factories import data_headers, files_below, md5, meta, reserve, stored, upload
from faults import DEAD, at_commit, claim_upload, clean, expire_claims, fill_database, hinder, raising
from pyrimage.errors import DatabaseError, StoreFull, StoreMissing, StoreUnavailable
from pyrimage.export.load import Outcome
from pyrimage.models import ClaimRow, ImageRow, LocationRow

DATA = bytes(range(256)) * 4096  # more than one read
ADDED, EQUAL, DIFFERENT, FAILED = Outcome


# -- bytes that the export has


def test_bytes_are_copied_and_the_old_ones_stay(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    upload(committing_app, DATA, id="large")
    upload(committing_app, id="small")
    before = stored(own_installation)
    assert [each.written for each in save_all(own_installation, export, with_data=True)] == [len(DATA), 5]
    assert load_all(target, export) == {"large": ADDED, "small": ADDED}
    assert stored(own_installation) == before
    assert kept(target) == kept(own_installation)
    assert len(target.stored_keys()) == 2
    assert set(target.stored_keys()).isdisjoint(own_installation.stored_keys())


def test_equal_bytes_are_one_file_of_the_export_and_two_of_the_store(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    for name in ("a", "b"):
        upload(committing_app, id=name)
    assert [each.written for each in save_all(own_installation, export, with_data=True)] == [5, None]
    assert len(files_below(export / "blobs")) == 1
    assert load_all(target, export) == {"a": ADDED, "b": ADDED}
    target.client().delete("/v1/images/a", status=200)
    assert target.client().get("/v1/images/b", status=200).body == b"bytes"


def change(path: Path) -> None:
    path.write_bytes(b"Bytes")


def cut(path: Path) -> None:
    os.truncate(path, 4)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (Path.unlink, "cannot be read: No such file or directory."),
        (change, "were changed: their sha256 is"),
        (cut, "The export holds 4 bytes of the image's 5."),
        (link, "is not a file."),
        (pipe, "is not a file."),
        (directory, "is not a file."),
    ],
)
def test_damaged_bytes_are_refused_and_named_and_the_rest_goes_on(
    own_installation: Installation,
    committing_app: TestApp,
    export: Path,
    target: Installation,
    damage: Callable[[Path], None],
    word: str,
) -> None:
    upload(committing_app, b"first", id="a")
    upload(committing_app, b"bytes", id="b")
    upload(committing_app, b"later", id="c")
    save_all(own_installation, export, with_data=True)
    shutil.copytree(export, export.with_name("whole"))
    damage(blob_of(export, b"bytes"))
    found = reasons(target, export)
    assert word in found.pop("b")
    assert found == {"a": "", "c": ""}
    assert (len(target.stored_keys()), target.rows(ClaimRow), target.rows(ImageRow)) == (2, 0, 2)
    assert load_all(target, export.with_name("whole")) == {"a": EQUAL, "b": ADDED, "c": EQUAL}
    assert kept(target) == kept(own_installation)


def test_bytes_of_another_checksum_than_the_row_has_are_refused(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    upload(committing_app, id="f17")
    save_all(own_installation, export, with_data=True)
    edit(export, lambda image: image.update(checksum=md5(b"others")))
    assert "their checksum is" in reasons(target, export)["f17"]
    assert target.stored_keys() == []


@pytest.mark.parametrize("step", ["write", "finish"])
def test_full_store_leaves_nothing_and_the_next_import_goes_on(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation, step: str
) -> None:
    for name in ("a", "b"):
        upload(committing_app, id=name)
    save_all(own_installation, export, with_data=True)
    store = hinder(target)
    store.before[step] = raising(StoreFull("full"))
    assert reasons(target, export) == {"a": "full", "b": "full"}
    assert (target.stored_keys(), target.rows(ClaimRow), target.rows(ImageRow)) == ([], 0, 0)
    store.before.clear()
    assert load_all(target, export) == {"a": ADDED, "b": ADDED}


def test_store_that_is_away_ends_the_import_and_leaves_nothing(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    upload(committing_app, id="f17")
    save_all(own_installation, export, with_data=True)
    hinder(target).before["write"] = raising(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        load_each(target, export)
    assert (target.stored_keys(), target.rows(ClaimRow), target.rows(ImageRow)) == ([], 0, 0)


def test_import_whose_claim_was_ended_meanwhile_leaves_nothing_of_the_image(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    for name in ("a", "b"):
        upload(committing_app, id=name)
    save_all(own_installation, export, with_data=True)
    store = hinder(target)

    def end() -> None:
        store.before.clear()
        expire_claims(target, DEAD)
        (claim,) = target.catalogue.claims.expired(DEAD / 2)
        target.catalogue.claims.seize(claim, DEAD / 2)

    store.before["finish"] = end
    assert "longer than its lease" in reasons(target, export)["a"]
    assert (len(target.stored_keys()), target.rows(ImageRow), target.rows(LocationRow)) == (1, 1, 1)
    clean(target)
    assert load_all(target, export) == {"a": ADDED, "b": EQUAL}


@pytest.mark.parametrize("with_data", [True, False])
def test_commit_that_fails_ends_the_import_and_leaves_nothing(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation, with_data: bool
) -> None:
    if with_data:
        upload(committing_app, id="f17")
    else:
        reserve(committing_app, id="f17")
    save_all(own_installation, export, with_data=True)
    at_commit(target, fill_database)
    with pytest.raises(DatabaseError):
        load_each(target, export)
    assert (target.stored_keys(), target.rows(ClaimRow), target.rows(ImageRow)) == ([], 0, 0)
    assert load_all(target, export) == {"f17": ADDED}


def test_image_that_is_being_uploaded_is_left_alone_until_its_server_is_dead(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    """As it is with the claim that an import left which was killed."""
    upload(committing_app, id="f17")
    reserve(committing_app, id="f18")
    save_all(own_installation, export, with_data=True)
    for name in ("f17", "f18"):
        claim_upload(target, name, is_new=True, age=timedelta())
    expire_claims(target, -DEAD)
    assert all("under way" in reason for reason in reasons(target, export).values())
    expire_claims(target, DEAD)
    assert load_all(target, export) == {"f17": ADDED, "f18": ADDED}
    clean(target)
    assert (len(target.stored_keys()), target.rows(ClaimRow)) == (1, 0)


# -- bytes that stay where they are


@pytest.fixture
def inherit(own_installation: Installation, tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Give a function that makes an installation with the directory of the other one, which has lost it then."""
    made: list[Installation] = []

    def make() -> Installation:
        (own_installation.datadir / "blobs/pyrimage-store").unlink()
        place = {"stores": "file, http", "allowed_hosts": "images.example.org"}
        made.append(install(tmp_path / "heir", filesystem_store_datadir=str(own_installation.datadir), **place))
        return made[0]

    yield make
    for each in made:
        each.engine.dispose()


@file_store_only
def test_adopted_bytes_are_not_copied_and_are_lost_to_the_old_database(
    own_installation: Installation, committing_app: TestApp, export: Path, inherit: Callable[[], Installation]
) -> None:
    path = upload(committing_app, DATA, id="f17")
    reserve(committing_app, id="f18")
    files = own_installation.stored_keys()
    save_all(own_installation, export)
    heir = inherit()
    assert "--adopt" in reasons(heir, export)["f17"]
    assert load_all(heir, export, adopts=True) == {"f17": ADDED, "f18": EQUAL}
    assert load_all(heir, export, adopts=True) == {"f17": EQUAL, "f18": EQUAL}
    assert heir.stored_keys() == files
    committing_app.delete(path, status=200)
    committing_app.get(path, status=404)
    assert [type(error) for _, error in own_installation.scrub(DEAD)] == [StoreMissing]
    assert heir.client().get(path, status=200).body == DATA
    heir.client().delete(path, status=200)
    assert heir.stored_keys() == []


@file_store_only
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"location": {"store": "file", "key": "../../../etc/passwd"}}, "is not a key of the store file"),
        ({"location": {"store": "file", "key": "b.0123456789abcdef"}}, "missing from the store"),
        ({"location": {"store": "tape", "key": "b.0123456789abcdef"}}, "tape, which is none here"),
        ({"location": {"store": "http", "key": "http://x/"}}, "http, which is none here"),
        ({"size": 6}, "The store holds 5 bytes of the image's 6."),
        ({"location": "a's"}, "those of another image"),
        ({"location": {"url": "http://127.0.0.1/"}}, "127.0.0.1"),
        ({"location": {"url": "file:///etc/passwd"}}, "External sources are not supported"),
    ],
)
def test_bytes_that_cannot_be_an_images_are_not_adopted(
    own_installation: Installation,
    committing_app: TestApp,
    export: Path,
    inherit: Callable[[], Installation],
    changes: dict[str, Any],
    word: str,
) -> None:
    for name in ("a", "b", "c"):
        upload(committing_app, id=name)
    save_all(own_installation, export)
    places: dict[str, Any] = {}

    def spoil(image: dict[str, Any]) -> None:
        places[image["id"]] = image["location"]
        if image["id"] == "b":
            image.update({"location": places["a"]} if changes.get("location") == "a's" else changes)

    edit(export, spoil)
    heir = inherit()
    for _ in range(2):  # the second time, what it had to be compared with is in the database
        found = reasons(heir, export, adopts=True)
        assert word in found.pop("b")
        assert found == {"a": "", "c": ""}
    assert heir.rows(LocationRow) == heir.rows(ImageRow) == 2


# -- what is there already


def test_what_differs_is_told_and_left(
    own_installation: Installation, committing_app: TestApp, export: Path, target: Installation
) -> None:
    for name in ("name", "members", "properties", "same"):
        upload(committing_app, id=name)
    for name in ("deleted", "data"):
        reserve(committing_app, id=name)
    save_all(own_installation, export, with_data=True)
    load_each(target, export)
    with target.engine.begin() as connection:
        connection.execute(update(ImageRow).where(ImageRow.id == "name").values(name="another"))
    client = target.client()
    client.put_json("/v1/images/members/members/tenant-b", {"member": {"can_share": True}}, status=204)
    client.put("/v1/images/properties", headers=meta(properties={"os": "linux"}), status=200)
    client.delete("/v1/images/deleted", status=200)
    client.put("/v1/images/data", b"bytes", headers=data_headers(), status=200)
    before = stored(target)
    found = reasons(target, export)
    assert {name: reason.removeprefix("It is there, and differs: ") for name, reason in found.items()} == {
        "name": "name.",
        "members": "members.",
        "properties": "updated_at, properties.",
        "same": "",
        "deleted": "status, deleted, updated_at, deleted_at.",
        "data": "size, checksum, status, updated_at, sha256, activated_at, location.",
    }
    assert load_all(target, export) == {name: EQUAL if name == "same" else DIFFERENT for name in found}
    assert stored(target) == before
