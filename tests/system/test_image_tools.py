"""Tools that read disk images and files over HTTP, with a server's URLs as they are."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from servers.machine import installed, unavailable
from servers.processes import OWNED, RUN_SECONDS, clean_environment
from servers.pyrimage import Server

pytestmark = pytest.mark.system

DISK = 8 * 2**20  # bytes of the disk in the image
NAME = 'Ubuntu 24.04, "Nöble"'
# One request at a time: of several, QEMU 7.2 now and then forgets one, whatever the server, and waits for ever.
ONE = ("-m", "1")


def run(directory: Path, *command: str) -> str:
    """Run a tool; return what it prints. Skips the test if the tool, or its way to HTTP, is missing; fails it in CI."""
    installed(command[0])
    done = subprocess.run(
        [*OWNED, *command],
        cwd=directory,
        env=clean_environment(directory, {"LC_ALL": "C.UTF-8"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    if "Unknown protocol 'http'" in done.stderr:
        unavailable("no block driver of QEMU for HTTP, which .ci/services.sh installs")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with data at both ends, and beside it as ``disk.qcow2`` what qemu-img makes of it."""
    path = tmp_path_factory.mktemp("disk") / "disk.raw"
    with path.open("wb") as file:
        file.write(random.randbytes(2**20 + 512))
        file.seek(DISK - 4096)
        file.write(random.randbytes(4096))
    run(path.parent, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2")
    return path


@pytest.fixture(scope="module")
def image(server: Server, disk: Path) -> str:
    """The id of the image in the service."""
    headers = {"x-image-meta-name": NAME, "x-image-meta-disk-format": "qcow2", "x-image-meta-container-format": "bare"}
    sent = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    with disk.with_suffix(".qcow2").open("rb") as file:
        return str(server.request("POST", "/images", file, sent).image["id"])


@pytest.fixture
def url(server: Server, image: str) -> str:
    """A URL at which the image's data lies."""
    return f"{server.url}/images/{image}/file/noble.qcow2"


@pytest.mark.parametrize("path", ["/images/{}/file/noble.qcow2", "/v1/images/{}/file/noble.qcow2", "/images/{}"])
def test_qemu_img_finds_the_format_and_the_size_of_the_disk(
    server: Server, image: str, path: str, tmp_path: Path
) -> None:
    told = json.loads(run(tmp_path, "qemu-img", "info", "--output=json", f"{server.url}{path.format(image)}"))
    assert (told["format"], told["virtual-size"]) == ("qcow2", DISK)


def test_qemu_img_converts_from_the_service(url: str, disk: Path, tmp_path: Path) -> None:
    run(tmp_path, "qemu-img", "convert", *ONE, "-O", "raw", url, "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == disk.read_bytes()


def test_qemu_reads_a_disk_that_a_local_file_lies_over(url: str, disk: Path, tmp_path: Path) -> None:
    """So do QEMU's and libvirt's network disks: what the guest writes goes to the local file."""
    run(tmp_path, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", url, "overlay.qcow2")
    run(tmp_path, "qemu-io", "-c", "write -P 7 4096 512", "-c", f"read {DISK - 4096} 4096", "overlay.qcow2")
    run(tmp_path, "qemu-img", "convert", *ONE, "-O", "raw", "overlay.qcow2", "back.raw")
    expected = bytearray(disk.read_bytes())
    expected[4096:4608] = b"\x07" * 512
    assert (tmp_path / "back.raw").read_bytes() == expected


def test_nbdkit_serves_what_it_reads_from_the_service(url: str, disk: Path, tmp_path: Path) -> None:
    run(tmp_path, "nbdkit", "--unix", "-", "curl", url, "--run", 'nbdcopy "$uri" back.qcow2')
    assert (tmp_path / "back.qcow2").read_bytes() == disk.with_suffix(".qcow2").read_bytes()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("curl", "-sSfOJ"), "Ubuntu 24.04, _N_ble_.qcow2"),  # it knows nothing of the encoded name
        (("wget", "-q", "--content-disposition"), f"{NAME}.qcow2"),
    ],
    ids=lambda value: str(value[0]),
)
def test_downloads_are_saved_under_the_image_s_name(
    command: tuple[str, ...], name: str, url: str, disk: Path, tmp_path: Path
) -> None:
    run(tmp_path, *command, url)
    (saved,) = tmp_path.iterdir()
    assert saved.name == name
    assert saved.read_bytes() == disk.with_suffix(".qcow2").read_bytes()


@pytest.mark.parametrize("command", [("curl", "-sSfO"), ("wget", "-q")], ids=lambda value: str(value[0]))
def test_downloads_are_saved_under_the_name_that_the_url_ends_in(
    command: tuple[str, ...], server: Server, image: str, disk: Path, tmp_path: Path
) -> None:
    run(tmp_path, *command, f"{server.url}/images/{image}/file/mine.qcow2")
    (saved,) = tmp_path.iterdir()
    assert saved.name == "mine.qcow2"
    assert saved.read_bytes() == disk.with_suffix(".qcow2").read_bytes()
