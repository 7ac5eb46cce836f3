"""What a setting is, and the readers that make its value of the ini's text."""

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .addresses import AllowedHosts, Network, is_name


def setting(
    read: Callable[[str], Any], doc: str, *, secret: bool = False, default_text: str | None = None, **default: Any
) -> Any:
    """Describe a setting: a field of ``Settings``, or of what makes the stores of a kind.

    read: makes the value of the ini's text; raises ValueError or OSError, whose words follow a colon. secret: never
    shown, and read from the environment where the ini does not set it. default_text: what the documentation calls a
    default that depends on others.
    """
    metadata = {"read": read, "doc": doc, "secret": secret, "default_text": default_text}
    return dataclasses.field(metadata=metadata, repr=not secret, **default)


def flag(text: str) -> bool:
    """Read a yes/no setting."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        raise ValueError("use true or false")
    return words[text.lower()]


def word(*accepted: str) -> Callable[[str], str]:
    """Make a reader that takes one of the ``accepted`` words."""

    def read(text: str) -> str:
        if text not in accepted:
            raise ValueError(f"use {' or '.join(accepted)}")
        return text

    return read


def endpoint(text: str) -> str:
    """Read an absolute http(s) URL; a slash at its end is cut."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("use an absolute URL such as https://images.example.org")
    return text.rstrip("/")


def directory(text: str) -> Path:
    """Read a directory's absolute path."""
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("use an absolute path; %(here)s is the directory of the ini file")
    if path.exists() and not path.is_dir():
        raise ValueError("is not a directory")
    return path


def certificates(text: str) -> Path:
    """Read the absolute path of a file that is there."""
    path = Path(text)
    if not path.is_absolute() or not path.is_file():
        raise ValueError("use the absolute path of a file with certificates in PEM format")
    return path


def file(text: str) -> Path:
    """Read the absolute path of a file, which need not be there. A pipe could take for ever to open."""
    path = Path(text)
    if not path.is_absolute() or path.is_dir() or path.is_fifo():
        raise ValueError("use the absolute path of a file; %(here)s is the directory of the ini file")
    return path


def allowed_hosts(text: str) -> AllowedHosts:
    """Read names of hosts, addresses and networks, with commas between them."""
    names: set[str] = set()
    networks: list[Network] = []
    for part in text.split(","):
        word = part.strip().lower()
        if is_name(word):
            names.add(word)
        else:
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError as error:
                example = "images.example.org, 10.1.2.3, 10.2.0.0/16"
                raise ValueError(f"use names of hosts, addresses and networks: {example}") from error
    return AllowedHosts(frozenset(names), tuple(networks))


def addresses(text: str) -> tuple[tuple[str, int | None], ...]:
    """Read names of hosts and addresses, each with a port where it has one of its own, with commas between them."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", part.strip().lower())
        if match is None or int(match[2] or 0) > 65535:
            raise ValueError(
                "use names of hosts and addresses, with ports or without: 10.1.2.3, 10.1.2.4:9191, [::1]:9191"
            )
        found.append((match[1].strip("[]"), int(match[2]) if match[2] else None))
    return tuple(found)


def port(text: str) -> int:
    """Read the number of a port."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("use a whole number from 1 to 65535")
    return int(text)


_BYTES = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}  # as Glance counts them


def size(text: str) -> int | None:
    """Read a number of bytes, ``500MB``; 0 is None, no limit."""
    match = re.fullmatch("([0-9]{1,19}) ?([KMGT]?B|)", text)
    if match is None:
        raise ValueError("use a number of bytes such as 1073741824, 500MB or 2TB; 0 for no limit")
    return int(match[1]) * _BYTES[match[2]] or None


def quota(text: str) -> int | None:
    """Read how many there may be; -1 is None, no limit."""
    if not re.fullmatch("-1|[0-9]{1,9}", text):
        raise ValueError("use a whole number; -1 for no limit")
    return None if text == "-1" else int(text)


def page_length(text: str) -> int:
    """Read a number of images that one statement can ask the properties of."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 10_000:
        raise ValueError("use a whole number from 1 to 10000")
    return int(text)


def seconds(text: str) -> int:
    """Read a length of time, up to a year."""
    if not re.fullmatch("[0-9]{1,8}", text) or not 1 <= int(text) <= 31_536_000:
        raise ValueError("use a whole number of seconds from 1 to 31536000")
    return int(text)


@dataclasses.dataclass(frozen=True, slots=True)
class SigningKey:
    """What requests to the registry are signed with. id: what requests name it by, empty for the only one."""

    id: str
    secret: str = dataclasses.field(repr=False)


def signing_keys(text: str) -> tuple[SigningKey, ...]:
    """Read a secret, or several as ``id:secret, id:secret``, of which the first signs.

    A secret that is too short could be guessed, and one with a colon or comma be taken for two things.
    """
    parts = text.split(",")
    keys = tuple(filter(None, map(_signing_key, parts)))
    ids = {key.id for key in keys}
    if len(ids) < len(parts) or ("" in ids and len(ids) > 1):
        raise ValueError(
            "use 16 characters or more, without colon and comma; or several such, each with an id of its own: "
            "id:secret, id:secret"
        )
    return keys


def _signing_key(text: str) -> SigningKey | None:
    name, colon, secret = map(str.strip, text.rpartition(":"))
    if len(secret) < 16 or not secret.isprintable() or not re.fullmatch("[A-Za-z0-9._-]{1,64}" if colon else "", name):
        return None
    return SigningKey(name, secret)
