"""Transfers of which a test holds the other end, and what a server's log tells."""

import http.client
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from factories import data_headers
from servers.processes import wait_until
from servers.pyrimage import ANSWER_SECONDS, Server

MIB = 1 << 20
DATA = os.urandom(MIB) * 16  # more than the kernel holds for a connection
REST = DATA[MIB:]


def logged(server: Server, *words: str) -> Callable[[], bool]:
    """Tell whether the log has a line with all these words."""
    return lambda: any(all(word in line for word in words) for line in server.log().splitlines())


@contextmanager
def begin_upload(server: Server) -> Iterator[http.client.HTTPConnection]:
    """Send the header of an upload of DATA, and its first bytes; wait until it is claimed. REST makes it whole."""
    claims = "SELECT count(*) FROM claims"
    before = server.sql(claims)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    with closing(client):
        client.putrequest("POST", "/v1/images")
        for name, value in {**data_headers(), "Content-Length": str(len(DATA))}.items():
            client.putheader(name, value)
        client.endheaders(DATA[:MIB])
        wait_until(lambda: server.sql(claims) > before, ANSWER_SECONDS, server.log)
        yield client


@contextmanager
def begin_download(server: Server) -> Iterator[http.client.HTTPResponse]:
    """Upload DATA, and ask for it, but take less than the server can hold in the kernel."""
    path = store(server)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    with closing(client), socket.socket() as narrow:
        narrow.settimeout(ANSWER_SECONDS)
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        narrow.connect(("127.0.0.1", server.port))
        client.sock = narrow
        client.request("GET", path)
        yield client.getresponse()


def store(server: Server) -> str:
    """Upload DATA; return the image's path."""
    made = server.request("POST", "/v1/images", DATA, data_headers())
    if made.status != 201:
        raise AssertionError(made)
    return f"/v1/images/{made.image['id']}"
