"""The users of a small site: a file that says who is in which project, and an htpasswd file with their passwords."""

import errno
import logging
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..catalogue.records import ADMIN, MEMBER, READER, WRITERS, Identity
from ..errors import ConfigurationError
from ..settings import Settings
from .hashes import is_hash

log = logging.getLogger(__name__)

ROLES = (ADMIN, MEMBER, READER)
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # of a user, and of a project; each is its own id
NAME_FORM = "up to 64 letters, digits and . _ @ -, the first a letter or digit"

HTPASSWD = "htpasswd"  # beside the file of users, unless the settings say otherwise

Projects = Mapping[str, frozenset[str]]  # roles by project

_NOT_FOR_OTHERS = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class User:
    """A user. projects: the roles by project; the first project is that of a login that names none."""

    name: str
    projects: Projects

    def identity(self, project: str | None = None, *, can_write: bool = True) -> Identity:
        """Return who the user is in a project. Raises KeyError for one that it has no role in.

        can_write: False for a login that may only read; a reader of the project may not write anyhow.
        """
        if project is None:
            project = next(iter(self.projects))
        roles = self.projects[project]
        return Identity(self.name, project, roles, can_write and not roles.isdisjoint(WRITERS))


class UserFiles:
    """The two files, each read again when it has changed. A user that is not in both does not exist.

    path: of the file of users. htpasswd: that of the passwords, if it is not beside it. Raises ConfigurationError,
    which names file and line, if one cannot be read at first; later, what was read before stays in force, and a warning
    says so.
    """

    def __init__(self, path: Path, htpasswd: Path | None = None) -> None:
        self._users = _File(path, parse_users)
        self._hashes = _File(htpasswd or path.with_name(HTPASSWD), parse_htpasswd)

    def find(self, name: str) -> User | None:
        """Return a user by its name."""
        projects = self._users.read().get(name)
        return None if projects is None or name not in self._hashes.read() else User(name, projects)

    def find_hash(self, name: str) -> str | None:
        """Return the hash of a user's password."""
        return self._hashes.read().get(name)

    def hashes(self) -> Sequence[str]:
        """Return the hashes of all passwords."""
        return list(self._hashes.read().values())

    def all(self) -> Sequence[User]:
        """Return all users, in the order of the file."""
        hashes = self._hashes.read()
        return [User(name, projects) for name, projects in self._users.read().items() if name in hashes]


def user_paths(settings: Settings) -> tuple[Path, Path]:
    """Return the paths of the file of users and of the htpasswd file. Raises ConfigurationError if none is set."""
    path = settings.users_file
    if path is None:
        raise ConfigurationError("pyrimage.users_file is not set: it names the file of users.")
    return path, settings.htpasswd_file or path.with_name(HTPASSWD)


def parse_users(path: Path, text: str) -> dict[str, dict[str, frozenset[str]]]:
    """Read a file of users: a section a user, ``[alice]``; a line a project, ``build = member, admin``.

    Raises ConfigurationError, which names file and line. Source: docs/users.md, "The two files".
    """
    users: dict[str, dict[str, frozenset[str]]] = {}
    sections: dict[str, int] = {}  # in which line each begins
    name = ""
    for number, line in _lines(text):
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip()
            _check_name(path, number, "user", name, users)
            users[name], sections[name] = {}, number
            continue
        project, equals, roles = (each.strip() for each in line.partition("="))
        if not equals or not name:
            raise damaged(path, number, "write [user], and below it a line for each project: project = member")
        _check_name(path, number, "project", project, users[name])
        try:
            users[name][project] = parse_roles(roles.split(","))
        except ValueError as error:
            raise damaged(path, number, str(error)) from error
    for name, projects in users.items():
        if not projects:
            raise damaged(path, sections[name], f"{name} has no project: write one below it, project = member")
    return users


def parse_htpasswd(path: Path, text: str) -> dict[str, str]:
    """Read an htpasswd file: a line a user, ``alice:$2b$12$...``. Raises ConfigurationError: file and line, no hash."""
    hashes: dict[str, str] = {}
    for number, line in _lines(text):
        name, _, hashed = line.partition(":")
        _check_name(path, number, "user", name, hashes)
        if not is_hash(hashed):
            problem = f"the password of {name} is hashed neither with bcrypt nor with sha512-crypt"
            raise damaged(path, number, f"{problem}; set it anew with: pyrimage-manage user passwd {name}")
        hashes[name] = hashed
    return hashes


def parse_roles(words: Sequence[str]) -> frozenset[str]:
    """Read the names of roles. Raises ValueError."""
    roles = frozenset(word.strip() for word in words)
    if not roles <= set(ROLES):
        raise ValueError(f"the roles are {', '.join(ROLES)}")
    return roles


def read_text(path: Path) -> str:
    """Read a file whole. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8.") from error


def damaged(path: Path, number: int, problem: str) -> ConfigurationError:
    """Make the error for a line that cannot be understood."""
    return ConfigurationError(f"{path}, line {number}: {problem}.")


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {error.strerror}.")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if line and not line.startswith(("#", ";")):
            yield number, line


def _check_name(path: Path, number: int, what: str, name: str, others: Mapping[str, object]) -> None:
    if not NAME.fullmatch(name):
        raise damaged(path, number, f"the name of a {what} is {NAME_FORM}")
    if name in others:
        raise damaged(path, number, f"the {what} {name} is there twice")


_Signature = tuple[int, int, int, int, int]


class _File(Generic[_Read]):
    """What a file says. It is looked at every time, and read when it is not the same any more."""

    def __init__(self, path: Path, parse: Callable[[Path, str], _Read]) -> None:
        self._path, self._parse, self._lock = path, parse, threading.Lock()
        self._seen = self._signature()
        self._value = parse(path, read_text(path))
        if stat.S_IMODE(path.stat().st_mode) & _NOT_FOR_OTHERS:
            log.warning("Others than its owner can read or change %s: run chmod 600, or 640 for a group.", path)

    def read(self) -> _Read:
        """Return what the file says, or what it said before it was damaged or lost."""
        if self._signature() != self._seen:
            with self._lock:  # who comes meanwhile waits for what the file says now
                seen = self._signature()  # before it is read: what is written meanwhile is another change
                if seen != self._seen and self._read_again():
                    self._seen = seen
        return self._value

    def _read_again(self) -> bool:
        """Read what the file says now; return False if that should be tried again, though it does not change."""
        try:
            self._value = self._parse(self._path, read_text(self._path))
        except ConfigurationError as error:
            log.warning("%s What the file said before stays in force.", error)
            return getattr(error.__cause__, "errno", None) not in (errno.EMFILE, errno.ENFILE)
        return True

    def _signature(self) -> _Signature | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
