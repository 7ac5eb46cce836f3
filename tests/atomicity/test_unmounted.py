"""A disk that is not mounted: nothing is stored, given or forgotten, and everything is there when it is back.

What lies below the mount point is an empty directory, or one that looks like a store's.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from webtest import TestApp

from conftest import Installation, ini_settings, install
from default_catalogue import sql_catalogue_only
from default_store import file_store_only
from factories import data_headers, error_of, files_below, reserve, upload
from faults import DEAD, Body, claim_upload, clean, expire_claims, other_program, send
from pyrimage.app import main
from pyrimage.catalogue.sql.catalogue import SqlActiveImages
from pyrimage.errors import ConfigurationError, StoreMissing
from pyrimage.models import ClaimRow, LocationRow, StoreRow
from pyrimage.scripts.verify import verify
from pyrimage.stores.directory import MARKER
from pyrimage.uploads.claims import GRACE

pytestmark = file_store_only

COMMAND = "pyrimage-manage --config FILE.ini store adopt"


class Disk:
    """The file system that a data directory is the mount point of."""

    def __init__(self, datadir: Path) -> None:
        self.datadir, self._aside, self._below = datadir, datadir.with_name("disk"), datadir.with_name("below")

    def unmount(self, below: Callable[[Path], object] = Path.mkdir) -> None:
        """Let what lies below the mount point be seen."""
        self.datadir.rename(self._aside)
        below(self.datadir)

    def mount(self) -> None:
        self.datadir.rename(self._below)
        self._aside.rename(self.datadir)

    def below(self) -> list[str]:
        """Return the files that were made below the mount point, and the directories."""
        return sorted(str(path.relative_to(self._below)) for path in self._below.rglob("*"))


@pytest.fixture
def disk(own_installation: Installation) -> Disk:
    return Disk(own_installation.datadir)


def copy_of_the_disk(disk: Path) -> Callable[[Path], object]:
    """Let a copy of the store lie there, but for its marker: an old one, say."""

    def copy(datadir: Path) -> None:
        shutil.copytree(disk, datadir)
        (datadir / "blobs" / MARKER).unlink()

    return copy


def store_of_another(datadir: Path) -> None:
    """Let the store of another database lie there."""
    (datadir / "blobs").mkdir(parents=True)
    (datadir / "staging").mkdir()
    (datadir / "blobs" / MARKER).write_text(f"{'f' * 32}\n")


def nothing_at_all(datadir: Path) -> None:
    """Let not even the mount point be there."""


BELOW = [Path.mkdir, nothing_at_all, store_of_another]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


# -- while the server runs


@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_upload_is_503_and_goes_nowhere(
    own_installation: Installation,
    committing_app: TestApp,
    caplog: pytest.LogCaptureFixture,
    disk: Disk,
    method: str,
    below: Callable[[Path], object],
) -> None:
    path = reserve(committing_app, id="f17") if method == "PUT" else "/v1/images"
    disk.unmount(below)
    before = sorted(disk.datadir.rglob("*"))
    taken: list[str] = []
    body = Body(b"bytes", meanwhile=lambda: taken.append("a byte"))
    answer = send(own_installation, method, path, body, id="f17", name="f17")
    assert (answer.status_int, answer.headers["Retry-After"]) == (503, "5")
    assert str(disk.datadir) not in error_of(answer)
    assert taken == []
    assert sorted(disk.datadir.rglob("*")) == before
    assert [COMMAND in text and f"{disk.datadir}/blobs" in text for text in said(caplog)] == [True]
    assert own_installation.rows(ClaimRow) == 0


@pytest.mark.parametrize("below", BELOW)
def test_download_is_503_and_not_missing(
    committing_app: TestApp,
    active: str,
    caplog: pytest.LogCaptureFixture,
    disk: Disk,
    below: Callable[[Path], object],
) -> None:
    disk.unmount(below)
    answer = committing_app.get(active, status=503)
    assert answer.headers["Retry-After"]
    assert "missing" not in error_of(answer)
    assert [COMMAND in text for text in said(caplog)] == [True]
    assert [record for record in caplog.records if record.exc_info] == []  # among which the advice would be lost
    assert committing_app.head(active, status=200).headers["x-image-meta-size"] == "5"  # which asks no disk


def test_copy_below_the_mount_point_is_not_taken_for_the_disk(
    committing_app: TestApp, active: str, disk: Disk, tmp_path: Path
) -> None:
    disk.unmount(copy_of_the_disk(tmp_path / "disk"))
    committing_app.get(active, status=503)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(), status=503)


@pytest.mark.parametrize("below", [*BELOW, "copy"])
def test_deletion_is_200_and_keeps_its_garbage_until_the_disk_is_back(
    own_installation: Installation,
    committing_app: TestApp,
    active: str,
    disk: Disk,
    below: Callable[[Path], object] | str,
    tmp_path: Path,
) -> None:
    disk.unmount(copy_of_the_disk(tmp_path / "disk") if isinstance(below, str) else below)
    committing_app.delete(active, status=200)
    assert own_installation.rows(LocationRow) == 1
    assert [str(error) for what, error in own_installation.scrub(GRACE)] == ["The file store is not there."]
    assert own_installation.rows(LocationRow) == 1
    if below is nothing_at_all:
        disk.datadir.mkdir()
    disk.mount()
    assert len(own_installation.stored_keys()) == 1
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == 0


def goes_first(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, disk: Disk, part: str) -> None:
    """Let the disk go away when ``owner.name`` is about to be called with a path that holds ``part``."""
    call = getattr(owner, name)

    def late(path: Any, *arguments: Any, **options: Any) -> Any:
        if part in str(path):
            monkeypatch.setattr(owner, name, call)
            disk.unmount()
        return call(path, *arguments, **options)

    monkeypatch.setattr(owner, name, late)


@pytest.mark.parametrize("part", ["/staging/f17.", "/blobs/"])
def test_deletion_whose_disk_goes_just_before_the_bytes_keeps_its_garbage(
    own_installation: Installation,
    committing_app: TestApp,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    """The marker was there; then there was no file, which is what a deletion is about."""
    upload(committing_app, id="f17")
    goes_first(monkeypatch, Path, "unlink", disk, part)
    committing_app.delete("/v1/images/f17", status=200)
    assert own_installation.rows(LocationRow) == 1
    disk.mount()
    assert len(own_installation.stored_keys()) == 1
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_download_whose_disk_goes_just_before_the_bytes_is_503_and_not_missing(
    committing_app: TestApp, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = upload(committing_app, id="f17")
    goes_first(monkeypatch, os, "open", disk, "/f17.")
    answer = committing_app.get(path, status=503)
    assert "missing" not in error_of(answer)
    disk.mount()
    assert committing_app.get(path).body == b"bytes"


def test_claim_of_a_dead_server_stays_until_the_disk_is_back(own_installation: Installation, disk: Disk) -> None:
    claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    disk.unmount()
    assert [error is None for what, error in own_installation.scrub(GRACE)] == [False]
    assert own_installation.rows(ClaimRow) == 1
    disk.mount()
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_verify_calls_no_image_missing(own_installation: Installation, active: str, disk: Disk) -> None:
    disk.unmount()
    stores, images = own_installation.stores, SqlActiveImages(own_installation.engine)
    with pytest.raises(StoreMissing):
        list(verify(stores, images, id, sizes_only=True))


def test_everything_works_again_when_the_disk_is_back(committing_app: TestApp, active: str, disk: Disk) -> None:
    disk.unmount()
    committing_app.get(active, status=503)
    disk.mount()
    assert committing_app.get(active, status=200).body == b"bytes"
    assert committing_app.get(upload(committing_app)).body == b"bytes"
    assert disk.below() == []


def test_disk_that_goes_while_bytes_come_gets_no_row(
    own_installation: Installation, committing_app: TestApp, disk: Disk
) -> None:
    """The file is open, and so its writes succeed. What was staged stays with its claim."""
    body = Body(b"bytes", meanwhile=disk.unmount)
    assert send(own_installation, "POST", "/v1/images", body, id="f17", name="f17").status_int == 503
    committing_app.head("/v1/images/f17", status=404)
    assert own_installation.rows(ClaimRow) == 1
    disk.mount()
    assert disk.below() == []
    expire_claims(own_installation, DEAD)
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_bytes_that_went_below_the_mount_point_get_no_row(
    own_installation: Installation, committing_app: TestApp, disk: Disk
) -> None:
    """The marker is gone and nothing else: had the disk gone just before, the whole upload would lie below."""
    marker = disk.datadir / "blobs" / MARKER
    body = Body(b"bytes", meanwhile=marker.unlink)
    assert send(own_installation, "POST", "/v1/images", body, id="f17", name="f17").status_int == 503
    committing_app.head("/v1/images/f17", status=404)
    assert [name.partition("/")[0] for name in files_below(disk.datadir)] == ["staging"]
    assert own_installation.rows(ClaimRow) == 1


def test_another_marker_that_comes_while_the_server_runs_is_seen(
    committing_app: TestApp, active: str, disk: Disk
) -> None:
    """Also in the same file."""
    marker = disk.datadir / "blobs" / MARKER
    text = marker.read_text()
    assert committing_app.get(active, status=200).body == b"bytes"
    marker.write_text(f"{'f' * 32}\n")
    committing_app.get(active, status=503)
    marker.write_text(text)
    committing_app.get(active, status=200)


# -- at a start


@pytest.mark.parametrize("below", BELOW)
def test_server_refuses_to_start_and_says_what_to_do(
    own_installation: Installation, tmp_path: Path, disk: Disk, below: Callable[[Path], object]
) -> None:
    disk.unmount(below)
    before = sorted(disk.datadir.rglob("*"))
    with pytest.raises(ConfigurationError) as refused:
        install(tmp_path)
    for word in (f"{disk.datadir}/blobs", "the directory of the store file", COMMAND):
        assert word in str(refused.value)
    assert sorted(disk.datadir.rglob("*")) == before


@sql_catalogue_only
def test_server_whose_database_is_busy_when_it_would_mark_its_directory_says_so_in_one_line(
    own_installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrimage.models.SQLITE_BUSY_SECONDS", 0)
    with own_installation.engine.begin() as connection:
        connection.execute(delete(StoreRow))
    with other_program(own_installation) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError) as refused:
            install(tmp_path, auto_migrate="false")
    assert str(refused.value).startswith("The store file cannot be checked. The database is busy.")
    assert "\n" not in str(refused.value)


def test_pshell_is_only_warned(
    own_installation: Installation, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.unmount()
    main({"__script__": "pshell"}, **ini_settings(tmp_path))
    assert [COMMAND in record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [True]


def test_pshell_marks_no_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever opens it may have forgotten to mount the disk, and would not see that it became the store's."""
    main({"__script__": "pshell"}, **ini_settings(tmp_path))
    assert not (tmp_path / "images").exists()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["the first start of a server" in text for text in said] == [True]


def test_registry_has_no_directory_and_looks_at_none(
    own_installation: Installation, tmp_path: Path, disk: Disk
) -> None:
    disk.unmount(nothing_at_all)
    install(tmp_path, application="registry").engine.dispose()
    assert not disk.datadir.exists()


def test_server_that_began_without_its_database_looks_at_the_directory_when_it_uses_it(
    own_installation: Installation, committing_app: TestApp, active: str, tmp_path: Path, disk: Disk
) -> None:
    database = tmp_path / "pyrimage.sqlite"
    own_installation.engine.dispose()
    database.rename(tmp_path / "away")
    database.mkdir()  # which SQLite cannot open
    late = install(tmp_path)
    database.rmdir()
    (tmp_path / "away").rename(database)
    assert late.client().get(active).body == b"bytes"
    disk.unmount()
    late.client().get(active, status=503)
    late.engine.dispose()


def test_server_that_began_without_its_database_and_its_disk_stores_nothing(
    own_installation: Installation, active: str, tmp_path: Path, disk: Disk
) -> None:
    database = tmp_path / "pyrimage.sqlite"
    own_installation.engine.dispose()
    database.rename(tmp_path / "away")
    database.mkdir()
    disk.unmount()
    late = install(tmp_path)
    database.rmdir()
    (tmp_path / "away").rename(database)
    late.client().post("/v1/images", b"bytes", headers=data_headers(), status=503)
    late.client().get(active, status=503)
    disk.mount()
    assert disk.below() == []
    assert late.client().get(active).body == b"bytes"
    late.engine.dispose()
