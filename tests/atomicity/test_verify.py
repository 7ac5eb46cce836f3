"""Images whose bytes are not what their rows say: all are found, no other is, and nothing is changed."""

import os
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, update
from webtest import TestApp

from conftest import Installation
from default_store import file_store_only
from factories import add_row, insert_rows, md5, meta, reserve, sha256, stored, upload
from faults import claim_upload, hinder
from pyrimage.catalogue.records import Status
from pyrimage.catalogue.sql.catalogue import SqlActiveImages
from pyrimage.errors import StoreUnavailable
from pyrimage.models import ImageRow, LocationRow
from pyrimage.scripts.verify import report, verify

DATA = bytes(range(256)) * 4096  # more than one read


def ignore(size: int) -> None:
    pass


def problems(installation: Installation, *, sizes_only: bool = False, page: int = 500) -> dict[str, str]:
    """Verify; return by id what is wrong with the images, an empty text for those that are whole."""
    images = SqlActiveImages(installation.engine, page)
    checked = verify(installation.stores, images, ignore, sizes_only=sizes_only)
    found = [(image.id, str(error or "")) for image, error in checked]
    if len(dict(found)) < len(found):
        raise AssertionError(found)
    return dict(found)


def file_of(installation: Installation, image_id: str) -> Path:
    (path,) = (installation.datadir / "blobs").glob(f"*/{image_id}.*")
    return path


def cut(path: Path) -> None:
    os.truncate(path, len(DATA) - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(len(DATA) - 1)
        file.write(b"x")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# -- what is found


def test_images_that_are_whole_are_given_as_such(own_installation: Installation, committing_app: TestApp) -> None:
    upload(committing_app, DATA, id="large")
    upload(committing_app, id="small")
    assert problems(own_installation) == {"large": "", "small": ""}


@file_store_only
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (Path.unlink, "missing"),
        (cut, f"The store holds {len(DATA) - 1} bytes of the image's {len(DATA)}"),
        (grow, f"The store holds {len(DATA) + 1} bytes"),
        (change, "changed: their sha256 is"),
        (replace_by_pipe, "not a file"),
    ],
    ids=["missing", "cut", "grown", "changed", "pipe"],
)
def test_damage_is_named_and_the_others_are_whole(
    own_installation: Installation, committing_app: TestApp, damage: Callable[[Path], None], word: str
) -> None:
    for name in ("a", "b", "c"):
        upload(committing_app, DATA, id=name)
    damage(file_of(own_installation, "b"))
    found = problems(own_installation)
    assert word in found.pop("b")
    assert found == {"a": "", "c": ""}


@file_store_only
def test_sizes_alone_do_not_show_a_change(own_installation: Installation, committing_app: TestApp) -> None:
    for name, damage in (("changed", change), ("cut", cut), ("missing", Path.unlink)):
        upload(committing_app, DATA, id=name)
        damage(file_of(own_installation, name))
    found = problems(own_installation, sizes_only=True)
    assert {name for name, problem in found.items() if problem} == {"cut", "missing"}
    assert found["changed"] == ""


def test_sizes_alone_read_nothing(own_installation: Installation, committing_app: TestApp) -> None:
    upload(committing_app, DATA)
    came: list[int] = []
    for sizes_only, size in ((True, 0), (False, len(DATA))):
        stores, images = own_installation.stores, SqlActiveImages(own_installation.engine)
        list(verify(stores, images, came.append, sizes_only=sizes_only))
        assert sum(came) == size


@pytest.mark.parametrize(
    ("digests", "problem"),
    [
        ({"sha256": sha256(DATA), "checksum": None}, ""),
        ({"sha256": None, "checksum": md5(DATA)}, ""),
        ({"sha256": None, "checksum": md5(b"other")}, "their md5 is"),
        ({"sha256": sha256(b"other"), "checksum": md5(DATA)}, "their sha256 is"),
        ({"sha256": None, "checksum": None}, ""),
    ],
)
def test_md5_is_compared_where_there_is_no_sha256(
    own_installation: Installation, committing_app: TestApp, digests: dict[str, str | None], problem: str
) -> None:
    upload(committing_app, DATA, id="f17")
    with own_installation.engine.begin() as connection:
        connection.execute(update(ImageRow).values(digests))
    found = problems(own_installation)["f17"]
    assert problem in found
    assert bool(problem) == bool(found)


@file_store_only
def test_bytes_that_end_while_they_are_read_are_found(own_installation: Installation, committing_app: TestApp) -> None:
    upload(committing_app, DATA, id="f17")
    images, stores = SqlActiveImages(own_installation.engine), own_installation.stores

    def cut_now(size: int) -> None:
        cut(file_of(own_installation, "f17"))

    ((_, error),) = verify(stores, images, cut_now, sizes_only=False)
    assert "cannot be read" in str(error)


@pytest.mark.parametrize(
    ("cause", "said"), [(OSError(5, "Input/output error"), "Input/output error."), (TimeoutError(), "TimeoutError.")]
)
def test_why_bytes_cannot_be_read_is_told_also_where_the_error_says_nothing(
    own_installation: Installation,
    committing_app: TestApp,
    capsys: pytest.CaptureFixture[str],
    cause: OSError,
    said: str,
) -> None:
    path = upload(committing_app, id="f17")

    def fail() -> None:
        raise StoreUnavailable("The vault cannot be read.") from cause

    hinder(own_installation).before["open_reader"] = fail
    assert not report(own_installation.stores, SqlActiveImages(own_installation.engine), sizes_only=False)
    url = committing_app.head(path).headers["x-image-meta-location"]
    assert capsys.readouterr().out == (
        f"f17 '': The vault cannot be read. {said} {url}\n0 images are whole, 1 are not.\n"
    )


def test_image_without_bytes_needs_none(own_installation: Installation, committing_app: TestApp) -> None:
    committing_app.post("/v1/images", headers=meta(id="f17", size=0), status=201)
    with own_installation.engine.begin() as connection:
        connection.execute(update(ImageRow).values(status=Status.ACTIVE))
    assert problems(own_installation) == {"f17": ""}


def test_image_that_lost_its_location_is_damaged(own_installation: Installation) -> None:
    add_row(own_installation, id="f17", status=Status.ACTIVE, size=5)
    assert problems(own_installation) == {"f17": "Its row does not say where its 5 bytes lie."}


@pytest.mark.parametrize("place", [("swift", "f17.0123456789abcdef"), ("file", "../../etc/passwd")])
def test_location_that_leads_nowhere_is_a_line_and_no_end(
    own_installation: Installation, committing_app: TestApp, place: tuple[str, str]
) -> None:
    add_row(own_installation, id="f17", status=Status.ACTIVE, size=5)
    store, key = place
    insert_rows(own_installation, LocationRow(image_id="f17", store=store, key=key, owned=False, state="active"))
    upload(committing_app, id="f18")
    found = problems(own_installation)
    assert found.pop("f17")
    assert found == {"f18": ""}


def test_only_active_images_are_looked_at(own_installation: Installation, committing_app: TestApp) -> None:
    """One is queued, one comes just now, one is deleted."""
    reserve(committing_app, id="queued", size=5)
    claim_upload(own_installation, "coming", is_new=True, age=timedelta())
    committing_app.delete(upload(committing_app, id="deleted"), status=200)
    upload(committing_app, id="active")
    assert problems(own_installation) == {"active": ""}


# -- beside running servers


def test_image_that_is_deleted_before_it_is_read_is_not_damaged(
    own_installation: Installation, committing_app: TestApp
) -> None:
    path = upload(committing_app, DATA)
    hinder(own_installation).before["open_reader"] = lambda: committing_app.delete(path, status=200)
    assert problems(own_installation) == {}


@file_store_only
def test_image_that_is_deleted_while_it_is_read_is_not_damaged(
    own_installation: Installation, committing_app: TestApp
) -> None:
    path, stores = upload(committing_app, DATA, id="f17"), own_installation.stores

    def delete_and_cut(size: int) -> None:
        """Cut as well: a store may let a reader go when it deletes."""
        if file := next((own_installation.datadir / "blobs").glob("*/f17.*"), None):
            cut(file)
            committing_app.delete(path, status=200)

    assert list(verify(stores, SqlActiveImages(own_installation.engine), delete_and_cut, sizes_only=False)) == []


def test_no_connection_is_held_while_bytes_are_read(own_installation: Installation, committing_app: TestApp) -> None:
    for name in ("a", "b", "c"):
        upload(committing_app, DATA, id=name)
    held: list[int] = []
    pool = own_installation.engine.pool

    def note(size: int) -> None:
        held.append(pool.checkedout())  # type: ignore[attr-defined]

    list(verify(own_installation.stores, SqlActiveImages(own_installation.engine, 2), note, sizes_only=False))
    assert set(held) == {0}
    assert len(held) >= 6


@pytest.mark.parametrize(("page", "statements"), [(1, 11), (2, 7), (5, 3), (6, 3)])
def test_every_image_is_read_once_however_the_rows_are_paged(
    own_installation: Installation, committing_app: TestApp, page: int, statements: int
) -> None:
    names = ["0", "Z", "a", "a.b", "b"]  # in the order of their bytes
    for name in reversed(names):
        upload(committing_app, id=name)
    ran: list[str] = []
    event.listen(own_installation.engine, "before_cursor_execute", lambda *arguments: ran.append(arguments[2]))
    assert list(problems(own_installation, page=page)) == names
    assert len(ran) == statements


def test_total_is_of_active_images(own_installation: Installation, committing_app: TestApp) -> None:
    assert SqlActiveImages(own_installation.engine).total() == (0, 0)
    upload(committing_app, DATA)
    upload(committing_app, b"bytes")
    reserve(committing_app, size=1000)
    assert SqlActiveImages(own_installation.engine).total() == (2, len(DATA) + 5)


@file_store_only
def test_nothing_is_changed(own_installation: Installation, committing_app: TestApp) -> None:
    for name, damage in (("changed", change), ("cut", cut), ("missing", Path.unlink)):
        upload(committing_app, DATA, id=name)
        damage(file_of(own_installation, name))
    claim_upload(own_installation, "dead", is_new=True, age=timedelta(days=1))
    before = stored(own_installation)
    assert len(problems(own_installation)) == 3
    assert stored(own_installation) == before


@file_store_only
def test_memory_does_not_grow_with_an_image(own_installation: Installation, committing_app: TestApp) -> None:
    size = 64 * 2**20
    upload(committing_app, b"bytes", id="f17")
    os.truncate(file_of(own_installation, "f17"), size)  # it takes no room
    with own_installation.engine.begin() as connection:
        connection.execute(update(ImageRow).values(size=size, sha256=None, checksum=md5(b"")))
    problems(own_installation, sizes_only=True)  # what is kept from the first time on is kept now
    tracemalloc.start()
    try:
        assert "changed" in problems(own_installation)["f17"]
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
