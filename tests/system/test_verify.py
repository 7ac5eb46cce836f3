"""``pyrimage-manage verify``: what it says of images whose bytes are not what their rows say."""

import contextlib
import hashlib
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from webtest import TestApp

from conftest import Installation
from factories import add_row, sha256, upload
from pyrimage.catalogue.records import Status
from servers.processes import OWNED, PROGRAMS, RUN_SECONDS, clean_environment, run

pytestmark = pytest.mark.system

DATA = bytes(range(256)) * 4096


def file_of(installation: Installation, image_id: str) -> Path:
    (path,) = (installation.datadir / "blobs").glob(f"*/{image_id}.*")
    return path


@pytest.fixture
def ini(own_installation: Installation, committing_app: TestApp, tmp_path: Path) -> Path:
    """The ini of an installation with two images; its database's URL holds a password that is nobody's."""
    for name in ("f17", "f18"):
        upload(committing_app, DATA, id=name, name=name)
    path = tmp_path / "pyrimage.ini"
    path.write_text(
        "[app:main]\nuse = egg:pyrimage\npyrimage.auth = none\n"
        f"pyrimage.registry_secret = hunter2-hunter2-hunter2\nsqlalchemy.url = {own_installation.engine.url}\n"
        f"pyrimage.filesystem_store_datadir = {own_installation.datadir}\n"
        "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nhandlers =\n"
    )
    return path


def manage(ini: Path, *arguments: str, status: int = 0) -> list[str]:
    done = run("pyrimage-manage", "-c", ini, "verify", *arguments, cwd=ini.parent)
    assert (done.returncode, done.stderr) == (status, "")
    assert "hunter2" not in done.stdout
    return done.stdout.splitlines()


def test_the_command_says_that_all_is_well(ini: Path) -> None:
    assert manage(ini) == manage(ini, "--sizes-only") == ["2 images are whole, 0 are not."]


def test_the_command_says_what_is_wrong_and_where(ini: Path, own_installation: Installation) -> None:
    files = {name: file_of(own_installation, name) for name in ("f17", "f18")}
    files["f17"].write_bytes(DATA[:-1] + b"x")
    files["f18"].unlink()
    digest = hashlib.sha256(DATA[:-1] + b"x").hexdigest()
    changed = f"changed: their sha256 is {digest} instead of {sha256(DATA)}."
    missing = f"f18 'f18': The image's bytes are missing from the store. {files['f18'].as_uri()}"
    assert manage(ini, status=1) == [
        f"f17 'f17': The image's bytes were {changed} {files['f17'].as_uri()}",
        missing,
        "0 images are whole, 2 are not.",
    ]
    assert manage(ini, "--sizes-only", status=1) == [missing, "1 images are whole, 1 are not."]


def test_the_command_says_why_bytes_cannot_be_read(ini: Path, own_installation: Installation) -> None:
    shelf = file_of(own_installation, "f17").parent
    shelf.rename(shelf.with_name("aside"))
    shelf.touch()
    assert "f17 'f17': The file store cannot be read. Not a directory. file:///" in manage(ini, status=1)[0]


def test_a_name_cannot_write_to_the_terminal(ini: Path, own_installation: Installation) -> None:
    add_row(own_installation, id="0", name="\x1b[2J\n2 images are whole, 0 are not.", status=Status.ACTIVE, size=1)
    add_row(own_installation, id="1", name="ä", status=Status.ACTIVE, size=1)
    add_row(own_installation, id="2", name="", status=Status.ACTIVE, size=1)
    first, second, third, _ = manage(ini, status=1)
    assert first.startswith(r"0 '\x1b[2J\n2 images are whole, 0 are not.': Its row")
    assert second.startswith(r"1 '\xe4': ")
    assert third.startswith("2 '': ")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a terminal: whoever looks at it, and the program's side."""
    sides = pty.openpty()
    try:
        yield sides
    finally:
        for side in sides:
            os.close(side)


def test_a_terminal_is_told_how_far_it_is(ini: Path, own_installation: Installation) -> None:
    os.truncate(file_of(own_installation, "f17"), len(DATA) - 1)
    with terminal() as (screen, side):
        done = subprocess.run(
            [*OWNED, PROGRAMS / "pyrimage-manage", "-c", ini, "verify"],
            cwd=ini.parent,
            env=clean_environment(ini.parent, {}),
            stdout=subprocess.PIPE,
            stderr=side,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        os.set_blocking(screen, False)
        shown = os.read(screen, 10_000).decode()
    assert (done.returncode, done.stdout.splitlines()[1:]) == (1, ["1 images are whole, 1 are not."])
    assert "\r\x1b[K1 of 2 images, 0.0 of 0.0 GB" in shown
    assert shown.endswith("\r\x1b[K")  # nothing is left before the summary
