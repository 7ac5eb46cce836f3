"""A disk that is unmounted under a running server: an ext4 in a file, mounted where the images are.

Nothing is stored below its mount point, nothing is called lost, and everything goes on when it is mounted again.
"""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factories import data_headers, files_below
from servers.machine import make_ext4, mount, mounted
from servers.paused_uploads import TESTS, PausableServer
from servers.processes import run
from servers.pyrimage import Server

pytestmark = pytest.mark.system

SIZE = 32 << 20
DATA = bytes(range(256)) * 4096
ADOPT = "store adopt"


class Disk:
    """A file with a file system, and where it is mounted."""

    def __init__(self, file: Path, place: Path) -> None:
        self._file, self.place = file, place

    def mount(self) -> None:
        mount(self._file, self.place, "-o", "loop")

    def unmount(self, *how: str) -> None:
        subprocess.run(["umount", *how, self.place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    file = make_ext4(tmp_path / "disk.ext4", SIZE)
    with mounted(file, tmp_path / "mounted", "-o", "loop") as place:
        yield Disk(file, place)


@pytest.fixture
def server(tmp_path: Path, disk: Disk) -> Iterator[PausableServer]:
    """A server whose data directory is the mount point."""
    with PausableServer(tmp_path, main={"pyrimage.filesystem_store_datadir": str(disk.place)}) as running:
        running.datadir = disk.place
        yield running


def upload(server: Server, name: str) -> int:
    return server.request("POST", "/v1/images", DATA, data_headers(id=name)).status


def manage(server: Server, *command: str) -> "subprocess.CompletedProcess[str]":
    return beside(server, "pyrimage-manage", "-c", str(server.ini), *command)


def beside(server: Server, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that finds the pausable application, too."""
    return run(*command, cwd=server.directory, environment={"PYTHONPATH": str(TESTS)})


def test_nothing_is_stored_or_lost_while_the_disk_is_not_mounted(server: PausableServer, disk: Disk) -> None:
    assert [upload(server, name) for name in ("kept", "deleted")] == [201, 201]
    disk.unmount()
    assert upload(server, "refused") == 503
    assert server.request("GET", "/v1/images/kept").status == 503
    assert server.request("DELETE", "/v1/images/deleted").status == 200
    assert f"{disk.place}/blobs does not carry the marker" in server.log()
    for command in ("verify", "scrub"):
        failed = manage(server, command)
        assert failed.returncode == 1
        assert ADOPT in failed.stderr
        assert "missing" not in failed.stdout
    assert list(disk.place.iterdir()) == []
    disk.mount()
    assert server.request("GET", "/v1/images/kept").body == DATA
    assert upload(server, "refused") == 201
    assert len(files_below(disk.place / "blobs")) == 3
    scrubbed = manage(server, "scrub")
    assert (scrubbed.returncode, scrubbed.stdout.splitlines()[-1]) == (0, "1 cleaned up, 0 failed.")
    assert len(files_below(disk.place / "blobs")) == 2
    assert manage(server, "verify").stdout == "2 images are whole, 0 are not.\n"


@pytest.mark.parametrize("step", ["write", "finish"])
def test_upload_is_not_acknowledged_when_its_disk_goes_away_meanwhile(
    server: PausableServer, disk: Disk, step: str
) -> None:
    """With "--lazy" the file that is being written lives on, somewhere that no path leads to."""
    with ThreadPoolExecutor(1) as threads, server.paused(step):
        answer = threads.submit(upload, server, "f17")
        server.wait_for_paused(step)
        disk.unmount("--lazy")
        server.resume(step)
        assert answer.result() == 503
    assert list(disk.place.iterdir()) == []
    disk.mount()
    assert len(files_below(disk.place / "staging")) == 1
    server.sql("UPDATE claims SET lease = '2001-01-01 00:00:00'")
    assert manage(server, "scrub").returncode == 0
    assert files_below(disk.place) == []
    assert upload(server, "f17") == 201


def test_new_disk_is_adopted_where_an_operator_says_so(server: PausableServer, disk: Disk, tmp_path: Path) -> None:
    """The images of the old one are lost, which the command does not take for granted."""
    assert upload(server, "lost") == 201
    server.stop()
    disk.unmount()
    started = beside(server, "pserve", str(server.ini))
    assert started.returncode != 0
    assert ADOPT in started.stderr
    refused = manage(server, "store", "adopt")
    assert refused.returncode == 1
    assert "holds none of the 1 blobs" in refused.stderr
    assert "--force" in refused.stderr
    assert list(disk.place.iterdir()) == []
    adopted = manage(server, "store", "adopt", "--force")
    assert adopted.returncode == 0, adopted.stderr
    assert adopted.stdout.splitlines() == [
        f"{disk.place}/blobs is the directory of the store file.",
        "0 files that the database names are there, 1 are missing.",
        "If the database had another directory, servers that run have to be reloaded (SIGHUP, or pyrimage-control).",
    ]
    server.start()
    assert upload(server, "f17") == 201
    assert server.request("GET", "/v1/images/lost").status == 500
