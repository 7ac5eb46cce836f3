"""The one opener of URLs that somebody else named: ``Opener``.

It connects to the very address that it has checked, for each redirect anew: a name that leads elsewhere the second time
it is asked leads nowhere. It sends no credentials and no cookies, and asks no proxy of the environment. Source: RFC
9110, section 15.4; docs/security.md, "Reaching what is not theirs".
"""

import functools
import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as SlowError

from .addresses import Address, AllowedHosts, Url, parse_url, refusal
from .errors import Invalid, OriginFailed, OriginTooSlow

REDIRECTS = 5
SECONDS = 15.0  # until the header of the last answer is complete, redirects included; for the body see _Pace
MIN_RATE = 4096  # bytes/s
BUFFER = 65536  # bytes

_REDIRECTIONS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "pyrimage", "Accept": "*/*", "Accept-Encoding": "identity"}
_BROKEN = (HTTPError, http.client.HTTPException, OSError, ValueError)  # ValueError: a header that cannot be read


def resolve(host: str) -> Sequence[str]:
    """Return the addresses of a name as the system knows them. Raises OSError, UnicodeError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class Answer:
    """What an origin answered: its status, its headers, and its body, which comes as it is read."""

    def __init__(self, host: str, connection: HTTPConnection, response: HTTPResponse) -> None:
        self.host, self.status, self.headers = host, response.status, response.headers
        self._connection, self._response = connection, response

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes of the body; none are the end. Raises OriginFailed, OriginTooSlow."""
        try:
            return self._response.read1(size) or b""
        except _BROKEN as error:
            raise _failure(self.host, error) from error

    def close(self) -> None:
        """Give the connection up."""
        with suppress(*_BROKEN):
            self._response.close()
        self._connection.close()


class Opener:
    """Opens URLs within the rules. allowed: what may be asked beside public addresses.

    resolve: tells the addresses of a name. seconds: instead of ``SECONDS``.
    """

    def __init__(
        self,
        allowed: AllowedHosts,
        *,
        resolve: Callable[[str], Sequence[str]] = resolve,
        seconds: float = SECONDS,
    ) -> None:
        self.allowed, self._resolve, self._seconds = allowed, resolve, seconds

    def open(self, method: str, text: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request without a body, follow redirects, and return the last answer, of whatever status.

        Raises Invalid for a place that may not be asked, which an origin may redirect to as well, OriginFailed,
        OriginTooSlow.
        """
        url, deadline = parse_url(text), time.monotonic() + self._seconds
        for _ in range(REDIRECTS + 1):
            answer = self._ask(method, url, headers or {}, deadline)
            if answer.status not in _REDIRECTIONS:
                return answer
            answer.close()
            url = _redirected(url, answer.headers.get("Location"))
        raise OriginFailed(f"{url.host} redirects more than {REDIRECTS} times.")

    def _ask(self, method: str, url: Url, headers: Mapping[str, str], deadline: float) -> Answer:
        connection = self._connect(url, deadline)
        try:
            headers = {**_HEADERS, **headers, "Host": url.authority}
            connection.request(method, url.target, headers=headers, preload_content=False, decode_content=False)
            return Answer(url.host, connection, connection.getresponse())
        except _BROKEN as error:
            connection.close()
            raise _failure(url.host, error) from error

    def _connect(self, url: Url, deadline: float) -> HTTPConnection:
        """Connect to the first of a host's addresses that lets us, each of which was checked."""
        addresses = self._addresses(url)
        failure: Exception = refusal(url.host)
        for number, address in enumerate(addresses):
            left = (deadline - time.monotonic()) / (len(addresses) - number)
            connection = self._connection(url, address, max(left, 0.001))
            # What http.client calls for its response, which urllib3 wraps.
            respond = functools.partial(_Response, deadline, self._seconds)
            connection.response_class = respond  # type: ignore[assignment]
            try:
                connection.connect()
            except _BROKEN as error:
                connection.close()
                failure = _failure(url.host, error)
                failure.__cause__ = error
            else:
                return connection
        raise failure

    @functools.cached_property
    def _trust(self) -> ssl.SSLContext:
        """The certificates that the system trusts, or ``SSL_CERT_FILE``; read when the first https URL is opened."""
        return ssl.create_default_context()

    def _connection(self, url: Url, address: Address, timeout: float) -> HTTPConnection:
        """Make a connection to an address; a certificate has to be that of the host."""
        if url.scheme == "http":
            return HTTPConnection(str(address), url.port, timeout=timeout)
        return HTTPSConnection(
            str(address), url.port, timeout=timeout, ssl_context=self._trust, server_hostname=url.host
        )

    def _addresses(self, url: Url) -> Sequence[Address]:
        """Return the addresses of a URL's host, none of which may be forbidden. Raises Invalid."""
        if url.address is not None:
            found = [url.address]
        else:
            try:
                found = [ipaddress.ip_address(text) for text in dict.fromkeys(self._resolve(url.host))]
            except (OSError, ValueError) as error:  # a name that is not there is refused like one that is
                raise refusal(url.host) from error
        if not all(self.allowed.permits(url.host, address) for address in found):
            raise refusal(url.host)
        return found


def _redirected(url: Url, location: str | None) -> Url:
    """Return where an answer redirects to. Raises OriginFailed, Invalid."""
    if location is None:
        raise OriginFailed(f"{url.host} redirects to nowhere.")
    try:
        target = parse_url(_joined(url, location))
    except ValueError as error:
        raise Invalid(f"{url.host} redirects to what is no URL.") from error
    except Invalid as error:
        raise Invalid(f"{url.host} redirects elsewhere. {error}") from error
    if (url.scheme, target.scheme) == ("https", "http"):
        raise Invalid(f"{url.host} redirects from https to http.")
    return target


def _joined(url: Url, location: str) -> str:
    place = location.partition("#")[0]
    # To join it would cut out some of the characters that no URL may hold.
    return urljoin(str(url), place) if place.isascii() and place.isprintable() else place


def _failure(host: str, error: Exception) -> OriginFailed:
    """Say in our words what went wrong; what the error says may hold a URL."""
    if isinstance(error, TimeoutError | SlowError) and not isinstance(error, NewConnectionError):
        return OriginTooSlow(f"{host} does not answer in time.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return OriginFailed(f"{host} has no certificate that is valid for it.")
    return OriginFailed(f"{host} cannot be reached, or broke the connection off.")


class _Response(http.client.HTTPResponse):
    """An answer that has to come fast enough."""

    def __init__(self, deadline: float, seconds: float, source: socket.socket, **more: Any) -> None:
        self._pace = _Pace(source, deadline, seconds)
        super().__init__(self._pace, **more)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Read the header. Raises HTTPException for one that is cut, too, which urllib3 would log with its URL."""
        super().begin()
        if self.msg.defects:
            raise http.client.HTTPException("malformed header")
        self._pace.body_begins()


class _Pace(io.RawIOBase):
    """What comes from a socket, as long as it comes fast enough. Raises TimeoutError.

    A header has to be there at its ``deadline``. Of a body, ``seconds`` of waiting must bring ``MIN_RATE`` bytes for
    each; that nobody reads is no waiting.
    """

    def __init__(self, source: socket.socket, deadline: float, seconds: float) -> None:
        super().__init__()
        self._socket, self._file = source, source.makefile("rb", buffering=0)
        self._deadline: float | None = deadline
        self._seconds = self._left = seconds
        self._came = 0

    def body_begins(self) -> None:
        """Let the rate count, from now on."""
        self._deadline, self._came, self._left = None, 0, self._seconds

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what a response reads, as a socket does."""
        return io.BufferedReader(self, BUFFER)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read what is there."""
        begun = time.monotonic()
        left = self._left if self._deadline is None else self._deadline - begun
        if left <= 0:
            raise TimeoutError("too slow")
        self._socket.settimeout(left)
        count = self._file.readinto(buffer) or 0
        self._left -= time.monotonic() - begun
        self._came += count
        if self._came >= MIN_RATE * self._seconds:
            self._came, self._left = 0, self._seconds
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._file.close()
        super().close()
