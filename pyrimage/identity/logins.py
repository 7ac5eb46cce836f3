"""All that logs users in, in mode ``users``: what the middleware and the identity calls share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ..catalogue.interfaces import Tokens
from ..catalogue.records import Identity
from ..errors import Unauthenticated
from ..settings import Settings
from .passwords import CHALLENGE, Passwords
from .tokens import TokenLogin, TokenLogins
from .user_files import UserFiles, user_paths


@dataclass(frozen=True, slots=True)
class Logins:
    """Logging in for a token. Each way raises Unauthenticated, for a project too that the login is not for."""

    files: UserFiles
    passwords: Passwords
    tokens: TokenLogins

    def by_password(self, name: str, password: str, address: str, project: str | None) -> tuple[str, TokenLogin]:
        """Give a token out for a password; return its secret, and what else there is of it.

        address: that of the client. project: None for the user's first. Raises TooManyAttempts too.
        """
        user = self.passwords.check(name, password, address)
        if project is None:
            project = next(iter(user.projects))
        if project not in user.projects:
            raise _no_access(project)
        return self.tokens.log_in(user, project)

    def by_token(self, secret: str, token_id: str | None, project: str | None) -> tuple[str, TokenLogin]:
        """Give a token out for another one.

        token_id: which token it is said to be, if that is said. project: None for that of the token.
        """
        login = self.tokens.get(secret)
        if token_id not in (None, login.token.id):
            raise Unauthenticated("The id is not that of the token.", CHALLENGE)
        if project is None:
            project = login.token.project
        if not login.may_scope_to(project):
            raise _no_access(project)
        return self.tokens.log_in(login.user, project, login.token)

    def projects_of(self, identity: Identity) -> Sequence[str]:
        """Return the projects of a user."""
        user = self.files.find(identity.user or "")
        return [] if user is None else list(user.projects)


def make_logins(settings: Settings, tokens: Tokens) -> Logins:
    """Make the logins of a process. Raises ConfigurationError for files of users that cannot be read."""
    files = UserFiles(*user_paths(settings))
    return Logins(files, Passwords(files), TokenLogins(tokens, files, timedelta(seconds=settings.token_lifetime)))


def _no_access(project: str) -> Unauthenticated:
    return Unauthenticated(f"The login is not for the project {project!a}, or there is none of that name.", CHALLENGE)
