"""The users of ``pyrimage.auth = users``: ``pyrimage-manage user``."""

import argparse
import getpass
import sys
from collections.abc import Callable

from ..catalogue.records import MEMBER
from ..errors import PyrimageError
from ..identity.hashes import MIN_PASSWORD, hash_password
from ..identity.user_changes import UserChanges
from ..identity.user_files import NAME, NAME_FORM, ROLES

Revoke = Callable[[str], None]  # ends the tokens of a user's name


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add ``user`` and its actions to the commands; each sets ``act``, which is called as ``_add`` is."""
    users = commands.add_parser(
        "user",
        help="add, change, remove and list the users of pyrimage.auth = users",
        description="Add, change, remove and list the users of pyrimage.auth = users, in the files pyrimage.users_file "
        "and pyrimage.htpasswd_file. Running servers notice it at once. A password is asked for twice on a terminal, "
        "or is one line of standard input.",
    )
    actions = users.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="add a user, and ask for its password")
    add.set_defaults(act=_add)
    add.add_argument("name", metavar="NAME")
    add.add_argument("--project", metavar="PROJECT", required=True, help="that of logins that name none")
    add.add_argument(
        "--role",
        action="append",
        choices=ROLES,
        help=f"role in the project, may be repeated (default: {MEMBER}); a reader changes nothing, an admin may do "
        "everything in every project",
    )
    for name, act, what in (
        ("passwd", _set_password, "ask for a new password of a user"),
        ("remove", _remove, "remove a user, and revoke its tokens"),
    ):
        action = actions.add_parser(name, help=what)
        action.set_defaults(act=act)
        action.add_argument("name", metavar="NAME")
    actions.add_parser("list", help="list the users, with their projects and roles").set_defaults(act=_list)

    project = actions.add_parser("project", help="set the roles of a user in a project, or take it out of one")
    project.set_defaults(act=_set_project)
    project.add_argument("name", metavar="NAME")
    project.add_argument("project", metavar="PROJECT")
    change = project.add_mutually_exclusive_group(required=True)
    change.add_argument("--role", action="append", choices=ROLES, help="the role, or one of several; others go")
    change.add_argument("--remove", action="store_true", help="take the user out of the project")
    return users


def _add(arguments: argparse.Namespace, changes: UserChanges, revoke: Revoke) -> None:
    _check("user", arguments.name)
    _check("project", arguments.project)
    _refuse_known(arguments.name, changes)
    hashed = _ask_for_hash()
    with changes.locked():
        _refuse_known(arguments.name, changes)
        revoke(arguments.name)  # what an earlier user of the name may have left
        changes.set_roles(arguments.name, arguments.project, arguments.role or [MEMBER])
        changes.set_hash(arguments.name, hashed)
    print(f"{arguments.name} is a user now, in the project {arguments.project}.")


def _set_password(arguments: argparse.Namespace, changes: UserChanges, _revoke: Revoke) -> None:
    _refuse_unknown(arguments.name, changes)
    hashed = _ask_for_hash()
    with changes.locked():
        _refuse_unknown(arguments.name, changes)
        changes.set_hash(arguments.name, hashed)
    print(f"{arguments.name} has a new password.")


def _remove(arguments: argparse.Namespace, changes: UserChanges, revoke: Revoke) -> None:
    with changes.locked():
        _refuse_unknown(arguments.name, changes)
        changes.set_hash(arguments.name, None)  # first, for without it nobody logs in
        changes.remove_user(arguments.name)
    print(f"{arguments.name} is no user any more.")
    revoke(arguments.name)


def _list(arguments: argparse.Namespace, changes: UserChanges, _revoke: Revoke) -> None:
    users, names = changes.projects(), changes.names_with_password()
    for name in [*users, *sorted(names - users.keys())]:
        words = [f"{project} = {', '.join(sorted(roles))}" for project, roles in users.get(name, {}).items()]
        if name not in users:
            words.append("no project, cannot log in")
        if name not in names:
            words.append("no password, cannot log in")
        print(f"{name}: {'; '.join(words)}")


def _set_project(arguments: argparse.Namespace, changes: UserChanges, _revoke: Revoke) -> None:
    name, project = arguments.name, arguments.project
    _check("project", project)
    with changes.locked():
        _refuse_unknown(name, changes)
        projects = changes.projects().get(name, {})
        if not arguments.remove:
            changes.set_roles(name, project, arguments.role)
        elif project not in projects:
            raise PyrimageError(f"{name} is not in the project {project}.")
        elif len(projects) == 1:
            raise PyrimageError(f"{name} is in no other project: remove the user, or add another project first.")
        else:
            changes.remove_project(name, project)
    what = "no user of the project" if arguments.remove else f"{' and '.join(arguments.role)} in the project"
    print(f"{name} is {what} {project} now.")


def _check(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise PyrimageError(f"The name of a {what} is {NAME_FORM}.")


def _refuse_known(name: str, changes: UserChanges) -> None:
    if name in changes.projects():
        raise PyrimageError(f"There is a user {name}; change it with user project and user passwd.")
    if name in changes.names_with_password():
        raise PyrimageError(f"{name} has a password, but no project; give it one with user project.")


def _refuse_unknown(name: str, changes: UserChanges) -> None:
    if name not in changes.projects() and name not in changes.names_with_password():
        raise PyrimageError(f"There is no user {name!a}.")


def _ask_for_hash() -> str:
    """Read a new password, and return its hash."""
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"New password, {MIN_PASSWORD} characters or more: ")
            if getpass.getpass("Again: ") != password:
                raise PyrimageError("The two are not the same; nothing was changed.")
        else:
            password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        return hash_password(password)
    except UnicodeDecodeError as error:
        raise PyrimageError("The password is not UTF-8.") from error
    except EOFError as error:
        raise PyrimageError("No password was given; nothing was changed.") from error
    except ValueError as error:
        raise PyrimageError(f"The password cannot be used: {error}.") from error
