"""One client has its part of the connections, and no more."""

import contextlib
import itertools
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrimage.server.connections import Connections
from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind
from servers.in_process_server import SECONDS, Answer, Running, answers, echo, receive_all, request, serving
from servers.processes import wait_until

GET = request("GET /", "Connection: close")


@contextlib.contextmanager
def full(**settings: Any) -> Iterator[Running]:
    """Serve a client that has the three connections that it may have, and says nothing."""
    with serving(echo, connections_per_client=3, **settings) as server:
        for _ in range(3):
            server.connect()
        wait_until(lambda: len(server.connections()) == 3, SECONDS)
        yield server


def ask_from(host: str, server: Running) -> Answer:
    address = server.serving.listeners[0].socket.getsockname()
    with socket.create_connection(address, SECONDS, source_address=(host, 0)) as client:
        client.sendall(GET)
        return Answer.parse(receive_all(client))


def test_the_newest_connection_of_a_client_with_too_many_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """S40: whether it asks at once or not, and others are served meanwhile. Not each refusal is logged."""
    with caplog.at_level(logging.WARNING, "waitress"), full() as server:
        answer = server.exchange(b"")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert answer.json["error"].keys() == {"code", "title", "message"}
        assert answer.message == "Your address has 3 connections open (setting connections_per_client of the server)"
        assert [server.get().status for _ in range(20)] == [503] * 20
        server.serving.connections._next_warning = 0.0
        assert server.get().status == 503
        assert ask_from("127.0.0.2", server).status == 200
    assert [record.message for record in caplog.records] == [
        f"127.0.0.1 has 3 connections (connections_per_client), {count} refused" for count in (1, 21)
    ]


def test_a_client_that_has_closed_one_may_open_another() -> None:
    with full() as server:
        server.disconnect()
        for _ in range(10):
            wait_until(lambda: server.connections() == [], SECONDS)
            assert server.get().status == 200


@pytest.mark.parametrize(("proxy", "status"), [("127.0.0.1", 200), ("*", 200), ("127.0.0.2", 503)])
def test_a_trusted_proxy_has_as_many_as_it_likes(proxy: str, status: int) -> None:
    with full(trusted_proxy=proxy, trusted_proxy_headers="x-forwarded-for") as server:
        assert server.get("/", "X-Forwarded-For: 192.0.2.7").status == status


def test_clients_of_a_socket_in_the_file_system_have_no_address(tmp_path: Path) -> None:
    with full(unix_socket=str(tmp_path / "socket")) as server:
        assert server.get().status == 200


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 250),
        ({"connection_limit": "4000"}, 1000),
        ({"connection_limit": "3"}, 1),
        ({"connection_limit": "3", "connections_per_client": "7"}, 7),
        ({"connections_per_client": "0"}, None),
    ],
)
@pytest.mark.parametrize(("host", "client"), [("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7")])
def test_a_client_may_have_a_quarter_of_all_connections_or_what_is_set(
    host: str, client: str, settings: dict[str, str], most: int | None
) -> None:
    """An IPv4 client is the same one on a socket of IPv6."""
    connections = Connections(read_options(settings))
    connections._open[client] = 10**6 if most is None else most - 1
    assert connections.allow((host, 7, 0, 0))
    connections._open[client] += 1
    assert connections.allow((host, 8, 0, 0)) is (most is None)


def test_a_server_that_ends_refuses_some_that_wait_and_serves_those_behind() -> None:
    options = read_options({"listen": "127.0.0.1:0", "connections_per_client": "1", "shutdown_timeout": "20"})
    (listening,) = bind(options)
    server = Serving(echo, options, [listening])
    with contextlib.ExitStack() as opened:
        clients = []
        for host in itertools.chain(["127.0.0.1"] * 3, ["127.0.0.2"]):
            client = socket.create_connection(listening.getsockname(), SECONDS, source_address=(host, 0))
            clients.append(opened.enter_context(client))
            client.sendall(GET)
        server.stop()
        server.run()
        assert [answers(receive_all(client))[0].status for client in clients] == [200, 503, 503, 200]
        assert [client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in clients] == [0] * 4  # no reset
