"""Changes of the files of users: line by line, so that comments stay, and all of a change or nothing."""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import ConfigurationError, PyrimageError
from ..stores.directory import fsync_directory
from .user_files import parse_users, read_text

HEAD = """\
# The users of pyrimage: a section for each, [name], and in it a line for each project: project = role, role
# The roles are admin, member and reader. The first project is that of logins that name none.
# Their passwords are in another file. "pyrimage-manage user" changes both; servers notice it.
"""

_MODE = 0o600  # of new files


class UserChanges:
    """Changes the two files, which nobody else changes meanwhile: use it in ``locked``. Raises PyrimageError.

    root follows no link of another user's, which could lead to any file.
    """

    def __init__(self, path: Path, htpasswd: Path) -> None:
        for each in (path, htpasswd):
            if os.geteuid() == 0 and each.is_symlink() and each.lstat().st_uid != 0:
                raise PyrimageError(f"{each} is a link that another user has made; root does not follow it.")
        self.path, self.htpasswd = path.resolve(), htpasswd.resolve()  # a link stays one

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out until the block ends. Raises PyrimageError for what goes wrong with a file."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise PyrimageError(f"{error.filename or self.path} cannot be changed: {error.strerror}.") from error

    def projects(self) -> dict[str, dict[str, frozenset[str]]]:
        """Return the roles of every user by project. Raises ConfigurationError if the file is damaged."""
        return parse_users(self.path, _text(self.path))

    def names_with_password(self) -> set[str]:
        """Return the names in the htpasswd file, also of those whose hash is of no use here."""
        return set(map(_name, _lines(self.htpasswd))) - {""}

    def set_hash(self, name: str, hashed: str | None) -> None:
        """Set the hash of a user's password, or remove it."""
        lines = _lines(self.htpasswd)
        at = next((number for number, line in enumerate(lines) if _name(line) == name), len(lines))
        kept = [line for line in lines if _name(line) != name]
        if hashed is not None:
            kept.insert(at, f"{name}:{hashed}")
        _replace(self.htpasswd, kept)

    def set_roles(self, name: str, project: str, roles: Iterable[str]) -> None:
        """Set a user's roles in a project, and make either if it is not there."""
        line = f"{project} = {', '.join(sorted(roles))}"

        def change(section: list[str]) -> list[str]:
            at = next((number for number, each in enumerate(section) if _project(each) == project), None)
            return [*section, line] if at is None else [*section[:at], line, *section[at + 1 :]]

        self._change(name, change)

    def remove_project(self, name: str, project: str) -> None:
        """Take a user out of a project."""
        self._change(name, lambda section: [line for line in section if _project(line) != project])

    def remove_user(self, name: str) -> None:
        """Remove a user's section, with the comments in it."""
        self._change(name, lambda section: [])

    def _change(self, name: str, change: Callable[[list[str]], list[str]]) -> None:
        """Replace the lines of a user's section, from its head to its last project; there may be none yet."""
        lines = _lines(self.path) or HEAD.split("\n")[:-1]
        begin = end = len(lines)
        section = ""
        for number, line in enumerate(lines):
            if line.strip().startswith("["):
                section = line.strip()[1:-1].strip()
                if section == name:
                    begin, end = number, number + 1
            elif section == name and _project(line):  # what follows the last one belongs to the next user
                end = number + 1
        lines[begin:end] = change(lines[begin:end] or ["", f"[{name}]"])
        _replace(self.path, lines)


def _text(path: Path) -> str:
    """Return what is in a file; nothing, if it is not there."""
    try:
        return read_text(path)
    except ConfigurationError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise


def _lines(path: Path) -> list[str]:
    text = _text(path)
    return text.removesuffix("\n").split("\n") if text else []


def _name(line: str) -> str:
    """Return whose password a line of the htpasswd file holds."""
    return "" if line.strip().startswith(("#", ";")) else line.strip().partition(":")[0]


def _project(line: str) -> str:
    """Return which project a line of the file of users is about, or nothing."""
    project, equals, _ = line.partition("=")
    return project.strip() if equals and not line.strip().startswith(("#", ";", "[")) else ""


def _replace(path: Path, lines: list[str]) -> None:
    """Write a file anew: after a power cut it is the old one or the new one. Owner, group and mode stay.

    What root makes belongs to the owner of the directory, or the servers could not read it.
    """
    is_new = not path.exists()
    model = (path.parent if is_new else path).stat()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            made = os.fstat(descriptor)
            is_ours = (made.st_uid, made.st_gid) == (model.st_uid, model.st_gid)
            if not is_ours and (os.geteuid() == 0 or not is_new):
                os.fchown(descriptor, model.st_uid, model.st_gid)
            os.fchmod(descriptor, _MODE if is_new else stat.S_IMODE(model.st_mode))
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(path.parent)
