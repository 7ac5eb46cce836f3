"""Requests and answers: who asks, what is asked again, what an error says, and where a redirect may lead."""

import json
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from urllib3 import Timeout
from urllib3 import exceptions as urllib3_errors
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import SSLError as TlsError
from urllib3.response import BaseHTTPResponse

from .auth import Auth
from .connections import make_pools
from .errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    NotTrusted,
    Refused,
    Unavailable,
    Unreachable,
    error_class,
)

PIECE = 1 << 18  # bytes that are read at once, at most
MAX_CONNECTIONS = 16  # that are kept open
MAX_REDIRECTS = 5
PAUSES = (0.2, 0.8)  # seconds before what only reads is sent the second and the third time
ANSWER_SECONDS = 600.0  # for which a server may store an upload after its last byte, before it answers
MAX_TEXT = 1000  # characters of an answer that are shown

Body = bytes | Iterable[bytes]

_REDIRECTS = (301, 302, 303, 307, 308)
_TAGS = re.compile(r"<(title|head|style)\b.*?</\1>|<h1>.*?</h1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        """Return what the body says. Raises BadAnswer."""
        try:
            return json.loads(self.data)
        except ValueError as error:
            raise BadAnswer("The answer is no JSON; is that the URL of an image service?") from error


class Stream:
    """An answer whose body is read bit by bit.

    headers: of the service's own answer, also where the bytes come from somewhere else. final: those of the last one.
    """

    def __init__(self, response: BaseHTTPResponse, headers: Mapping[str, str]) -> None:
        self._response, self.headers = response, headers
        self.status, self.final = response.status, _headers_of(response)

    def pieces(self) -> Iterator[bytes]:
        """Yield what comes, as it comes. Raises ConnectionLost if that ends too early."""
        try:
            while piece := self._response.read1(PIECE, decode_content=False):
                yield piece
        except (HTTPError, OSError, ValueError) as error:
            raise ConnectionLost(f"The connection broke in the middle of the bytes: {_reason(error)}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back if all has been read, else close it."""
        if not self._response.closed:
            self._response.close()
        self._response.release_conn()

    def stop(self) -> None:
        """Let another thread, which waits for bytes, wait no longer."""
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            pass  # it had ended


class Transport:
    """Sends requests to one service. Several threads may use one.

    url: of the service, without a slash at its end. timeout: seconds in which something must come, or go.
    """

    def __init__(self, url: str, auth: Auth, timeout: float, ca_file: str | Path | None) -> None:
        self.url, self.auth, self._timeout = url, auth, timeout
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._pools = make_pools(context, MAX_CONNECTIONS)

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def read(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask what changes nothing, up to three times. Raises Refused, Unreachable, BadAnswer."""
        for pause in PAUSES:
            try:
                return self.call(method, path, headers)
            except NotTrusted:
                raise
            except (Unavailable, Unreachable):
                time.sleep(pause)
        return self.call(method, path, headers)

    def call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        """Send a request, once. Raises Refused, Unreachable, BadAnswer, and what the body raises."""
        response, _ = self._exchange(method, path, dict(headers or {}), body, preload=True)
        if response.status == 401 and self.auth.renew() and not _is_gone(body):
            response, _ = self._exchange(method, path, dict(headers or {}), body, preload=True)
        answer = Answer(response.status, _headers_of(response), response.data)
        if not 200 <= answer.status < 300:
            raise _refused(answer, f"{method} {self.url}{path}")
        return answer

    def stream(self, path: str, headers: Mapping[str, str]) -> Stream:
        """Ask for bytes. Raises Refused, Unreachable, BadAnswer."""
        response, first = self._exchange("GET", path, dict(headers), None, preload=False)
        if response.status == 401 and self.auth.renew():
            response.close()
            response, first = self._exchange("GET", path, dict(headers), None, preload=False)
        if response.status not in (200, 206):
            try:
                answer = Answer(response.status, _headers_of(response), response.read(MAX_TEXT * 4))
            except (HTTPError, OSError) as error:
                raise ConnectionLost(f"The connection broke: {_reason(error)}") from error
            finally:
                response.close()
            raise _refused(answer, f"GET {self.url}{path}")
        return Stream(response, first)

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: Body | None, *, preload: bool
    ) -> tuple[BaseHTTPResponse, Mapping[str, str]]:
        """Send, and follow redirects of what only reads. Return the answer, and the headers of the first one."""
        url, first = f"{self.url}{path}", None
        for _ in range(MAX_REDIRECTS + 1):
            is_own = _origin(url) == _origin(self.url)
            sent = {**headers, **self.auth.headers()} if is_own else _for_others(headers)
            response = self._send(method, url, sent, body, preload=preload)
            first = first or _headers_of(response)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None or method not in ("GET", "HEAD"):
                return response, first
            response.close()
            url, before = urljoin(url, location), url
            if not url.startswith("https:" if before.startswith("https:") else ("http:", "https:")):
                raise BadAnswer(f"{before} redirects to a URL that is not followed.")
        raise BadAnswer(f"{self.url}{path} redirects again and again.")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, *, preload: bool
    ) -> BaseHTTPResponse:
        wire = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        wire = {"User-Agent": "pyrimage-client", "Accept": "application/json, */*", **wire}
        answer_seconds = max(ANSWER_SECONDS, self._timeout) if _is_gone(body) else self._timeout
        try:
            return self._pools.urlopen(
                method,
                url,
                body=body,
                headers=wire,
                redirect=False,
                timeout=Timeout(connect=self._timeout, read=answer_seconds),
                preload_content=preload,
                decode_content=False,
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise ConnectionFailed(f"{_shown(url)} cannot be reached: {_reason(error)}") from error
        except TlsError as error:
            raise _tls_failure(url, error) from error
        except (HTTPError, OSError) as error:
            raise ConnectionLost(f"{_shown(url)} gave no answer: {_reason(error)}") from error


def _is_gone(body: Body | None) -> bool:
    """Return whether a body cannot be sent a second time."""
    return body is not None and not isinstance(body, bytes)


def _headers_of(response: BaseHTTPResponse) -> dict[str, str]:
    """Return the headers as they were meant: UTF-8, with names in lower case."""
    try:
        return {name.lower(): value.encode("latin-1").decode() for name, value in response.headers.items()}
    except UnicodeError as error:
        raise BadAnswer("The answer's headers are not UTF-8.") from error


def _for_others(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a redirect to another host may take along: which bytes are wanted, and nothing of who asks."""
    return {name: value for name, value in headers.items() if name == "Range"}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _shown(url: str) -> str:
    """Return a URL without its query, which may be somebody's signature."""
    return url.partition("?")[0]


def _reason(error: BaseException) -> str:
    """Return what the machine said, without what urllib3 has around it."""
    inner = next((each for each in (error.__cause__, *error.args) if isinstance(each, Exception)), None)
    if inner is not None:
        return _reason(inner)
    if isinstance(error, TimeoutError | urllib3_errors.TimeoutError):
        return "nothing came in time"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _tls_failure(url: str, error: TlsError) -> ClientError:
    cause = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotTrusted(f"The certificate of {_shown(url)} is not trusted: {cause.verify_message}.")
    return ConnectionLost(f"{_shown(url)} gave no answer: {_reason(error)}")


def _refused(answer: Answer, asked: str) -> Refused:
    """Make the error that an answer tells; ``asked`` is for those that say nothing, as all to HEAD do."""
    message = _message(answer) or f"{asked.partition('?')[0]} was refused"
    seconds = answer.headers.get("retry-after", "")
    retry_after = float(seconds) if seconds.isascii() and seconds.isdigit() else None
    return error_class(answer.status)(message, answer.status, answer.headers.get("x-openstack-request-id"), retry_after)


def _message(answer: Answer) -> str:
    text = answer.data.decode(errors="replace")
    try:
        value = json.loads(text)
    except ValueError:
        text = _TAGS.sub(" ", text)  # a Glance's errors are HTML
    else:
        told = value.get("error", value) if isinstance(value, dict) else None
        text = str(told.get("message", "")) if isinstance(told, dict) else ""
    printable = "".join(each if each.isprintable() else " " for each in text)  # a terminal may be told to do anything
    return " ".join(printable.split())[:MAX_TEXT]
