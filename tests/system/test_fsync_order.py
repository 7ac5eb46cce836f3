"""Trap 14: kill -9 cannot show a missing fsync, for the kernel keeps what was written; the system calls can."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factories import data_headers, meta
from servers.pyrimage import Server

pytestmark = pytest.mark.system

SYNCS = ("fsync", "fdatasync")
CALLS = (*SYNCS, "rename", "unlink")


@contextmanager
def traced(server: Server, output: Path) -> Iterator[None]:
    """Write down every sync, rename and unlink of a running server, with the names of the files."""
    if shutil.which("strace") is None:
        missing = "strace is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    assert server.process is not None
    command = ["strace", "-f", "-y", "-s", "1000", "-e", f"trace={','.join(CALLS)}", "-o", str(output)]
    tracer = subprocess.Popen([*command, "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        assert "attached" in tracer.stderr.readline()
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def calls(output: Path, server: Server) -> list[str]:
    """Return the calls as ``sync <file>``, ``rename <file> <file>``, ``unlink <file>``; names from ``var`` on."""
    seen = []
    for line in output.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call is None or call[1] not in CALLS:  # the rest of a call that was interrupted, or a signal
            continue
        names = re.findall(r'[<"](/[^>"]+)[>"]', call[2])
        places = [os.path.relpath(name, server.directory / "var") for name in names]
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
    seen = calls(tmp_path / "calls", own_server)
    (final,) = own_server.files()
    shelf, key = os.path.split(final)
    begin = seen.index(f"sync images/staging/{key}")
    assert seen[begin : begin + 6] == [
        f"sync images/staging/{key}",
        "sync images/blobs",  # where the shelf's own name stands: this upload, or one beside it, may just have made it
        "sync images",
        f"rename images/staging/{key} images/{final}",
        f"sync images/{shelf}",
        "sync pyrimage.sqlite-wal",
    ]
    assert "sync pyrimage.sqlite-wal" in seen[:begin]  # the claim, by which the bytes would be found


def test_row_is_given_up_durably_before_the_bytes_are(own_server: Server, tmp_path: Path) -> None:
    assert own_server.request("POST", "/v1/images", b"bytes", headers=data_headers(id="f17")).status == 201
    (final,) = own_server.files()
    with traced(own_server, tmp_path / "calls"):
        assert own_server.request("DELETE", "/v1/images/f17").status == 200
    seen = calls(tmp_path / "calls", own_server)
    unlinked = seen.index(f"unlink images/{final}")
    assert "sync pyrimage.sqlite-wal" in seen[:unlinked]
    assert "sync pyrimage.sqlite-wal" in seen[unlinked:]  # and the garbage row only after them
