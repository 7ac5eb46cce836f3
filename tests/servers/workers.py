"""What tests ask of a server with workers: an upload that has begun, and what the log tells."""

import http.client
import os
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
