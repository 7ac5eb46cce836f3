"""A full disk, at each step of an upload: 507, nothing stays, and the next try works when there is room again.

The disks are small tmpfs. Where a tmpfs never runs out of room (fsync, rename), strace makes the system call fail.
"""

import contextlib
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factories import data_headers, files_below, md5, meta
from servers.machine import installed, make_ext4, mounted
from servers.paused_uploads import PausableServer
from servers.processes import RUN_SECONDS, spawn, wait_until
from servers.pyrimage import READY_SECONDS, Answer, Server

pytestmark = pytest.mark.system

MIB = 1 << 20
DISK = 8 * MIB
DATA = bytes(2 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    with mounted("pyrimage-test", tmp_path / "disk", "-t", "tmpfs", "-o", f"size={DISK},nr_inodes=600") as place:
        yield place


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no byte free until the block ends."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def without_inodes(disk: Path) -> Iterator[None]:
    """Leave room for bytes, but for no further file, until the block ends."""
    filler = disk / "filler"
    filler.mkdir()
    with contextlib.suppress(OSError):
        for number in range(600):
            (filler / str(number)).mkdir()
    try:
        yield
    finally:
        shutil.rmtree(filler)


@contextlib.contextmanager
def failing(server: Server, call: str, occurrence: int, path: str, error: str) -> Iterator[None]:
    """Let a system call of the server fail, once, until the block ends; it must be about ``path``."""
    log = server.directory / "strace.log"
    fault = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={occurrence}")
    tracer = spawn(installed("strace"), "-f", "-y", *fault, "-p", str(server.pid), log=log)
    try:
        wait_until(lambda: " attached" in log.read_text() or tracer.poll() is not None, READY_SECONDS, log.read_text)
        yield
    finally:
        tracer.terminate()
        tracer.wait(RUN_SECONDS)
    lines = log.read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if "(INJECTED)" in line)
    of_thread = [line for line in lines[: at + 1] if line.partition("]")[0] == lines[at].partition("]")[0]]
    was_interrupted = " resumed>" in lines[at]  # by another thread's call: its first half has a line of its own
    assert path in of_thread[-2 if was_interrupted else -1]


class Upload:
    """One way to upload: POST a new image, or PUT into a queued one."""

    def __init__(self, server: Server, method: str) -> None:
        self._server, self._method = server, method
        self._queued = server.request("POST", "/v1/images", headers=meta(name="queued")).image["id"]

    def __call__(self, data: bytes = DATA, *, chunked: bool = False) -> Answer:
        path = "/v1/images" if self._method == "POST" else f"/v1/images/{self._queued}"
        body = iter([data[: MIB // 2], data[MIB // 2 :]]) if chunked else data
        return self._server.request(self._method, path, body, data_headers())

    def check_refused(self, answer: Answer) -> None:
        """Check that it is a 507 that left nothing."""
        assert answer.status == 507, answer
        assert answer.json["error"]["title"] == "Insufficient Storage"
        assert self._server.files() == []
        assert self._server.sql("SELECT id, status FROM images") == [(self._queued, "queued")]

    def check_works(self) -> None:
        """Try again."""
        answer = self()
        assert answer.status in (200, 201), answer
        assert self._server.request("GET", f"/v1/images/{answer.image['id']}").headers["ETag"] == md5(DATA)
        assert len(self._server.files()) == 1
        assert self._server.sql("SELECT * FROM claims WHERE image_id = ?", answer.image["id"]) == []


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def server(tmp_path: Path, disk: Path) -> Iterator[PausableServer]:
    """A server whose bytes lie on the small disk, and its rows elsewhere."""
    with PausableServer(tmp_path, main={"pyrimage.filesystem_store_datadir": str(disk / "images")}) as running:
        running.datadir = disk / "images"
        yield running


@pytest.fixture
def server_of_rows(tmp_path: Path, disk: Path) -> Iterator[PausableServer]:
    """A server whose rows lie on the small disk, and its bytes elsewhere."""
    with PausableServer(tmp_path, main={"sqlalchemy.url": f"sqlite:///{disk}/pyrimage.sqlite"}) as running:
        running.database = disk / "pyrimage.sqlite"
        yield running


METHODS = pytest.mark.parametrize("method", ["POST", "PUT"])  # elsewhere PUT, whose image has to stay queued


def test_more_than_there_is_room_for_is_refused_when_it_came_unannounced(server: PausableServer) -> None:
    upload = Upload(server, "PUT")
    upload.check_refused(upload(bytes(DISK + 1), chunked=True))
    upload.check_works()


@METHODS
def test_disk_full_in_the_middle(server: PausableServer, disk: Path, method: str, threads: ThreadPoolExecutor) -> None:
    upload = Upload(server, method)
    with server.paused("write"):
        answer = threads.submit(upload, chunked=True)
        server.wait_for_paused("write")
        with full(disk):
            server.resume("write")
            upload.check_refused(answer.result())
    upload.check_works()


def test_disk_full_in_the_middle_is_no_trouble_for_an_upload_that_has_its_room(
    server: PausableServer, disk: Path, threads: ThreadPoolExecutor
) -> None:
    upload = Upload(server, "POST")
    with server.paused("write"):
        answer = threads.submit(upload)
        server.wait_for_paused("write")
        with full(disk):
            server.resume("write")
            assert answer.result().status == 201
    assert server.request("GET", f"/v1/images/{answer.result().image['id']}").body == DATA


def test_room_that_another_upload_has_taken_is_no_room(server: PausableServer, threads: ThreadPoolExecutor) -> None:
    """Also before its bytes are there: of two that have not room together, one is refused at once."""
    upload, data = Upload(server, "POST"), bytes(5 * MIB)
    with server.paused("write"):
        first = threads.submit(upload, data)
        server.wait_for_paused("write")
        second = upload(data)
    assert second.status == 507
    assert "has no room for" in second.json["error"]["message"]
    assert first.result().status == 201


def test_disk_without_inodes(server: PausableServer, disk: Path) -> None:
    upload = Upload(server, "PUT")
    with without_inodes(disk):
        upload.check_refused(upload())
    upload.check_works()


@pytest.mark.parametrize(
    ("call", "occurrence", "path", "error"),
    [
        pytest.param("fallocate", 1, "/staging/", "EFBIG", id="before the first byte"),
        pytest.param("fsync", 1, "/staging/", "EDQUOT", id="flush"),
        pytest.param("rename", 1, "/staging/", "ENOSPC", id="rename"),
        pytest.param("fsync", 2, "/blobs/", "ENOSPC", id="after the rename"),
    ],
)
def test_disk_full_at_the_first_and_the_last_steps(
    own_server: Server, call: str, occurrence: int, path: str, error: str
) -> None:
    """SQLite uses none of the calls. The first fsync is the file's, the next after the rename its directory's."""
    for name in ("staging", *(f"blobs/{number:02x}" for number in range(256))):
        (own_server.datadir / name).mkdir(parents=True, exist_ok=True)
    upload = Upload(own_server, "PUT")
    with failing(own_server, call, occurrence, path, error):
        answer = upload()
    upload.check_refused(answer)
    upload.check_works()


def test_file_system_that_flushes_no_directories_stores_all_the_same(own_server: Server) -> None:
    """As some of networks do, and some in user space."""
    upload = Upload(own_server, "POST")
    with failing(own_server, "fsync", 2, "/blobs/", "EINVAL"):
        assert upload().status == 201


def test_file_that_is_longer_than_the_server_may_write_is_told_as_full(own_server: Server) -> None:
    upload = Upload(own_server, "POST")
    resource.prlimit(own_server.pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    for chunked in (False, True):
        answer = upload(chunked=chunked)
        upload.check_refused(answer)
        assert "Retry-After" not in answer.headers
    head = f"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB + 1}\r\nExpect: 100-continue\r\n"
    lines = [f"{name}: {value}\r\n" for name, value in data_headers().items()]
    assert own_server.exchange(f"{head}{''.join(lines)}\r\n".encode()).startswith(b"HTTP/1.1 507 ")
    resource.prlimit(own_server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    upload.check_works()


def test_file_that_is_longer_than_the_file_system_knows_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    """An ext4 without extents, in blocks of 1 KiB: files have 16 GiB at most, and there is no fallocate to say so."""
    options = "^extents,^64bit,^huge_file,^has_journal,^resize_inode,sparse_super2"
    image = make_ext4(tmp_path / "disk.ext4", 20 << 30, "-b", "1024", "-N", "1000", "-O", options)
    with (
        mounted(image, tmp_path / "disk", "-o", "loop") as place,
        Server(tmp_path, main={"pyrimage.filesystem_store_datadir": str(place)}) as server,
    ):
        octets = "Content-Type: application/octet-stream\r\nExpect: 100-continue\r\n"
        head = f"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {17 << 30}\r\n{octets}\r\n"
        assert server.exchange(head.encode()).startswith(b"HTTP/1.1 507 ")
        assert files_below(place) == []


def test_disk_of_the_database_full_from_the_start(server_of_rows: PausableServer, disk: Path) -> None:
    upload = Upload(server_of_rows, "PUT")
    with full(disk):
        upload.check_refused(upload())
        assert server_of_rows.request("GET", "/v1/images").status == 200
    upload.check_works()


@METHODS
def test_disk_of_the_database_full_at_commit(
    server_of_rows: PausableServer, disk: Path, method: str, threads: ThreadPoolExecutor
) -> None:
    """Also after the failure the disk is full: the claim cannot be ended, and must not stand in the next try's way."""
    upload = Upload(server_of_rows, method)
    with server_of_rows.paused("finish"):
        answer = threads.submit(upload)
        server_of_rows.wait_for_paused("finish")
        with full(disk):
            server_of_rows.resume("finish")
            upload.check_refused(answer.result())
    upload.check_works()


def test_delete_that_the_full_disk_refused_leaves_the_image_whole(server_of_rows: PausableServer, disk: Path) -> None:
    server = server_of_rows
    path = f"/v1/images/{server.request('POST', '/v1/images', DATA, data_headers()).image['id']}"
    with full(disk):
        assert server.request("DELETE", path).status == 507
        assert server.request("GET", path).body == DATA
    assert server.request("DELETE", path).status == 200
    assert server.files() == []


def test_one_disk_for_bytes_and_rows_is_not_blocked_by_an_upload_that_fills_it(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "var").symlink_to(disk)
    with Server(tmp_path) as server:
        upload = Upload(server, "PUT")
        upload.check_refused(upload(bytes(DISK + 1), chunked=True))
        upload.check_works()
