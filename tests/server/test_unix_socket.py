"""A socket in the file system: what lies at its path is replaced only if it was left behind."""

import errno
import fcntl
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrimage.server import serving as module
from pyrimage.server.options import read_options
from pyrimage.server.serving import bind
from servers.in_process_server import SECONDS, echo, serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def refused(path: Path) -> OSError:
    """Try to listen at a path; return the error, which must name the place."""
    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: ") as caught:
        bind(read_options({"unix_socket": str(path)}))
    return caught.value


def test_a_second_server_is_refused_and_the_first_goes_on(path: Path) -> None:
    with serving(echo, unix_socket=str(path)) as server:
        for _ in range(2):
            error = refused(path)
            assert error.errno == errno.EADDRINUSE
            assert "Address already in use" in str(error)
            assert server.get().status == 200


@pytest.mark.parametrize("backlog", [1, 0])
def test_a_socket_whose_server_accepts_nobody_is_live(path: Path, backlog: int) -> None:
    """Also when nobody more can even connect, as to a server that is stopped or very busy."""
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as waiting:
        live.bind(str(path))
        live.listen(backlog)
        waiting.connect(str(path))
        assert refused(path).errno == errno.EADDRINUSE
        assert path.is_socket()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_of_another_sort_is_left_alone(path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind == socket.SOCK_SEQPACKET:
            live.listen()
        assert refused(path).errno == errno.EADDRINUSE
        assert path.is_socket()


@pytest.mark.parametrize("was_listening", [True, False])
def test_a_socket_that_was_left_behind_is_replaced(path: Path, was_listening: bool) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        if was_listening:
            left.listen()
    before = path.stat().st_ino, path.stat().st_ctime_ns
    (listening,) = bind(read_options({"unix_socket": str(path), "unix_socket_perms": "640"}))
    with listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert (path.stat().st_ino, path.stat().st_ctime_ns) != before
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("kind", ["file", "directory", "pipe", "link to a live socket", "link to nothing"])
def test_what_is_no_socket_stays_as_it_is(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("other"))
    with socket.socket(socket.AF_UNIX) as live:
        if kind == "link to a live socket":
            live.bind(str(path.with_name("other")))
        before = path.lstat()
        assert refused(path).errno == errno.EADDRINUSE
    assert path.lstat() == before
    assert kind != "file" or path.read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not connect")
def test_a_socket_that_this_user_may_not_ask_is_left_alone() -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as live:  # pytest's are private
        Path(directory).chmod(0o777)
        path = Path(directory, "socket")
        live.bind(str(path))
        live.listen()
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            assert refused(path).errno == errno.EADDRINUSE
        finally:
            os.seteuid(0)
        assert path.is_socket()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not search a directory")
def test_a_directory_that_this_user_may_not_search_is_named(path: Path) -> None:
    path.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        assert refused(path).errno == errno.EACCES
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
    (listening,) = bind(read_options({"unix_socket": str(path), "unix_socket_perms": "600"}))
    listening.close()
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
            options = read_options({"unix_socket": str(path)})
            together.wait(SECONDS)
            try:
                got += bind(options)
            except OSError as error:
                errors.append(error.errno)

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), errors) == (1, [errno.EADDRINUSE] * 5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        got[0].close()  # and leaves a stale one to the next


@pytest.fixture
def locked_directory(path: Path) -> Iterator[None]:
    """Somebody who can read the directory has locked it, and does not let go."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


@pytest.mark.usefixtures("locked_directory")
def test_a_stranger_cannot_keep_a_server_from_starting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    (listening,) = bind(read_options({"unix_socket": str(path)}))
    listening.close()
