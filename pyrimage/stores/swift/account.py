"""Requests to a Swift account: over connections that are kept, with a token that is renewed, again where that helps."""

import collections
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from swiftclient import client
from swiftclient.exceptions import ClientException
from urllib3.exceptions import HTTPError

from ...errors import StoreError, StoreFull, StoreUnavailable
from ..interfaces import Buffer
from .login import Login, LoginRefused, connect

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PAUSES = (0.2, 1.0)  # seconds before a request is repeated; every request of ours may be

# Answers after which it is: the token has expired, other bytes came than those that were sent, too many requests.
_AGAIN = {401, 408, 422, 429, 498, 499}
_FULL = {413, 507}  # 413: a quota, for nothing we send is longer than what the cluster accepts

BROKEN = (OSError, HTTPError)  # what a connection raises

_PIECE = 1024 * 1024  # bytes sent at once, each within the time limit


class Refused(StoreUnavailable):
    """Swift has answered with an error, ``status``."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Account:
    """The account of a login; safe to use from many threads. It asks nothing, and connects nowhere, before a ``call``.

    is_snet: use the provider's internal network.
    """

    def __init__(self, name: str, login: Login, cacert: Path | None, *, is_snet: bool) -> None:
        self._name, self.login, self._cacert, self._is_snet = name, login, cacert, is_snet
        self._idle: collections.deque[client.HTTPConnection] = collections.deque()  # the last one used is the next

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call one of swiftclient's functions with ``url``, ``token``, these arguments and ``http_conn``.

        Raises StoreFull; Refused, with the status, where Swift says no; StoreUnavailable.
        """
        answer, connection = self._call(function, *arguments, **options)
        self._idle.append(connection)
        return answer

    def open(self, container: str, name: str, headers: Mapping[str, str]) -> "tuple[Mapping[str, str], Stream]":
        """Get an object: the headers of the answer, and the bytes as they come. Raises as ``call``."""
        # With a size of chunks, which is for those who iterate, it is a stream.
        options = {"resp_chunk_size": 1, "headers": dict(headers)}
        (found, body), connection = self._call(client.get_object, container, name, **options)
        return found, Stream(body, lambda: self._idle.append(connection))

    def public_url(self) -> str:
        """Return where clients reach the account. Raises StoreUnavailable."""
        return self._repeated(self.login.public_url)

    def close(self) -> None:
        """Close what is idle."""
        self.login.close()
        while self._idle:
            self._idle.pop().close()

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, client.HTTPConnection]:
        return self._repeated(lambda: self._try(function, *arguments, **options))

    def _repeated(self, step: Callable[[], Result]) -> Result:
        """Do what may fail in passing. Raises StoreError."""
        pauses = iter(PAUSES)
        while True:
            try:
                return step()
            except LoginRefused as error:
                log.error("The store %s: %s", self._name, error.advice)
                raise
            except (ClientException, *BROKEN) as error:
                pause = next(pauses, None)
                if pause is None or not _may_pass(error):
                    raise self._explained(error) from error
                log.info("The store %s: a request is repeated after %s", self._name, _brief(error))
            time.sleep(pause)

    def _try(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, client.HTTPConnection]:
        access = self.login.access()
        connection = self._connection(access.url)
        where = urlsplit(access.url), connection
        try:
            return function(access.url, access.token, *arguments, http_conn=where, **options), connection
        except BaseException as error:
            connection.close()
            if isinstance(error, ClientException) and error.http_status == 401:
                self.login.forget(access)
            raise

    def _connection(self, url: str) -> client.HTTPConnection:
        if self._is_snet:
            url = url.replace("://", "://snet-", 1)
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if connection.url == url:  # a login may tell another one than the last
                    return connection
                connection.close()
        return connect(url, self._cacert)

    def _explained(self, error: Exception) -> StoreError:
        status = error.http_status if isinstance(error, ClientException) else None
        if not status:
            return StoreUnavailable("The Swift store does not answer.")
        if status in _FULL:
            return StoreFull("The Swift store takes no more bytes.")
        if status in (401, 403):
            advice = "give the user of swift_store_user a role in the account that may do this, or an ACL"
            log.error("The store %s: Swift answers %d to what its user asks: %s.", self._name, status, advice)
            return Refused("The Swift store does not let this server do this.", status)
        return Refused(f"The Swift store answers {status}.", status)


class Stream:
    """The bytes of an object, as they come. give_back: takes the connection when they are not needed any more."""

    def __init__(self, body: Any, give_back: Callable[[], None]) -> None:
        self._body, self._give_back = body, give_back

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; none are the end. Raises one of ``BROKEN``."""
        data: bytes = self._body.read(size)
        return data

    def close(self) -> None:
        """Give the connection back; with bytes left, it is closed and made anew."""
        self._body.close()
        self._give_back()


def _may_pass(error: Exception) -> bool:
    """Say whether a second try may end in another way."""
    if not isinstance(error, ClientException):
        return True
    status = error.http_status or 0
    return status in _AGAIN or (status >= 500 and status not in _FULL)


def _brief(error: Exception) -> str:
    """Name an error without what it quotes."""
    return str(error.http_status) if isinstance(error, ClientException) else type(error).__name__


# -- functions as swiftclient has them


def get_info(url: str, token: str, *, http_conn: tuple[SplitResult, client.HTTPConnection]) -> dict[str, Any]:
    """Ask what the cluster offers."""
    info = re.sub(r"/v1(\.0)?/.*", "/info", url)
    found: dict[str, Any] = client.get_capabilities((urlsplit(info), http_conn[1]))
    return found


def put_object(
    url: str,
    token: str,
    container: str,
    name: str,
    data: Buffer,
    headers: Mapping[str, str],
    *,
    query: str = "",
    http_conn: tuple[SplitResult, client.HTTPConnection],
) -> tuple[Mapping[str, str], bytes]:
    """Put an object; return the headers and the body of the answer.

    swiftclient's own copies bytes that may change, or sends them in pieces of 16 KiB.
    """
    where, connection = http_conn
    sent = {**headers, "X-Auth-Token": token, "Content-Type": "application/octet-stream"}
    path = f"{where.path}/{quote(container)}/{quote(name)}{query}"
    connection.putrequest(path, data=_Pieces(data) if data else b"", headers=sent)
    response = connection.getresponse()
    body = response.read()
    if not 200 <= response.status < 300:
        raise ClientException.from_response(response, "Object PUT failed", body)
    return client.resp_header_dict(response), body


class _Pieces:
    """Bytes of a known length, which are sent as often as they are iterated over, each piece within the time limit."""

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._view[at : at + _PIECE] for at in range(0, len(self._view), _PIECE))
