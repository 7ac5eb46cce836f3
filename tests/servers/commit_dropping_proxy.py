"""A TCP proxy in front of a database server, which can drop the answer to a COMMIT that worked."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306}


class CommitDroppingProxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.target, self.drops_next = target, threading.Event()


class _Relay(socketserver.BaseRequestHandler):
    server: CommitDroppingProxy

    def handle(self) -> None:
        client = self.request
        with socket.create_connection(self.server.target) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
                    if source is client and b"COMMIT" in data and self.server.drops_next.is_set():
                        self.server.drops_next.clear()
                        server.recv(65536)  # it worked, and nobody hears of it
                        return


@contextmanager
def commit_dropping_proxy(url: str) -> Iterator[tuple[CommitDroppingProxy, str]]:
    """Put a proxy before the server of ``url``; give it, and the URL that leads through it."""
    real = make_url(url)
    with CommitDroppingProxy((str(real.host), real.port or PORTS[real.get_backend_name()])) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        through = real.set(host="127.0.0.1", port=proxy.server_address[1])
        if real.get_backend_name() == "postgresql":
            through = through.update_query_dict({"sslmode": "disable"})  # the proxy reads along
        try:
            yield proxy, through.render_as_string(hide_password=False)
        finally:
            proxy.shutdown()
