"""Whose a token is: keystonemiddleware asks Keystone, and remembers the answer for a while."""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keystoneauth1 import access, exceptions
from keystonemiddleware.auth_token import AuthProtocol, InvalidToken
from oslo_config import cfg

from ...catalogue.records import ADMIN, WRITERS, Identity
from ...errors import ConfigurationError, Forbidden, IdentityServiceAway
from ...server.logtext import shown
from .options import SECTION

log = logging.getLogger(__name__)

TOKEN, SERVICE_TOKEN = "HTTP_X_AUTH_TOKEN", "HTTP_X_SERVICE_TOKEN"  # in the WSGI environ

# All of a request that the middleware gets to see: no header of the client's but the two with its tokens, so that none
# can be taken for the middleware's own; and the rest is what an application credential's rules are about.
_SHOWN = (TOKEN, SERVICE_TOKEN, "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO")
_FORM = re.compile(r"[\x21-\x7e]{1,8192}")
_USER_STATUS, _SERVICE_STATUS, _CONFIRMED = "HTTP_X_IDENTITY_STATUS", "HTTP_X_SERVICE_IDENTITY_STATUS", "Confirmed"
_AWAY = "Keystone cannot be asked whose the token is."


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Keep lines out of the log, at INFO and DEBUG, in which Keystone quotes a token; and one warning that is old."""
    return record.levelno >= logging.WARNING and "in-process token cache is deprecated" not in str(record.msg)


for _name in ("keystonemiddleware.auth_token", "keystoneauth.session"):
    logging.getLogger(_name).addFilter(is_worth_a_line)


def _noted(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Stand where the application would: what the middleware found is in the environ."""
    start_response("204 No Content", [])
    return []


def _is_verdict(error: Exception) -> bool:
    """Tell what Keystone says of a token from the 404 of whatever else answers in its place."""
    response = getattr(error.__context__, "response", None)
    if not isinstance(error, InvalidToken) or response is None or response.request.method != "GET":
        return False
    try:
        return "error" in response.json()
    except ValueError:
        return False


class Tokens(AuthProtocol):
    """keystonemiddleware's ``auth_token``, asked about tokens alone: requests and answers do not pass through it.

    A token's owner is remembered for ``token_cache_time`` seconds; a revoked one may be good for as long.
    """

    def __init__(self, options: cfg.ConfigOpts, admin_role: str) -> None:
        try:
            super().__init__(_noted, {"oslo_config_config": options})
        except Exception as error:  # those of several libraries, which tell what is wrong with an option
            raise ConfigurationError(f"[{SECTION}]: {error}.") from error
        self._session.redirect = False  # tokens would go wherever a redirect leads
        self._include_service_catalog = False  # in a header that nobody reads
        self._admin_role = admin_role.lower()
        self._is_away = False  # Keystone, when it was asked the last time
        self._trial = threading.Lock()
        # For threads that look at the same time, the middleware makes several caches in process, and loses some.
        is_shared = bool(options[SECTION].memcached_servers)
        self._cache_lock = contextlib.nullcontext() if is_shared else threading.Lock()

    def identify(self, environ: dict[str, Any]) -> Identity | None:
        """Return the owner of a request's token; None for a token that is unknown, expired, revoked or malformed.

        With the token of a service, that of a user may have expired. Raises IdentityServiceAway, and Forbidden for
        a token without a project.
        """
        shown = {key: environ[key] for key in _SHOWN if key in environ}
        if not all(_FORM.fullmatch(shown[key]) for key in (TOKEN, SERVICE_TOKEN) if key in shown):
            return None
        try:
            self(shown, lambda status, headers, exc_info=None: None)
            statuses = {shown[_USER_STATUS], shown.get(_SERVICE_STATUS, _CONFIRMED)}
            return self._identity(shown["keystone.token_auth"].user) if statuses == {_CONFIRMED} else None
        except (Forbidden, IdentityServiceAway):
            raise
        except Exception as error:
            log.warning("What Keystone says of a token makes no sense.", exc_info=True)
            raise IdentityServiceAway(_AWAY) from error

    def fetch_token(self, token: str, allow_expired: bool = False) -> Any:
        """Return what Keystone says of a token, or said; overrides the middleware's, to which one away is no token.

        Raises InvalidToken, IdentityServiceAway.
        """
        with self._cache_lock:
            data = self._token_cache.get(token)
        if data is None:
            with self._asking():
                data = self._identity_server.verify_token(token, allow_expired=allow_expired)
                said = access.create(body=data)
                said.user_id, said.role_names, said.expires  # noqa: B018 - not there, they are not to be remembered
                # Of the catalogue, the rules of application credentials need the types alone.
                data["token"]["catalog"] = [{"type": each["type"]} for each in data["token"].get("catalog", ())]
            with self._cache_lock:
                self._token_cache.set(token, data)
        return data

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Let a thread ask Keystone; when it did not answer the last time, one at a time: the others need not wait."""
        is_trial = self._is_away
        if is_trial and not self._trial.acquire(blocking=False):
            raise IdentityServiceAway(_AWAY)
        try:
            yield
            self._is_away = False
        except Exception as error:
            self._is_away = not _is_verdict(error)
            if not self._is_away:
                raise
            self._identity_server.invalidate()  # log in anew the next time
            self._tell(error)
            raise IdentityServiceAway(_AWAY) from error
        finally:
            if is_trial:
                self._trial.release()

    def _tell(self, error: Exception) -> None:
        """Say in the log what is wrong, and what to do where Keystone does not let this server in."""
        cause = error.__context__
        if isinstance(cause, exceptions.HttpError) and cause.http_status in (400, 401, 403):
            log.error(
                "Keystone does not let this server ask about tokens (%d): look at username, password, project_name and "
                "the two domains in [%s], and whether the user has the role service or admin in the project.",
                cause.http_status,
                SECTION,
            )
        else:
            log.warning("Keystone gives no answer that makes sense: %s: %s", type(error).__name__, shown(str(error)))

    def _identity(self, said: Any) -> Identity:
        """Make the identity of what Keystone says. Only the role of administrators has the name ``admin`` here."""
        names = {name.lower() for name in said.role_names}
        is_admin = self._admin_role in names
        if said.project_id is None and not (is_admin and said.system_scoped):
            raise Forbidden("The token is for no project: ask Keystone for one with a project.")
        roles = (names - {ADMIN}) | ({ADMIN} if is_admin else set())
        return Identity(said.user_id, said.project_id, frozenset(roles), can_write=not roles.isdisjoint(WRITERS))
