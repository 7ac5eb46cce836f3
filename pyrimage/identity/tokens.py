"""Logging in with tokens: API tokens, which operators make, and those that a login gives out.

A token is a random secret, and a row that knows the secret's digest. Nothing is signed, for a signed token would have
to be looked up all the same to be revocable. So there is no key that servers share, keep secret and change, and a token
that is revoked is refused at once by every worker of every server. It costs one SELECT by a unique index for each
request: valid tokens are cached nowhere. Source: ours.
"""

import dataclasses
import hashlib
import logging
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..catalogue.interfaces import Tokens
from ..catalogue.records import Identity, Token, utcnow
from ..errors import NotFound, Unauthenticated
from .passwords import CHALLENGE
from .user_files import User, UserFiles

log = logging.getLogger(__name__)

PREFIX = "pyr_"  # by which scanners find secrets that were published by mistake
MAX_LOGINS = 1000  # of one user, valid at once; the next one ends the oldest
MAX_GENERATION = 8  # of tokens that were made from tokens; MariaDB deletes no more than 15 with a row

_BYTES = 32
_SECRET = re.compile(PREFIX + "[A-Za-z0-9_-]{43}")  # what 32 bytes are in base64url
_USE_EVERY = timedelta(hours=1)
_QUIET = 60.0  # seconds after a use that could not be written


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A valid token, whose user there is. identity: who may do what with it."""

    token: Token
    user: User
    identity: Identity

    def may_scope_to(self, project: str) -> bool:
        """Say whether a token for a project can be made from it: a password is for all projects, a token for one."""
        is_of_password = self.token.is_login and self.token.parent is None
        return project in self.user.projects and (is_of_password or project == self.identity.project)


class TokenLogins:
    """Finds who a token's holder is, and makes tokens for who has logged in.

    lifetime: of what a login gives out.
    """

    def __init__(self, tokens: Tokens, files: UserFiles, lifetime: timedelta) -> None:
        self._tokens, self._files, self._lifetime = tokens, files, lifetime
        self._quiet_until, self._noting = 0.0, threading.Lock()

    def identify(self, secret: str) -> Identity:
        """Return the identity of a token's user. Raises Unauthenticated."""
        return self.get(secret).identity

    def get(self, secret: str) -> TokenLogin:
        """Return what there is of a valid token. Raises Unauthenticated."""
        login = self.find(secret)
        if login is None:
            raise _invalid()
        return login

    def find(self, secret: str) -> TokenLogin | None:
        """Find a token that is valid; what cannot be one asks no database.

        The user is looked up in the files each time, so one who was removed, or left the project, has no token.
        """
        token = self._tokens.find(digest_of(secret)) if _SECRET.fullmatch(secret) else None
        user = self._files.find(token.user) if token is not None else None
        if token is None or user is None or token.has_expired(utcnow()):
            return None
        try:
            identity = user.identity(token.project, can_write=not token.read_only)
        except KeyError:
            return None
        self._note_use(token)
        return TokenLogin(token, user, identity)

    def log_in(self, user: User, project: str, parent: Token | None = None) -> tuple[str, TokenLogin]:
        """Make a token for a user in one of its projects; return its secret, and what else there is of it.

        parent: the token that the login was made with, whose end is that of the new one, and which allows no more.

        Raises Unauthenticated if that has just gone, or was made from too many others.
        """
        if parent is not None and parent.generation >= MAX_GENERATION:
            raise Unauthenticated("The token was made from too many others; log in anew.", CHALLENGE)
        expires_at = utcnow() + self._lifetime
        secret, token = make_token(user.name, project, expires_at=expires_at)
        token = dataclasses.replace(token, is_login=True)
        if parent is not None:
            token = dataclasses.replace(
                token,
                read_only=parent.read_only,
                expires_at=min(expires_at, parent.expires_at or expires_at),
                parent=parent.id,
                generation=parent.generation + 1,
            )
        try:
            self._tokens.add(token)
        except NotFound as error:
            raise _invalid() from error
        self._tokens.limit_logins(user.name, utcnow(), MAX_LOGINS)
        return secret, TokenLogin(token, user, user.identity(project, can_write=not token.read_only))

    def revoke(self, token: Token) -> None:
        """End a token, and those that were made from it."""
        self._tokens.revoke(token.id)

    def _note_use(self, token: Token) -> None:
        """Write down the use of an API token, once an hour. No request fails because that does."""
        now = utcnow()
        since = now - _USE_EVERY
        is_due = not token.is_login and (token.last_used_at is None or token.last_used_at <= since)
        if not is_due or time.monotonic() < self._quiet_until or not self._noting.acquire(blocking=False):
            return  # or another thread does, which may have to wait for the database
        try:
            self._tokens.note_use(token.id, now, since)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asks is known
            self._quiet_until = time.monotonic() + _QUIET
            log.warning("the use of token %s, and of others, is not written down: %s", token.id, error)
        finally:
            self._noting.release()


def make_token(user: str, project: str, *, expires_at: datetime | None, read_only: bool = False) -> tuple[str, Token]:
    """Make a new API token; return its secret, which nobody can find out later, and its row."""
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    token = Token(
        id=secrets.token_hex(8),
        user=user,
        project=project,
        digest=digest_of(secret),
        is_login=False,
        read_only=read_only,
        created_at=utcnow(),
        expires_at=expires_at,
    )
    return secret, token


def digest_of(secret: str) -> str:
    """Return what is known of a secret. It is random and long: no salt, and no slow hash, is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _invalid() -> Unauthenticated:
    return Unauthenticated("The token is not valid: it has expired, was revoked, or never was one.", CHALLENGE)
