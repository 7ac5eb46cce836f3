"""Bytes on their way out, after the transaction: trap 7."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from webob import Request, Response
from webtest import TestApp

from conftest import Installation
from default_store import file_store_only
from factories import error_of, upload
from faults import hinder, raising
from pyrimage.errors import StoreUnavailable

DATA = bytes(range(256)) * 4096  # more than one read


@pytest.fixture
def active(committing_app: TestApp) -> str:
    return upload(committing_app, DATA)


@pytest.fixture
def stored(own_installation: Installation, active: str) -> Path:
    (path,) = (own_installation.datadir / "blobs").glob("*/*")
    return path


def download(installation: Installation, path: str) -> Response:
    """Send a GET and return its answer before any of its body was asked for."""
    request = Request.blank(path, {"REMOTE_ADDR": "127.0.0.1"})
    return request.get_response(installation.wsgi)


def open_files(below: Path) -> list[str]:
    """Return the files below a directory that this process has open."""
    names = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
    return [name for name in names if name.startswith(str(below))]


def cut(path: Path) -> None:
    os.truncate(path, len(DATA) - 1)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@file_store_only
@pytest.mark.parametrize("damage", [cut, grow, replace_by_pipe, Path.unlink])
def test_damage_is_told_before_the_first_byte(
    committing_app: TestApp, active: str, stored: Path, damage: Callable[[Path], None]
) -> None:
    """Trap 7: the reader is opened in the view, where an error can still be answered."""
    damage(stored)
    answer = committing_app.get(active, status=500)
    assert "image's" in error_of(answer)


def test_store_that_is_away_is_told_before_the_first_byte(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    """Trap 7."""
    hinder(own_installation).before["open_reader"] = raising(StoreUnavailable("away"))
    committing_app.get(active, status=503)


@file_store_only
def test_body_that_ends_early_is_an_error_and_no_end(own_installation: Installation, active: str, stored: Path) -> None:
    """Trap 7: never end a short body normally."""
    answer = download(own_installation, active)
    parts: Iterator[bytes] = iter(answer.app_iter)
    assert next(parts)
    cut(stored)
    with pytest.raises(OSError, match="end early"):
        list(parts)
    answer.app_iter.close()


def test_body_is_sent_without_a_connection_to_the_database(own_installation: Installation, active: str) -> None:
    """Trap 7: the session is closed when the body is sent; headers are plain values."""
    answer = download(own_installation, active)
    assert own_installation.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert b"".join(answer.app_iter) == DATA
    assert answer.headers["Content-Length"] == answer.headers["x-image-meta-size"] == str(len(DATA))
    answer.app_iter.close()


@file_store_only
@pytest.mark.parametrize("read", ["nothing", "a part", "everything"])
def test_file_is_closed_with_the_answer(own_installation: Installation, active: str, read: str) -> None:
    """Trap 7: the server calls ``close()``, also when the client went away."""
    answer = download(own_installation, active)
    assert len(open_files(own_installation.datadir)) == 1
    if read == "a part":
        next(iter(answer.app_iter))
    elif read == "everything":
        b"".join(answer.app_iter)
    answer.app_iter.close()
    assert open_files(own_installation.datadir) == []


def test_image_that_is_deleted_meanwhile_is_sent_whole(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    answer = download(own_installation, active)
    committing_app.delete(active, status=200)
    assert answer.body == DATA
