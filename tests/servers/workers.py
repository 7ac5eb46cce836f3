"""What tests ask of a server with workers: transfers that have begun, and what the log tells."""

import http.client
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from factories import data_headers
from servers.pyrimage import ANSWER_SECONDS, Server

MIB = 1 << 20
DATA = os.urandom(MIB) * 16


def logged(server: Server, *words: str) -> Callable[[], bool]:
    """Tell whether the log has a line with all these words."""
    return lambda: any(all(word in line for word in words) for line in server.log().splitlines())


@contextmanager
def begin_upload(server: Server) -> Iterator[http.client.HTTPConnection]:
    """Send the header of an upload of DATA, and its first bytes."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    client.putrequest("POST", "/v1/images")
    for name, value in {**data_headers(), "Content-Length": str(len(DATA))}.items():
        client.putheader(name, value)
    client.endheaders()
    client.send(DATA[:MIB])
    with closing(client):
        yield client


def begin_download(server: Server, path: str) -> socket.socket:
    """Ask for an image, and take less than the server can hold in the kernel."""
    client = socket.socket()
    client.settimeout(ANSWER_SECONDS)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    client.recv(1, socket.MSG_PEEK)
    return client


def end_download(client: socket.socket) -> bytes:
    """Take the rest of an answer; return its body."""
    raw = bytearray()
    while piece := client.recv(MIB):
        raw += piece
    return bytes(raw).partition(b"\r\n\r\n")[2]
