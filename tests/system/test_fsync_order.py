"""Trap 14: kill -9 cannot show a missing fsync, for the kernel keeps what was written; the system calls can."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factories import data_headers, meta, sha256
from servers.machine import installed
from servers.processes import PROGRAMS, RUN_SECONDS, run
from servers.pyrimage import Server

pytestmark = pytest.mark.system

SYNCS = ("fsync", "fdatasync")
CALLS = (*SYNCS, "rename", "link", "unlink")


@contextmanager
def traced(server: Server, output: Path) -> Iterator[None]:
    """Write down what a running server does to its files."""
    assert server.process is not None
    command = [*strace(), str(output), "-p", str(server.process.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        assert "attached" in tracer.stderr.readline()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=RUN_SECONDS)


def strace() -> list[str]:
    """Return the begin of a command that writes down every sync, rename, link and unlink, with the files' names."""
    return [installed("strace"), "-f", "-y", "-s", "1000", "-e", f"trace={','.join(CALLS)}", "-o"]


def calls(output: Path, root: Path) -> list[str]:
    """Return the calls as ``sync <file>``, ``rename <file> <file>``, ``unlink <file>``; names from ``root`` on."""
    seen = []
    for line in output.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None or call[1] not in CALLS:  # the rest of a call that was interrupted, or a signal
            continue
        names = re.findall(r'[<"](/[^>"]+)[>"]', call[2])
        places = [os.path.relpath(name, root) for name in names]
        seen.append(" ".join(["sync" if call[1] in SYNCS else call[1], *places]))
    return seen


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_bytes_are_durable_before_their_name_and_both_before_their_row(
    own_server: Server, tmp_path: Path, method: str
) -> None:
    path = "/v1/images"
    if method == "PUT":
        assert own_server.request("POST", path, headers=meta(id="f17")).status == 201
        path += "/f17"
    with traced(own_server, tmp_path / "calls"):
        assert own_server.request(method, path, b"bytes", headers=data_headers(id="f17")).status < 300
    seen = calls(tmp_path / "calls", own_server.directory / "var")
    (final,) = own_server.files()
    directory, key = os.path.split(final)
    begin = seen.index(f"sync images/staging/{key}")
    assert seen[begin : begin + 6] == [
        f"sync images/staging/{key}",
        f"rename images/staging/{key} images/{final}",
        f"sync images/{directory}",
        "sync images/blobs",  # where that one's name stands: this upload, or one beside it, may just have made it
        "sync images",
        "sync pyrimage.sqlite-wal",
    ]
    assert "sync pyrimage.sqlite-wal" in seen[:begin]  # the claim, by which the bytes would be found


def test_row_is_given_up_durably_before_the_bytes_are(own_server: Server, tmp_path: Path) -> None:
    assert own_server.request("POST", "/v1/images", b"bytes", headers=data_headers(id="f17")).status == 201
    (final,) = own_server.files()
    with traced(own_server, tmp_path / "calls"):
        assert own_server.request("DELETE", "/v1/images/f17").status == 200
    seen = calls(tmp_path / "calls", own_server.directory / "var")
    unlinked = seen.index(f"unlink images/{final}")
    assert "sync pyrimage.sqlite-wal" in seen[:unlinked]
    assert "sync pyrimage.sqlite-wal" in seen[unlinked:]  # and the garbage row only after them


def test_marker_is_durable_before_its_name(tmp_path: Path) -> None:
    write = f"Marker(Path('{tmp_path}/images/blobs'), 'file').write('0' * 32, replace=False)"
    code = f"from pathlib import Path; from pyrimage.stores.directory import Marker; {write}"
    command = [sys.executable, "-c", code]
    subprocess.run([*strace(), str(tmp_path / "calls"), *command], check=True)
    seen = [re.sub(r"\.[0-9a-f]{16}", ".new", call) for call in calls(tmp_path / "calls", tmp_path)]
    assert seen[seen.index("sync images/blobs/pyrimage-store.new") :] == [
        "sync images/blobs/pyrimage-store.new",
        "link images/blobs/pyrimage-store.new images/blobs/pyrimage-store",
        "unlink images/blobs/pyrimage-store.new",
        "sync images/blobs",
        "sync images",
        "sync .",
    ]


def traced_command(directory: Path, *arguments: str | Path) -> list[str]:
    """Run pyrimage-manage and return its calls."""
    command = [PROGRAMS / "pyrimage-manage", *arguments]
    subprocess.run([*strace(), str(directory / "calls"), *command], check=True, stdout=subprocess.DEVNULL)
    return calls(directory / "calls", directory)


def test_an_export_is_durable_before_its_name_and_an_import_as_an_upload_is(own_server: Server, tmp_path: Path) -> None:
    assert own_server.request("POST", "/v1/images", b"bytes", headers=data_headers(id="f17")).status == 201
    seen = traced_command(tmp_path, "-c", own_server.ini, "export", "--data", tmp_path / "export")
    blob = f"export/blobs/{sha256(b'bytes')[:2]}/{sha256(b'bytes')}"
    partial, final = "export/images.jsonl.partial", "export/images.jsonl"
    assert [call for call in seen if " export" in call or call == "sync ."] == [
        "sync export/blobs/partial",
        f"rename export/blobs/partial {blob}",
        f"sync {Path(blob).parent}",
        "sync export/blobs",
        "sync export",
        "unlink export/blobs/partial",
        f"sync {partial}",
        f"rename {partial} {final}",
        "sync export",
        "sync .",
    ]
    (place := tmp_path / "other").mkdir()
    other = Server(place)
    assert run("pyrimage-manage", "-c", other.ini, "db", "upgrade", cwd=place).returncode == 0
    seen = traced_command(tmp_path, "-c", other.ini, "import", tmp_path / "export")
    (key,) = {Path(name).name for name in other.files()}
    finished = seen.index(f"rename other/var/images/staging/{key} other/var/images/blobs/{key[-2:]}/{key}")
    assert seen[finished - 1] == f"sync other/var/images/staging/{key}"
    assert "sync other/var/pyrimage.sqlite-wal" in seen[:finished]  # the claim
    assert "sync other/var/pyrimage.sqlite-wal" in seen[finished + 4 :]  # the row, after three directories
