"""A socket in the file system: what lies at its path is replaced only if it was left behind."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pyrimage.server import serving as module
from pyrimage.server.options import read_options
from pyrimage.server.serving import bind
from servers.in_process_server import SECONDS, echo, serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def refused(path: Path) -> int | None:
    """Try to listen at a path; return the error, which must name the place."""
    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: ") as caught:
        bind(read_options({"unix_socket": str(path)}))
    return caught.value.errno


def test_a_second_server_is_refused_and_the_first_goes_on(path: Path) -> None:
    for _ in range(2):  # what an earlier server left is taken away
        with serving(echo, unix_socket=str(path), unix_socket_perms="640") as server:
            assert refused(path) == errno.EADDRINUSE
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            assert server.get().json["REMOTE_ADDR"] == "localhost"


@contextlib.contextmanager
def listening(path: Path, backlog: int) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as waiting:
        live.bind(str(path))
        live.listen(backlog)
        waiting.connect(str(path))
        yield


@contextlib.contextmanager
def of_kind(path: Path, kind: socket.SocketKind) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind == socket.SOCK_SEQPACKET:
            live.listen()
        yield


@contextlib.contextmanager
def made(make: Callable[..., object], *arguments: object) -> Iterator[None]:
    make(*arguments)
    yield


@contextlib.contextmanager
def link(path: Path, is_live: bool) -> Iterator[None]:
    other = path.with_name("other")
    path.symlink_to(other)
    with socket.socket(socket.AF_UNIX) as live:
        if is_live:
            live.bind(str(other))
        yield


NOT_STALE: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "server that accepts nobody": lambda path: listening(path, 1),
    "server to which nobody more can connect": lambda path: listening(path, 0),
    "datagrams": lambda path: of_kind(path, socket.SOCK_DGRAM),
    "packets": lambda path: of_kind(path, socket.SOCK_SEQPACKET),
    "link to a live socket": lambda path: link(path, True),
    "link to nothing": lambda path: link(path, False),
    "file": lambda path: made(path.write_bytes, b"precious"),
    "directory": lambda path: made(path.mkdir),
    "pipe": lambda path: made(os.mkfifo, path),
}


@pytest.mark.parametrize("kind", NOT_STALE)
def test_what_was_not_left_behind_by_a_server_stays_as_it_is(path: Path, kind: str) -> None:
    with NOT_STALE[kind](path):
        before = path.lstat()
        assert refused(path) == errno.EADDRINUSE
        assert path.lstat() == before
    assert kind != "file" or path.read_bytes() == b"precious"


@pytest.mark.parametrize("was_listening", [True, False])
def test_a_socket_that_was_left_behind_is_replaced(path: Path, was_listening: bool) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        if was_listening:
            left.listen()
    (bound,) = bind(read_options({"unix_socket": str(path)}))
    with bound, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not search a directory")
@pytest.mark.parametrize(("mode", "error"), [(0o700, errno.EACCES), (0o755, errno.EADDRINUSE)])
def test_what_this_user_may_not_ask_is_left_alone(
    path: Path, mode: int, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that may not be searched, or a socket that may not be connected to."""
    monkeypatch.chdir(path.parent)  # pytest's directories are private
    path.parent.chmod(mode)
    with listening(path, 1):
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            assert refused(Path("socket")) == error
        finally:
            os.seteuid(0)


def test_nobody_can_connect_before_the_permissions_are_as_they_were_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []

    def chmod(*arguments: object) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            refusals.append(client.connect_ex(str(path)))

    monkeypatch.setattr(os, "chmod", chmod)
    (bound,) = bind(read_options({"unix_socket": str(path), "unix_socket_perms": "600"}))
    bound.close()
    assert refusals == [errno.ECONNREFUSED]


def test_of_many_servers_that_start_at_once_on_a_stale_socket_one_gets_it(path: Path) -> None:
    for _ in range(30):
        got: list[socket.socket] = []
        errors: list[int | None] = []
        together = threading.Barrier(6)

        def start(
            got: list[socket.socket] = got,
            errors: list[int | None] = errors,
            together: threading.Barrier = together,
        ) -> None:
            together.wait(SECONDS)
            try:
                got += bind(read_options({"unix_socket": str(path)}))
            except OSError as error:
                errors.append(error.errno)

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), errors) == (1, [errno.EADDRINUSE] * 5)
        got[0].close()  # and leaves a stale one to the next


def test_a_stranger_cannot_keep_a_server_from_starting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # which whoever can read the directory can do
    (bound,) = bind(read_options({"unix_socket": str(path)}))
    bound.close()
    os.close(descriptor)
