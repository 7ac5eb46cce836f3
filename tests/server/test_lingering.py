"""Lingering connections: a client whose request was refused before it was read can see the answer."""

import fcntl
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from pyrimage.server import channel as module
from pyrimage.server.channel import Channel, Lingering
from pyrimage.server.connections import MAX_LINGERING
from servers.in_process_server import (
    MIB,
    SECONDS,
    Answer,
    Running,
    answers,
    chunked,
    leave_by_reset,
    receive_all,
    request,
    serving,
)
from servers.processes import wait_until

ANSWER = b"x" * 100000
UPLOAD = request("PUT /", f"Content-Length: {2**40}")


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
    return [each for each in server.connections() if isinstance(each, Lingering)]


def wait_for_the_end(server: Running) -> None:
    wait_until(lambda: server.connections() == [], SECONDS)


def refused(server: Running) -> socket.socket:
    """Return a client that has its answer, and that the server listens to."""
    client = server.send(UPLOAD)
    assert receive(client).status == 403
    wait_until(lambda: client.getsockname() in [each.addr for each in lingering(server)], SECONDS)
    return client


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections linger until something else than the time ends them."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 1000.0)
    monkeypatch.setattr(module, "SILENT_SECONDS", 1000.0)


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


# Its end

LEAVE: dict[str, Callable[[socket.socket], None]] = {
    "close": socket.socket.close,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
    "reset": leave_by_reset,
}


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_it_ends_with_its_client(leave: Callable[[socket.socket], None]) -> None:
    with serving(refuse) as server:
        leave(refused(server))
        wait_for_the_end(server)


@pytest.mark.usefixtures("for_ever")
def test_it_ends_after_a_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """S40."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.3)
    with serving(refuse) as server:
        client = server.send(UPLOAD)
        assert receive(client).status == 403
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * 2**31)
        wait_for_the_end(server)


@pytest.mark.usefixtures("for_ever")
def test_the_one_that_began_first_ends_where_there_are_too_many() -> None:
    """S40."""
    with serving(refuse) as server:
        clients = [refused(server) for _ in range(MAX_LINGERING + 2)]
        assert [each.addr for each in lingering(server)] == [client.getsockname() for client in clients[2:]]
        for client in clients[:2]:
            assert receive_all(client) == b""
        assert server.get().status == 403


# Turns of the loop

Connect = Callable[[], tuple[Channel, socket.socket]]


@pytest.fixture
def linger(connect: Connect) -> Connect:
    """A function that returns a connection that lingers, and its client."""

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


def test_a_byte_makes_it_wait_for_the_next_one(linger: Connect) -> None:
    made, client = linger()
    made.last_byte -= 6
    made.last_activity -= 6
    began = made.last_byte
    made.handle_read()  # for nothing
    assert (made.connected, made.last_byte, made.writable()) == (True, began, True)
    client.sendall(b"x")
    wait_until(lambda: unread(made) == 1, SECONDS)
    made.handle_read()
    assert not made.writable()
    made.linger_began -= 31
    assert made.writable()


def test_a_turn_reads_no_more_of_all_of_them_than_its_part(linger: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or refused streams would have the loop for themselves."""
    monkeypatch.setattr(module, "LINGER_BYTES_PER_TURN", 10000)
    made, client = linger()
    client.sendall(b"x" * 30000)
    wait_until(lambda: unread(made) == 30000, SECONDS)
    made.handle_read()
    assert unread(made) == 20000
    other, _ = linger()
    made.handle_read()
    assert unread(made) == 15000
    other.handle_close()
    made.handle_read()
    assert unread(made) == 5000


def test_a_server_that_ends_listens_for_a_while(linger: Connect) -> None:
    made, _ = linger()
    made.last_activity -= 100
    assert not made.is_idle(1.0)
    made.linger_began -= 6
    assert made.is_idle(1.0)
    assert not made.is_idle(15.0)
    assert not made.writable()
    made.will_close = True
    assert made.writable()
