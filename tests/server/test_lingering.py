"""The gentle end of a connection whose request was refused before it was read: the client can see why."""

import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from pyrimage.server import channel
from pyrimage.server.channel import Channel, Lingering
from pyrimage.server.connections import MAX_LINGERING
from pyrimage.server.options import read_options
from pyrimage.server.serving import Serving, bind
from servers.in_process_server import (
    MIB,
    SECONDS,
    Answer,
    Running,
    answers,
    chunked,
    echo,
    leave_by_reset,
    receive_all,
    request,
    serving,
)
from servers.processes import wait_until

ANSWER = b"x" * 100000
UPLOAD = request("PUT /", f"Content-Length: {2**40}")
FOR_EVER = 1000.0


def refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer without a look at the body."""
    start_response("403 Forbidden", [("Content-Length", str(len(ANSWER)))])
    return [ANSWER]


def receive(client: socket.socket) -> Answer:
    """Return the answer, whose connection may stay open."""
    received = b""
    while len(received) < len(ANSWER) or not received.endswith(b"x" * 1000):
        received += client.recv(MIB)
    return Answer.parse(received)


def lingering(server: Running) -> list[Channel]:
    return [place for place in server.connections() if isinstance(place, Lingering)]


def wait_for_the_end(server: Running) -> None:
    wait_until(lambda: server.connections() == [], SECONDS)


def refused(server: Running) -> socket.socket:
    """Return a client that has its answer, and that the server listens to."""
    client = server.send(UPLOAD)
    assert receive(client).status == 403
    wait_until(lambda: client.getsockname() in [place.addr for place in lingering(server)], SECONDS)
    return client


def send_on(client: socket.socket) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        client.sendall(b"x" * MIB)


BODIES = {
    "sized": [UPLOAD, *[b"x" * MIB] * 100],
    "chunked": [request("PUT /", "Transfer-Encoding: chunked"), chunked(b"x" * 100 * MIB, MIB)],
    "broken": [request("PUT /", "Content-Length: x"), *[b"x" * MIB] * 100],
    "too large": [request("PUT /", f"Content-Length: {2**62}"), *[b"x" * MIB] * 100],
}


@pytest.mark.parametrize("pieces", BODIES.values(), ids=BODIES)
def test_a_client_that_sends_on_after_the_refusal_sees_it_whole(pieces: list[bytes]) -> None:
    """S49: the rest is neither read by the application nor a reason for the kernel to reset the connection."""
    with serving(refuse, max_request_body_size=2**61) as server:
        client = server.send(pieces[0])
        for piece in pieces[1:]:
            client.sendall(piece)
        (answer,) = answers(receive_all(client))
        line = server.wait_for_line()
    assert answer.headers["connection"] == "close"
    assert answer.body == ANSWER or answer.json["error"]["code"] == answer.status
    assert f" {answer.status} {len(answer.body)} " in line
    assert server.lines() == []


def test_a_client_that_says_it_will_send_no_more_sees_the_refusal_whole() -> None:
    with serving(refuse) as server:
        client = server.send(UPLOAD + b"x" * MIB)
        client.shutdown(socket.SHUT_WR)
        assert answers(receive_all(client))[0].body == ANSWER
        wait_for_the_end(server)


def test_nothing_lingers_where_everything_was_read() -> None:
    with serving(echo) as server:
        client = server.send(request("PUT /", "Content-Length: 3", "Connection: close") + b"abc")
        assert answers(receive_all(client))[0].status == 200
        wait_for_the_end(server)


# Its end


@pytest.mark.parametrize("leave", [socket.socket.close, leave_by_reset])
def test_it_ends_with_its_client(leave: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENT_SECONDS", FOR_EVER)
    with serving(refuse) as server:
        leave(refused(server))
        wait_for_the_end(server)


def test_it_ends_where_no_byte_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """S40."""
    monkeypatch.setattr(channel, "LINGER_SECONDS", FOR_EVER)
    monkeypatch.setattr(channel, "SILENT_SECONDS", 0.1)
    with serving(refuse, asyncore_loop_timeout=1) as server:
        client = server.send(UPLOAD)
        assert receive(client).status == 403
        wait_for_the_end(server)


def test_it_ends_after_a_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """S40."""
    monkeypatch.setattr(channel, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(channel, "SILENT_SECONDS", FOR_EVER)
    with serving(refuse) as server:
        client = server.send(UPLOAD)
        assert receive(client).status == 403
        with pytest.raises(ConnectionError):
            send_on(client)
        wait_for_the_end(server)


def test_the_one_that_began_first_ends_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """S40."""
    monkeypatch.setattr(channel, "SILENT_SECONDS", FOR_EVER)
    monkeypatch.setattr(channel, "LINGER_SECONDS", FOR_EVER)
    with serving(refuse) as server:
        clients = [refused(server) for _ in range(MAX_LINGERING + 2)]
        assert [place.addr for place in lingering(server)] == [client.getsockname() for client in clients[2:]]
        for client in clients[:2]:
            assert receive_all(client) == b""
        assert server.get().status == 403


def test_it_does_not_hold_up_the_end_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENT_SECONDS", FOR_EVER)
    monkeypatch.setattr(channel, "LINGER_SECONDS", FOR_EVER)
    monkeypatch.setattr(channel, "PARTIAL_REQUEST_SECONDS", 0.1)
    with serving(refuse, shutdown_timeout=1000) as server:
        refused(server)
        server.serving.idle_seconds = 0.1
        server.serving.stop()
        server.thread.join(SECONDS)
        assert not server.thread.is_alive()


# Turns of the loop

Connect = Callable[[], tuple[Channel, socket.socket]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function that gives a channel, whose loop does not run, and its client."""
    options = read_options({"listen": "127.0.0.1:0", "threads": 1, "upload_threads": 1})
    (listening,) = bind(options)
    server = Serving(echo, options, [listening])
    with contextlib.ExitStack() as clients:

        def connect() -> tuple[Channel, socket.socket]:
            client = clients.enter_context(socket.create_connection(listening.getsockname()))
            server.listeners[0].handle_accept()
            return list(server.listeners[0].active_channels.values())[-1], client

        yield connect
    server.stop()
    server.run()


@pytest.fixture
def lingering_one(connect: Connect) -> Connect:
    """A function that gives a channel that lingers, and its client."""

    def begin() -> tuple[Channel, socket.socket]:
        made, client = connect()
        made.lingers = made.will_close = True
        made.handle_close()
        return made, client

    return begin


def unread(made: Channel) -> int:
    """Return how many bytes have come that nobody has read."""
    (count,) = struct.unpack("i", fcntl.ioctl(made.socket, termios.FIONREAD, bytes(4)))
    return int(count)


def test_a_connection_that_is_gone_does_not_linger(connect: Connect) -> None:
    made, client = connect()
    leave_by_reset(client)
    made.lingers = True
    made.handle_close()
    assert (type(made), made.connected) == (Channel, False)


def test_it_survives_a_wake_up_for_nothing(lingering_one: Connect) -> None:
    made, _ = lingering_one()
    began = made.last_byte
    made.handle_read()
    assert (type(made), made.connected, made.last_byte, made.writable()) == (Lingering, True, began, False)


def test_a_byte_makes_it_wait_for_the_next_one(lingering_one: Connect) -> None:
    made, client = lingering_one()
    made.last_byte -= 6
    made.last_activity -= 6
    assert made.writable()
    client.sendall(b"x")
    wait_until(lambda: unread(made) == 1, SECONDS)
    made.handle_read()
    assert not made.writable()
    made.linger_began -= 31
    assert made.writable()


def test_a_pass_reads_no_more_of_all_of_them_than_its_part(
    lingering_one: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or refused streams would have the loop for themselves."""
    monkeypatch.setattr(channel, "LINGER_BYTES_PER_TURN", 10000)
    made, client = lingering_one()
    client.sendall(b"x" * 30000)
    wait_until(lambda: unread(made) == 30000, SECONDS)
    made.handle_read()
    assert unread(made) == 20000
    other, _ = lingering_one()
    made.handle_read()
    assert unread(made) == 15000
    other.handle_close()
    made.handle_read()
    assert unread(made) == 5000


def test_a_server_that_ends_listens_for_a_while(lingering_one: Connect) -> None:
    made, _ = lingering_one()
    made.last_activity -= 100
    assert not made.is_idle(1.0)
    made.linger_began -= 6
    assert made.is_idle(1.0)
    assert not made.is_idle(15.0)
