"""Where a server listens, and how many files it may open. Its end: test_serving_end.py."""

import errno
import logging
import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrimage.server.channel import Channel
from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, address_url, announce, bind, raise_descriptor_limit
from servers.in_process_server import SECONDS, Answer, chunked, echo, receive_all, request, serving

# Places


@pytest.mark.parametrize("settings", [{"listen": "127.0.0.1:0 127.0.0.1:0"}, {"unix_socket": "socket"}])
def test_every_place_is_served_by_our_classes(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = read_options(settings)
    server = Serving(echo, options, bind(options))
    classes = [listener.channel_class for listener in server.listeners]
    server.stop()
    server.run()
    assert classes == [Channel] * len(settings.get("listen", "x").split())


def test_two_places_serve_one_application() -> None:
    with serving(echo, listen="127.0.0.1:0 127.0.0.1:0") as server:
        for listener in server.serving.listeners:
            with socket.create_connection(listener.socket.getsockname(), timeout=SECONDS) as client:
                client.sendall(request("PUT /", "Transfer-Encoding: chunked", "Connection: close") + chunked(b"abc", 2))
                assert Answer.parse(receive_all(client)).json["body"] == "abc"


def test_a_socket_in_the_file_system_has_the_permissions_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in range(2):  # what an earlier server left is taken away
        with serving(echo, unix_socket=str(path), unix_socket_perms="640") as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            assert server.get().json["REMOTE_ADDR"] == "localhost"


@pytest.mark.parametrize("settings", [{"listen": "127.0.0.1:0 127.0.0.1:0"}, {"unix_socket": "socket"}])
def test_a_place_that_is_held_already_is_kept(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = bind(read_options(settings))
    names = [listening.getsockname() for listening in held]
    again = settings if "unix_socket" in settings else {"listen": " ".join(f"{host}:{port}" for host, port in names)}
    assert bind(read_options(again), held) == held
    for listening in held:
        listening.close()


def test_a_server_says_where_it_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (listening,) = bind(read_options({"listen": "127.0.0.1:0"}))
    announce([listening])
    assert caplog.messages == [f"Serving on http://127.0.0.1:{listening.getsockname()[1]}"]
    listening.close()


@pytest.mark.parametrize("kind", ["file", "abstract", "abstract with @"])
def test_whoever_waits_for_a_server_is_told_that_it_serves(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.settimeout(SECONDS)
        waiting.bind(str(tmp_path / "a@socket") if kind == "file" else f"\0{tmp_path}{'@' if '@' in kind else ''}")
        monkeypatch.setenv("NOTIFY_SOCKET", os.fsdecode(waiting.getsockname()).replace("\0", "@"))
        announce([])
        assert waiting.recv(64) == b"READY=1"


@pytest.mark.parametrize("name", ["", "/no/such/socket", "@no-such-socket", "@", "/" + "a" * 200, "relative"])
def test_a_server_serves_also_where_nobody_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    announce([])


def test_a_server_that_was_started_by_hand_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    announce([])


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_the_newer_protocol_is_served_beside_the_older_at_one_port() -> None:
    options = read_options({"listen": "[::]:0"})
    (six,) = bind(options)
    port = six.getsockname()[1]
    (four,) = bind(read_options({"listen": f"0.0.0.0:{port}"}))
    six.close()
    four.close()


PLACES: dict[str, tuple[int, Any]] = {
    "http://127.0.0.1:9292": (socket.AF_INET, ("127.0.0.1", 9292)),
    "http://[::1]:9292": (socket.AF_INET6, ("::1", 9292, 0, 0)),
    "unix:/run/pyrimage.sock": (socket.AF_UNIX, "/run/pyrimage.sock"),
}


@pytest.mark.parametrize(("text", "address"), PLACES.items(), ids=PLACES)
def test_a_place_is_named_as_people_do(text: str, address: tuple[int, Any]) -> None:
    assert address_url(*address) == text


def test_a_place_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=f"cannot listen on http://127.0.0.1:{port}: Address already in use"
        ) as caught:
            bind(read_options({"port": str(port)}))
    assert caught.value.errno == errno.EADDRINUSE


# Descriptors


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """The limits of open files; what is done to the lower one is undone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield soft, hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_may_open_as_many_files_as_its_connections_need(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
    for wanted in ("1000", "10"):  # never less than before
        options = read_options({"connection_limit": wanted})
        raise_descriptor_limit(options)
        assert options.connection_limit == int(wanted)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 2000


def test_no_more_connections_are_accepted_than_the_system_has_descriptors_for(
    limits: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """S40."""
    _, hard = limits
    if hard == resource.RLIM_INFINITY:
        pytest.skip("the system allows any number of open files")
    options = read_options({"connection_limit": str(hard)})
    raise_descriptor_limit(options)
    assert 0 < options.connection_limit < hard
    assert f"connection_limit is lowered to {options.connection_limit}" in caplog.text


@pytest.mark.parametrize("connections", [-100, 0, 15])
def test_a_server_that_could_hardly_accept_a_connection_does_not_start(
    connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S40: its listening sockets count among them."""
    allowed = 300 + 2 * connections
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(ValueError, match=rf"allows {allowed} open files.* need 300$"):
        raise_descriptor_limit(read_options({"upload_threads": "44"}))


def test_a_server_may_have_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (332, 332))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    options = read_options({"upload_threads": "44"})
    raise_descriptor_limit(options)
    assert options.connection_limit == 16
