"""Connections that hear what the server says while they send a body.

A server refuses an upload as soon as it knows that it must, and does not wait for the end. Then nothing more is sent,
and its answer is what the caller gets: not that the pipe is broken.
"""

import ssl
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util.wait import wait_for_read


class _Listening(HTTPConnection):
    """Stops sending a body when an answer is there.

    urllib3 takes BrokenPipeError while it sends for what it mostly is, and goes on to read the answer.
    """

    _sends_body = _is_cut = False

    def putrequest(self, *request: Any, **options: Any) -> None:
        """Begin a request."""
        self._sends_body = self._is_cut = False
        super().putrequest(*request, **options)

    def endheaders(self, *body: Any, **options: Any) -> None:
        """Send the head."""
        super().endheaders(*body, **options)
        self._sends_body = True

    def send(self, data: Any) -> None:
        """Send what comes next, unless the server has said enough."""
        try:
            if self._sends_body and self._is_answered():
                raise BrokenPipeError
            super().send(data)
        except TimeoutError:
            raise
        except OSError as error:
            if not self._sends_body:
                raise
            self._is_cut = True
            raise BrokenPipeError from error

    def _is_answered(self) -> bool:
        """Return whether the server has sent anything. With TLS that need not be an answer: it sends tickets, too."""
        return not isinstance(self.sock, ssl.SSLSocket) and wait_for_read(self.sock, timeout=0)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Return the answer; the next request would be taken for the rest of a body that was cut."""
        response = super().getresponse()
        if self._is_cut:
            self.close()
        return response


class _TlsListening(_Listening, HTTPSConnection):
    """The same with TLS: until the server breaks the connection, the body is sent."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Listening


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsListening


def make_pools(context: ssl.SSLContext, connections: int) -> PoolManager:
    """Make what keeps connections open, up to so many to each host."""
    pools = PoolManager(maxsize=connections, ssl_context=context, retries=False)
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pools
