"""Many images, out of SQLite and into PostgreSQL: in memory that does not grow with their number."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import text

from amounts import amount
from bulk_images import fill
from pyrimage.models import make_engine
from servers import databases
from servers.processes import OWNED, PROGRAMS, clean_environment, run
from servers.pyrimage import ROOT

pytestmark = [pytest.mark.system, pytest.mark.long]

IMAGES = amount(2_000, 100_000)
MIB = 2**20
MOST = 160 * MIB  # of a process that holds a page of images at a time; a hundred thousand would need gigabytes


class Ran(NamedTuple):
    """What a command printed, and its memory at the worst moment, in bytes."""

    output: str
    memory: int


# What a program is said to take begins with that of the process that starts it; this one is large, so a small one does.
MEASURE = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[2:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime, file=file)
sys.exit(ended)
"""


def manage(ini: Path, *arguments: str | Path) -> Ran:
    """Run pyrimage-manage, print how long it took, and return what it did."""
    began, usage = time.monotonic(), ini.parent / "usage"
    command = [str(PROGRAMS / "pyrimage-manage"), "-c", str(ini), *map(str, arguments)]
    ended = subprocess.run(
        [*OWNED, sys.executable, "-c", MEASURE, str(usage), *command],
        cwd=ini.parent,
        env=clean_environment(ini.parent, {}),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    memory, own = map(float, usage.read_text().split())
    ran = Ran(ended.stdout, int(memory) * 1024)
    rate = f"{seconds:.1f} s ({own:.1f} s of one core), {IMAGES / seconds:.0f} images/s"
    print(f"{arguments[0]}: {rate}, {ran.memory / MIB:.0f} MiB")
    assert ended.returncode == 0, ran.output[-5000:]
    assert ran.memory < MOST
    return ran


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The ini of an installation on SQLite, with many images and a file for each; most take no room."""
    ini = tmp_path / "old.ini"
    ini.write_text((ROOT / "production.ini").read_text(encoding="utf-8"))
    assert run("pyrimage-manage", "-c", ini, "db", "upgrade", cwd=tmp_path).returncode == 0
    assert run("pyrimage-manage", "-c", ini, "store", "adopt", cwd=tmp_path).returncode == 0
    engine = make_engine({"sqlalchemy.url": f"sqlite:///{tmp_path}/var/pyrimage.sqlite"})
    fill(engine, IMAGES)
    with engine.begin() as connection:
        connection.execute(text("UPDATE images SET deleted_at = updated_at, status = 'deleted' WHERE deleted"))
        connection.execute(text("DELETE FROM image_locations WHERE image_id IN (SELECT id FROM images WHERE deleted)"))
        connection.execute(text("UPDATE images SET size = size + 1"))
        connection.execute(text("UPDATE image_locations SET key = key || '.0123456789abcdef'"))
        found = connection.execute(text("SELECT key, size FROM images JOIN image_locations ON image_id = images.id"))
        shelf = tmp_path / "var/images/blobs/ef"
        shelf.mkdir()
        for key, size in found:
            (shelf / key).touch()
            os.truncate(shelf / key, size)
    engine.dispose()
    return ini


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Path]:
    """The ini of one on PostgreSQL, with the same directory, which takes this database for its own."""
    with databases.fresh_database("postgresql", tmp_path) as url:
        ini = tmp_path / "new.ini"
        sample = (ROOT / "production.ini").read_text(encoding="utf-8")
        ini.write_text(
            sample.replace("sqlalchemy.url = sqlite:///%(here)s/var/pyrimage.sqlite", f"sqlalchemy.url = {url}")
        )
        yield ini


def test_many_images_go_from_sqlite_to_postgresql_in_bounded_memory(tmp_path: Path, old: Path, new: Path) -> None:
    export = tmp_path / "export"
    exported = manage(old, "export", export)
    assert exported.output == f"{IMAGES} images are exported, 0 of them failed; 0 blobs of 0 bytes were copied.\n"
    (tmp_path / "var/images/blobs/pyrimage-store").unlink()
    for arguments in (("db", "upgrade"), ("store", "adopt")):
        assert run("pyrimage-manage", "-c", new, *arguments, cwd=tmp_path).returncode == 0
    added = manage(new, "import", "--adopt", export)
    assert added.output.startswith(f"{IMAGES} images are added, ")
    again = manage(new, "import", "--adopt", export)
    assert f" {IMAGES} were there already, 0 are there and differ, 0 failed." in again.output
    back = tmp_path / "back"
    manage(new, "export", back)
    lines, others = ((each / "images.jsonl").read_text().splitlines()[1:] for each in (export, back))
    assert sorted(lines) == sorted(others)
    lost = run("pyrimage-manage", "-c", old, "verify", cwd=tmp_path)
    assert (lost.returncode, "carries the marker of another store" in lost.stderr) == (1, True)
