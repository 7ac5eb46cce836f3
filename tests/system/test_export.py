"""Exports and imports as processes: killed in the middle, on a full disk, beside servers at work, over the network.

The moments come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import os
import random
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from amounts import amount
from conftest import Installation, install
from default_store import SERVICES, empty, new_place, store_in
from exports import kept, load_all, save_all
from factories import data_headers, files_below, upload
from faults import DEAD, clean, expire_claims
from journal import MIB, Journal
from pyrimage.export.load import Outcome
from servers.machine import mounted
from servers.processes import OWNED, PROGRAMS, clean_environment, run, wait_until
from servers.pyrimage import READY_SECONDS, Server
from traffic import EVERY_CALL, traffic

pytestmark = [pytest.mark.system, pytest.mark.long]

KILLS = amount(3, 30)
IMAGES = 12
LARGE = 24 * MIB


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    return random.Random(seed)


@pytest.fixture
def source(tmp_path: Path, chance: random.Random) -> Iterator[Installation]:
    """An installation with images, of which a copy takes a while."""
    made = install(tmp_path / "source")
    for number in range(IMAGES):
        upload(made.client(), chance.randbytes(LARGE), id=f"image-{number}", properties={"n": str(number)})
    yield made
    made.engine.dispose()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Installation]:
    made = install(tmp_path / "target")
    yield made
    made.engine.dispose()


def ini_of(installation: Installation) -> Path:
    path = installation.datadir.parent / "pyrimage.ini"
    if not path.exists():
        keys = "\n".join(f"{key} = {text}" for key, text in installation.shared.items())
        path.write_text(f"[app:main]\nuse = egg:pyrimage\npyrimage.auth = none\n{keys}\n")
    return path


def manage(installation: Installation, *arguments: str | Path) -> str:
    """Run pyrimage-manage to its good end."""
    ini = ini_of(installation)
    done = run("pyrimage-manage", "-c", ini, *arguments, cwd=ini.parent)
    assert done.returncode == 0, done
    return done.stdout


def kill_soon(
    installation: Installation, *arguments: str | Path, copies: Callable[[], object], chance: random.Random
) -> bool:
    """Start pyrimage-manage and kill it a moment after it has begun to copy; False if it was quicker."""
    ini = ini_of(installation)
    command = [*OWNED, str(PROGRAMS / "pyrimage-manage"), "-c", str(ini), *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ini.parent, env=clean_environment(ini.parent, {}), stdout=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: copies() or process.poll() is not None, READY_SECONDS)
        try:
            process.wait(chance.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode == -signal.SIGKILL


def test_an_export_that_is_killed_again_and_again_is_whole_in_the_end(
    source: Installation, target: Installation, tmp_path: Path, chance: random.Random
) -> None:
    directory = tmp_path / "export"
    export = ("export", "--data", directory)
    partial = directory / "blobs/partial"
    killed = [kill_soon(source, *export, copies=partial.exists, chance=chance) for _ in range(KILLS)]
    assert any(killed), "no kill met an export"
    manage(source, *export)
    assert manage(target, "import", directory).startswith(f"{IMAGES} images are added, ")
    assert kept(target) == kept(source)


def claims(installation: Installation) -> int:
    with closing(sqlite3.connect(installation.engine.url.database or "", timeout=60)) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM claims").fetchall()
        return int(count)


def test_an_import_that_is_killed_again_and_again_is_whole_in_the_end(
    source: Installation, target: Installation, tmp_path: Path, chance: random.Random
) -> None:
    directory = tmp_path / "export"
    manage(source, "export", "--data", directory)
    met = 0
    for _ in range(KILLS):
        kill_soon(target, "import", directory, copies=lambda: claims(target), chance=chance)
        met += claims(target)
        expire_claims(target, DEAD)
        clean(target)
        assert set(kept(target).data.items()) <= set(kept(source).data.items())  # no row without all its bytes
    assert met, "no kill met an upload"
    manage(target, "import", directory)
    assert kept(target) == kept(source)
    assert len(target.stored_keys()) == IMAGES
    added = f"0 images are added, with 0 bytes that were copied; {IMAGES} were there already, "
    assert manage(target, "import", directory).startswith(added)


def test_an_export_onto_a_full_disk_says_so_and_goes_on_when_there_is_room(
    source: Installation, target: Installation, tmp_path: Path
) -> None:
    size = LARGE * IMAGES + 8 * MIB
    with mounted("pyrimage-test", tmp_path / "disk", "-t", "tmpfs", "-o", f"size={size}") as disk:
        (disk / "filler").write_bytes(bytes(LARGE * 3 // 2))
        ini = ini_of(source)
        full = run("pyrimage-manage", "-c", ini, "export", "--data", disk / "export", cwd=ini.parent)
        assert full.returncode == 1
        assert full.stderr == (
            f"pyrimage-manage: {disk}/export/blobs/partial cannot be written: No space left on device.\n"
        )
        assert not (disk / "export/images.jsonl").exists()
        (disk / "filler").unlink()
        assert f" blobs of {LARGE * 2} bytes were copied." in manage(source, "export", "--data", disk / "export")
        manage(target, "import", disk / "export")
    assert kept(target) == kept(source)


def test_an_export_beside_a_server_at_work_is_right_image_by_image(
    target: Installation, tmp_path: Path, chance: random.Random
) -> None:
    journal = Journal(chance.randbytes(8).hex())
    directory = tmp_path / "export"
    (place := tmp_path / "server").mkdir()
    with Server(place, server={"workers": "2"}) as server:
        for number in range(10):
            assert server.request("POST", "/v1/images", b"x" * number, data_headers(name="n")).status == 201
        with traffic([server], journal, clients=6, calls=EVERY_CALL):
            for _ in range(amount(2, 30)):
                done = run("pyrimage-manage", "-c", server.ini, "export", "--data", directory, cwd=place)
                assert (done.returncode, done.stdout.count("\n")) == (0, 1), done
        assert journal.wrong == []
        assert " 0 failed." in manage(target, "import", directory)
        assert set(load_all(target, directory).values()) == {Outcome.EQUAL}
        assert " 0 are not." in manage(target, "verify")


@pytest.fixture(params=SERVICES)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An installation with a bucket or a container."""
    place = new_place(request.getfixturevalue(SERVICES[request.param]))
    made = install(tmp_path / "remote", **place)
    yield made
    made.engine.dispose()
    empty(store_in(place))


def test_images_go_from_files_to_the_network_and_back(
    target: Installation, remote: Installation, tmp_path: Path, chance: random.Random
) -> None:
    made = install(tmp_path / "source")
    for size in (1, 5 * MIB, 12 * MIB + 1):  # one part, or several
        upload(made.client(), chance.randbytes(size), id=f"image-{size}")
    there, back = tmp_path / "there", tmp_path / "back"
    for source, directory, other in ((made, there, remote), (remote, back, target)):
        assert [each.error for each in save_all(source, directory, with_data=True)] == [None] * 3
        assert set(load_all(other, directory).values()) == {Outcome.ADDED}
        assert kept(other) == kept(made)
        assert other.scrub(timedelta()) == []
    assert files_below(there / "blobs") == files_below(back / "blobs")
    made.engine.dispose()
