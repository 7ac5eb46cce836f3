"""Where a server listens, and how many files it may open. Its end: test_serving_end.py."""

import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrimage.server.channel import Channel
from pyrimage.server.options import read_options
from pyrimage.server.serving import announce, bind, raise_descriptor_limit
from servers.in_process_server import CHUNKED, SECONDS, Answer, chunked, echo, receive_all, request, serving

# Addresses


def test_two_addresses_serve_one_application() -> None:
    with serving(echo, listen="127.0.0.1:0 127.0.0.1:0") as server:
        for listener in server.serving.listeners:
            assert listener.channel_class is Channel
            with socket.create_connection(listener.socket.getsockname(), timeout=SECONDS) as client:
                client.sendall(request("PUT /", CHUNKED, "Connection: close") + chunked(b"abc", 2))
                assert Answer.parse(receive_all(client)).json["body"] == "abc"


@pytest.mark.parametrize("settings", [{"listen": "127.0.0.1:0 127.0.0.1:0"}, {"unix_socket": "socket"}])
def test_a_socket_that_is_inherited_is_kept(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inherited = bind(read_options(settings))
    names = [listening.getsockname() for listening in inherited]
    again = settings if "unix_socket" in settings else {"listen": " ".join(f"{host}:{port}" for host, port in names)}
    assert bind(read_options(again), inherited) == inherited
    for listening in inherited:
        listening.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("http://127.0.0.1:{port}", {"listen": "127.0.0.1:{port}"}),
        pytest.param("http://[::1]:{port}", {"listen": "[::1]:{port}"}, marks=NEEDS_IPV6),
        ("unix:{path}", {"unix_socket": "{path}"}),
    ],
)
def test_a_server_says_where_it_listens_and_an_address_in_use_is_named(
    text: str, settings: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = read_options(
        {name: value.format(port=port, path=tmp_path / "socket") for name, value in settings.items()}
    )
    (listening,) = bind(options)
    with listening:
        announce([listening])
        url = text.format(port=port, path=tmp_path / "socket")
        assert caplog.messages == [f"Serving on {url}"]
        with pytest.raises(OSError, match=r"^\[.*\] cannot listen on .*: Address already in use$") as caught:
            bind(options)
    assert (caught.value.errno, url in str(caught.value)) == (errno.EADDRINUSE, True)


@NEEDS_IPV6
def test_ipv6_is_served_beside_ipv4_at_one_port() -> None:
    (six,) = bind(read_options({"listen": "[::]:0"}))
    (four,) = bind(read_options({"listen": f"0.0.0.0:{six.getsockname()[1]}"}))
    six.close()
    four.close()


@pytest.mark.parametrize("kind", ["file", "abstract", "abstract with @"])
def test_systemd_is_told_that_the_server_is_ready(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.settimeout(SECONDS)
        waiting.bind(str(tmp_path / "a@socket") if kind == "file" else f"\0{tmp_path}{'@' if '@' in kind else ''}")
        monkeypatch.setenv("NOTIFY_SOCKET", os.fsdecode(waiting.getsockname()).replace("\0", "@"))
        announce([])
        assert waiting.recv(64) == b"READY=1"


@pytest.mark.parametrize("name", [None, "", "/no/such/socket", "@no-such-socket", "@", "/" + "a" * 200, "relative"])
def test_a_server_serves_also_where_nobody_waits(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    announce([])


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


@pytest.mark.parametrize("possible", [-100, 15, 16, 200])
def test_no_more_connections_are_accepted_than_the_system_has_descriptors_for(
    possible: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S40: and a server that could hardly accept one, for its listening sockets count, does not start."""
    allowed = 300 + 2 * possible
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    options = read_options({"upload_threads": "40", "relay_threads": "4"})
    if possible < 16:
        with pytest.raises(ValueError, match=rf"allows {allowed} open files.* need 300$"):
            raise_descriptor_limit(options)
    else:
        raise_descriptor_limit(options)
        assert options.connection_limit == possible
        assert f"connection_limit is lowered to {possible}" in caplog.text
