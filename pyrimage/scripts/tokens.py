"""API tokens: ``pyrimage-manage token``; and tokens that have expired, for ``pyrimage-manage scrub``."""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from ..catalogue.interfaces import Catalogue, Tokens
from ..catalogue.records import Token, utcnow
from ..catalogue.sql.catalogue import SqlCatalogue
from ..errors import DatabaseError, PyrimageError
from ..identity.tokens import make_token
from ..identity.user_files import UserFiles, user_paths
from ..models import migrations
from ..settings import Settings
from . import OK

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_COLUMNS = ("ID", "USER", "PROJECT", "RIGHTS", "CREATED", "EXPIRES", "LAST USED")

Open = Callable[[argparse.Namespace], tuple[Catalogue, Settings]]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", open_catalogue: Open) -> None:
    """Add ``token`` and what it can do. open_catalogue: of the ini that the arguments name."""
    token = commands.add_parser("token", help="make, list and revoke API tokens")
    actions = token.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make an API token",
        description="Make a token with which programs log in as a user, without a password. It is printed once, alone "
        "on standard output; only its digest is stored. What else there is to know goes to standard error.",
    )
    create.add_argument("--user", required=True, metavar="USER", help="whom the token is for")
    create.add_argument("--project", metavar="PROJECT", help="one of the user's (default: the first)")
    create.add_argument(
        "--expires", metavar="TIME", help="in so many hours, days or weeks: 12h, 90d, 52w (default: never)"
    )
    create.add_argument("--read-only", action="store_true", help="only list, show and download")
    create.set_defaults(run=lambda arguments: _create(arguments, *_checked(open_catalogue(arguments))))
    show = actions.add_parser("list", help="list API tokens; times are UTC, the last use is written once an hour")
    show.add_argument("--user", metavar="USER", help="only those of a user")
    show.set_defaults(run=lambda arguments: _list(arguments, _checked(open_catalogue(arguments))[0]))
    revoke = actions.add_parser(
        "revoke",
        help="end an API token, or all of a user",
        description="End an API token, or all tokens of a user. It counts at once, on every server. Logins that were "
        "made with a token end with it; with --user, all logins of the user end.",
    )
    revoke.add_argument("id", nargs="?", metavar="ID", help="of the token, as the list has it")
    revoke.add_argument("--user", metavar="USER", help="revoke all tokens and logins of a user")
    revoke.set_defaults(run=lambda arguments: _revoke(arguments, _checked(open_catalogue(arguments))[0]))


def clean(tokens: Tokens, *, dry_run: bool) -> None:
    """Remove what has expired, and say so."""
    if count := tokens.remove_expired(utcnow(), dry_run=dry_run):
        print(f"expired tokens: {count}")


def revoke_all(catalogue: Catalogue, user: str) -> None:
    """Revoke the tokens of a name, or the next user who gets it would have them. Raises PyrimageError.

    A database whose schema is behind or ahead is left alone: no server of this release uses it.
    """
    try:
        if not isinstance(catalogue, SqlCatalogue) or _is_in_use(catalogue.engine):
            catalogue.tokens.revoke_all(user)
    except DatabaseError as error:
        later = f"when it works again, run: pyrimage-manage token revoke --user {user}"
        raise PyrimageError(f"{error} Tokens of {user} may be left; {later}") from error


def _is_in_use(engine: Engine) -> bool:
    path = Path(engine.url.database or "")
    if engine.url.get_backend_name() == "sqlite" and path.parent.is_dir() and not path.exists():
        return False  # to ask would make it, as a file of whoever runs the command
    return migrations.current_revision(engine) == migrations.wanted_revision()


def _checked(opened: tuple[Catalogue, Settings]) -> tuple[Tokens, Settings]:
    catalogue, settings = opened
    catalogue.check(upgrade=False)
    return catalogue.tokens, settings


def _create(arguments: argparse.Namespace, tokens: Tokens, settings: Settings) -> int:
    user = UserFiles(*user_paths(settings)).find(arguments.user)
    if user is None:
        raise PyrimageError(f"There is no user {arguments.user!a}. See: pyrimage-manage user list")
    if arguments.project is not None and arguments.project not in user.projects:
        projects = ", ".join(user.projects)
        raise PyrimageError(f"{user.name} is not in the project {arguments.project!a}; there are {projects}.")
    expires_at = None if arguments.expires is None else utcnow() + _period(arguments.expires)
    project = arguments.project or next(iter(user.projects))
    secret, token = make_token(user.name, project, expires_at=expires_at, read_only=arguments.read_only)
    tokens.add(token)
    print(secret)
    print(f"Token {token.id} of {user.name}. It is not shown again.", file=sys.stderr)
    return OK


def _period(text: str) -> timedelta:
    match = re.fullmatch("([0-9]{1,4})([hdw])", text)
    if match is None or not int(match[1]):
        raise PyrimageError("--expires must be a number of hours, days or weeks, up to 9999: 12h, 90d or 52w.")
    return int(match[1]) * _UNITS[match[2]]


def _list(arguments: argparse.Namespace, tokens: Tokens) -> int:
    lines = [_COLUMNS, *map(_cells, tokens.of_user(arguments.user))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return OK


def _cells(token: Token) -> tuple[str, ...]:
    rights = "read" if token.read_only else "all"
    times = (_shown(token.created_at), _shown(token.expires_at), _shown(token.last_used_at))
    return token.id, token.user, token.project, rights, *times


def _shown(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _revoke(arguments: argparse.Namespace, tokens: Tokens) -> int:
    if (arguments.id is None) == (arguments.user is None):
        raise PyrimageError("Name a token by its ID, or a user with --user.")
    if arguments.user is not None:
        print(f"{tokens.revoke_all(arguments.user)} API tokens of {arguments.user} are revoked, and all logins.")
    elif tokens.revoke(arguments.id):
        print(f"The token {arguments.id} is revoked.")
    else:
        raise PyrimageError(f"There is no token {arguments.id!a}; pyrimage-manage token list shows what there is.")
    return OK
