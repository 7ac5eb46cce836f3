"""Signed requests to the registries: one that answers is found, and what nobody answered is asked again.

Every request may be sent twice: reading changes nothing, claims are told by their keys, and a change of rows has an
idempotency key, so that the registry does it once however often it comes.
"""

import contextlib
import itertools
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import SSLError as TlsError
from urllib3.response import BaseHTTPResponse

from ... import errors
from ...errors import DatabaseAway, DatabaseRefused, NotFound, PyrimageError
from ...settings import Settings
from ...signatures import (
    DIGEST,
    ERROR_KIND,
    IDEMPOTENCY_KEY,
    KEY_ID,
    PURGE_PROPERTIES,
    SIGNATURE,
    TIMESTAMP,
    WHO,
    digest_of,
    sign,
)
from ..records import READER, Identity

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
DOWN_SECONDS = 10.0  # for which a registry that did not answer is taken to be down, and asked after all others
PATIENCE = 3.0  # seconds after which nobody is asked a second time
PATIENCE_IN_DOUBT = 5.0  # the same, where a change may have been made
REQUEST_ID = "x-openstack-request-id"  # that every answer of ours has
MAX_ANSWER = 256 * 2**20  # bytes; a page of images has some megabytes, where each has many properties
# Where a machine has lost its power or its network, nothing takes what was sent: that shows before the time is over
# that a busy one may need for an answer. Linux alone can tell.
_DEAD = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)] if hasattr(socket, "TCP_USER_TIMEOUT") else []
_PART = 2**16  # bytes that are read at once, at most
MAX_CONNECTIONS = 100  # that are kept open to one registry; as many threads as a server has may ask at once

# With these the registry says that nothing can be said of what was asked: another one may know more.
_UNKNOWN = (errors.DatabaseAway, errors.DatabaseError)


@dataclass(frozen=True, slots=True)
class Call:
    """A request: on whose behalf, and what.

    path: unquoted. key: what makes a change of rows one however often it is sent. purge: whether only those properties
    stay that are sent.
    """

    method: str
    path: str
    caller: Identity
    query: str = ""
    value: Any = None
    key: str | None = None
    purge: bool = False


class _Unanswered(Exception):
    """A registry gave no answer, or none that makes sense. is_sent: it may have done what was asked all the same."""

    def __init__(self, reason: str, *, is_sent: bool) -> None:
        super().__init__(reason)
        self.is_sent = is_sent


class _NotAccepted(_Unanswered):
    """A registry does not know our key, or its clock is not ours; another one may be right."""

    def __init__(self, message: str) -> None:
        super().__init__(f"The registry does not accept this server's signature. {message}", is_sent=False)


class _Registry:
    """One registry server, and when it last failed to answer."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        self.pool = pool
        self.recover()

    @property
    def is_down(self) -> bool:
        """Whether it failed a moment ago."""
        return time.monotonic() - self.failed_at < DOWN_SECONDS

    def fail(self, reason: object) -> None:
        """Take it to be down for a while."""
        if not self.is_down:
            log.warning("The registry %s:%d does not answer: %s", self.pool.host, self.pool.port, reason)
        self.failed_at = time.monotonic()

    def probe(self) -> None:
        """Let one request find out whether it answers again; until then it stays alone, and holds up no other."""
        if self.failed_at > float("-inf"):
            self.failed_at = float("inf")

    def recover(self) -> None:
        """Ask it in its turn."""
        self.failed_at = float("-inf")


class Registries:
    """The registries that the settings name. Connections are opened by requests, and kept."""

    def __init__(self, settings: Settings) -> None:
        (self._key, *_) = settings.registry_secret or ()  # which the settings demand
        self._settings, self._turn = settings, itertools.count()
        self._all = self._make()

    def _make(self) -> Sequence[_Registry]:
        settings = self._settings
        kind: type[HTTPConnectionPool] = HTTPConnectionPool
        options: dict[str, Any] = {
            "timeout": Timeout(connect=CONNECT_SECONDS, read=settings.registry_client_timeout),
            "maxsize": MAX_CONNECTIONS,
            "socket_options": [*HTTPConnection.default_socket_options, *_DEAD],
            "retries": False,
        }
        if settings.registry_client_protocol == "https":
            kind = HTTPSConnectionPool
            options["ssl_context"] = ssl.create_default_context(cafile=settings.registry_client_ca_file)
        hosts = settings.registry_host
        return [_Registry(kind(host, port or settings.registry_port, **options)) for host, port in hosts]

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        for registry in self._all:
            registry.pool.close()
        self._all = self._make()

    def ask(self, call: Call) -> Any:
        """Return the JSON of the answer, None for none.

        Raises what the registry raised; DatabaseRefused if they do not accept our signature; and DatabaseAway if none
        answered, or if one refuses what another may have done, or may do yet: then what became of a change is unknown.
        """
        began, in_doubt, turns = time.monotonic(), False, 0
        is_hopeful = not all(registry.is_down for registry in self._all)
        failure: Exception
        while True:
            for registry in self._in_turn():
                try:
                    return self._exchange(registry, call)
                except _Unanswered as error:
                    failure, is_unknown = error, error.is_sent
                except PyrimageError as error:
                    if type(error) not in _UNKNOWN:
                        raise _certain(error, in_doubt=in_doubt) from error
                    failure, is_unknown = error, True
                in_doubt = in_doubt or (is_unknown and call.key is not None)
            turns += 1
            patience = PATIENCE_IN_DOUBT if in_doubt else PATIENCE if is_hopeful else 0
            if time.monotonic() - began > patience and (turns > 1 or not in_doubt):
                raise _given_up(failure, in_doubt=in_doubt) from failure
            time.sleep(random.uniform(0.5, 1) * min(0.1 * 2**turns, 1))  # noqa: S311 - so that not all come at once

    def _in_turn(self) -> Sequence[_Registry]:
        """Return the registries, each time another one first, and those behind that failed a moment ago."""
        start = next(self._turn) % len(self._all)
        return sorted([*self._all[start:], *self._all[:start]], key=lambda registry: registry.is_down)

    def _exchange(self, registry: _Registry, call: Call) -> Any:
        """Ask one registry. Raises what it answers, and _Unanswered."""
        registry.probe()
        try:
            value = _read(*self._send(registry, call))
        except PyrimageError:
            registry.recover()
            raise
        except Exception as failure:
            registry.fail(failure)
            raise
        registry.recover()
        return value

    def _send(self, registry: _Registry, call: Call) -> tuple[BaseHTTPResponse, bytes]:
        """Send the request; return the answer, and its body."""
        body = b"" if call.value is None else json.dumps(call.value, ensure_ascii=False, separators=(",", ":")).encode()
        path = quote(call.path, safe="/")
        target = f"{path}?{call.query}" if call.query else path
        headers = self._headers(call, path, body)
        try:
            answer = registry.pool.urlopen(
                *(call.method, target, body or None, headers),
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
            return answer, _take(answer, self._settings.registry_client_timeout)
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _Unanswered(str(error), is_sent=False) from error
        except TlsError as error:
            is_early = isinstance(error.args[0] if error.args else None, ssl.SSLCertVerificationError)
            raise _Unanswered(str(error), is_sent=not is_early) from error
        except (HTTPError, OSError, ValueError) as error:  # ValueError: a header that cannot be read
            raise _Unanswered(str(error), is_sent=True) from error

    def _headers(self, call: Call, path: str, body: bytes) -> Mapping[str, str]:
        headers = {
            KEY_ID: self._key.id,
            TIMESTAMP: str(int(time.time())),
            **dict(zip(WHO, _words(call.caller), strict=True)),
        }
        if call.method != "GET":
            headers["Content-Length"] = str(len(body))
        if body:
            headers |= {"Content-Type": "application/json", DIGEST: digest_of(body)}
        if call.purge:
            headers[PURGE_PROPERTIES] = "true"
        if call.key is not None:
            headers[IDEMPOTENCY_KEY] = call.key
        headers[SIGNATURE] = sign(self._key.secret, call.method, path, call.query, headers)
        return {name: value.encode().decode("latin-1") for name, value in headers.items() if value}


def _certain(error: PyrimageError, *, in_doubt: bool) -> PyrimageError:
    """Return the error, unless what was sent before may still come after it: then only success would be certain."""
    return DatabaseAway("A registry refuses what another may have done.") if in_doubt else error


def _given_up(failure: Exception, *, in_doubt: bool) -> PyrimageError:
    """Return the error where nobody answered; a signature that nobody accepts is ours to mend, and nothing was done."""
    if isinstance(failure, _NotAccepted) and not in_doubt:
        return DatabaseRefused(str(failure))
    return DatabaseAway("No registry answers.")


def _words(caller: Identity) -> tuple[str, str, str]:
    """Say who is asking: user, project and roles."""
    is_reader = caller.is_known and not caller.can_write and not caller.is_admin
    # Keystone's may have names that the registry would read as others': "x,admin" or "admin ".
    roles = sorted(role for role in caller.roles if "," not in role and role == role.strip())
    return caller.user or "", caller.project or "", READER if is_reader else ",".join(roles)


def _take(answer: BaseHTTPResponse, seconds: float) -> bytes:
    """Return an answer's body, for the whole of which there is some time: the pool's limit is one for each part.

    Raises _Unanswered for one that takes longer, or is too large; and what urllib3 raises.
    """
    until, parts, size = time.monotonic() + seconds, [], 0
    while part := answer.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER or time.monotonic() > until:
            answer.close()
            raise _Unanswered("an answer without an end", is_sent=True)
    return b"".join(parts)


def _read(answer: BaseHTTPResponse, body: bytes) -> Any:
    """Return an answer's JSON. Raises what it says was raised, and _Unanswered for one that no registry makes."""
    kind = answer.headers.get(ERROR_KIND)
    if REQUEST_ID not in answer.headers:  # a proxy's, say; its 204, or its JSON, would not mean that anything was done
        raise _Unanswered(f"an answer {answer.status} that is not a registry's", is_sent=True)
    if answer.status == 204:
        return None
    try:
        value = json.loads(body)
        if answer.status == 200 and isinstance(value, dict):
            return value
        message = str(value["error"]["message"])
    except (ValueError, LookupError, TypeError) as error:
        raise _Unanswered(f"an answer {answer.status} that is not a registry's", is_sent=True) from error
    if answer.status == 401:
        raise _NotAccepted(message)
    if kind is None and answer.status == 404:
        raise NotFound(message)
    raised = None if kind is None or answer.status < 400 else _error(kind, message)
    raise raised or _Unanswered(f"an answer {answer.status}: {message}", is_sent=True)


def _error(kind: str, message: str) -> PyrimageError | None:
    """Make the error that a registry raised; None for none that it raises."""
    made = getattr(errors, kind, None)
    if isinstance(made, type) and issubclass(made, PyrimageError):
        with contextlib.suppress(TypeError):  # one that says more than a message
            return made(message)
    return None
