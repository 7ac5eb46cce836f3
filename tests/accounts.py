"""Users with passwords, in files as ``auth = users`` reads them; their hashes are quick ones."""

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from passlib.hash import bcrypt

# Project and roles of each; the first project is that of logins that name none.
USERS: Mapping[str, Mapping[str, str]] = {
    "alice": {"tenant-a": "member", "tenant-b": "reader"},
    "bob": {"tenant-b": "member"},
    "rita": {"tenant-a": "reader"},
    "root": {"operators": "member, admin"},
}


def password_of(name: str) -> str:
    return f"the key of {name}"


@cache
def hash_of(password: str) -> str:
    """Hash a password as bcrypt does at its least cost."""
    hashed: str = bcrypt.using(rounds=4).hash(password)
    return hashed


def write_users(directory: Path, users: Mapping[str, Mapping[str, str]] = USERS) -> Path:
    """Write both files for users, and return the path of the one that names them."""
    path, htpasswd = directory / "users", directory / "htpasswd"
    sections = (
        "\n".join([f"[{name}]", *(f"{project} = {roles}" for project, roles in projects.items()), ""])
        for name, projects in users.items()
    )
    path.write_text("\n".join(sections), encoding="utf-8")
    htpasswd.write_text("".join(f"{name}:{hash_of(password_of(name))}\n" for name in users), encoding="utf-8")
    for each in (path, htpasswd):
        each.chmod(0o600)
    return path


def basic(name: str, password: str | None = None) -> dict[str, str]:
    """Make the header of a user, with its password unless another is given."""
    pair = f"{name}:{password_of(name) if password is None else password}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
