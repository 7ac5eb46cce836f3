"""The ini's strings as one frozen dataclass, read once at start."""

import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError

PREFIX = "pyrimage."
CONFIG_NAME = "pyrimage.ini"
CONFIG_DIRECTORIES = (".", "~/.pyrimage", "~", "/etc/pyrimage", "/etc")
STORE_NAME_LENGTH = 64  # characters; the columns of the database have as many


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


def _setting(read: Callable[[str], Any], doc: str, **default: Any) -> Any:
    return dataclasses.field(metadata={"read": read, "doc": doc}, repr=read is not signing_keys, **default)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every ``pyrimage.*`` key of the ini, without its prefix."""

    application: str = _setting(
        word("api", "registry"), "What is served: the Image API, or the registry's API.", default="api"
    )
    auth: str = _setting(word("none"), "Who may come in. none: everybody on this machine is an administrator.")
    filesystem_store_datadir: Path = _setting(directory, "Where the file store keeps its bytes, staging included.")
    allow_anonymous: bool = _setting(
        flag, "With auth = none, answer callers from other machines too: everybody is an administrator.", default=False
    )
    publicize_image: str = _setting(word("owner", "admin"), "Who may make an image public.", default="owner")
    public_endpoint: str | None = _setting(
        endpoint, "URL under which clients reach the service; taken from the request if unset.", default=None
    )
    default_store: str = _setting(word("file"), "Store of uploads that name none.", default="file")
    require_formats: bool = _setting(flag, "Refuse data for an image without disk and container format.", default=False)
    limit_param_default: int = _setting(page_length, "Images on a page of a list that asks for no limit.", default=25)
    api_limit_max: int = _setting(page_length, "Images on a page at most; a higher limit is cut.", default=1000)
    image_size_cap: int | None = _setting(size, "Bytes of one image at most (500MB, 2TB); 0: no limit.", default=None)
    image_property_quota: int | None = _setting(
        quota, "Free properties of one image at most; -1: no limit.", default=None
    )
    image_property_bytes: int | None = _setting(
        size,
        "Bytes of the free properties of one image at most, keys and values in UTF-8 together; 0: no limit.",
        default=16_384,
    )
    image_member_quota: int | None = _setting(
        quota, "Members that one image is shared with at most; -1: no limit.", default=None
    )
    user_image_quota: int | None = _setting(quota, "Images of one owner at most; -1: no limit.", default=None)
    user_storage_quota: int | None = _setting(
        size, "Bytes of one owner's images at most (500MB, 2TB), uploads under way included; 0: no limit.", default=None
    )
    registry_secret: tuple[SigningKey, ...] | None = _setting(
        signing_keys,
        "What requests to the registry are signed with; without it the registry serves its own machine only. "
        "Of several (id:secret, id:secret) the first signs, and all are accepted: so one can be changed without a gap. "
        "May stand in the environment instead, as PYRIMAGE_REGISTRY_SECRET.",
        default=None,
    )
    log_format: str | None = _setting(
        str, "Format of log lines, as Python's logging has it, or json: an object a line.", default=None
    )
    log_file: str | None = _setting(
        str, "Where the log goes; an absolute path, or one below pyrimage.log_dir.", default=None
    )
    log_dir: Path | None = _setting(
        directory, "Where a relative log_file lies; without log_file, api.log and registry.log.", default=None
    )
    log_date_format: str | None = _setting(str, "Format of times in log lines, as strftime has it.", default=None)
    auto_migrate: bool = _setting(flag, "Bring the database's schema up to date at start.", default=False)


def read_settings(ini: Mapping[str, str]) -> Settings:
    """Read and check every ``pyrimage.*`` key; other keys belong to Pyramid and SQLAlchemy.

    A secret that the ini does not set is read from the environment, where its name is ``PYRIMAGE_REGISTRY_SECRET``.

    Raises ConfigurationError naming the key, its value's fault, and for an unknown key the nearest known one.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    for key, text in {**_from_environment(), **ini}.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0)
            raise ConfigurationError(f"Unknown setting {key}; did you mean {PREFIX}{near[0]}?")
        try:
            values[name] = fields[name].metadata["read"](text.strip())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{key} = {masked(key, text)}: {error}.") from error
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ConfigurationError(f"{PREFIX}{name} is not set. {field.metadata['doc']}")
    return Settings(**values)


def refuse_bare_names(section: Mapping[str, str]) -> None:
    """Raise ConfigurationError for one of our settings without its prefix in an application's own section.

    Nothing would read it: a limit, say, would not be in force.
    """
    for name in sorted(section.keys() & {field.name for field in dataclasses.fields(Settings)}):
        raise ConfigurationError(f"{name} is no setting; did you mean {PREFIX}{name}?")


def _secret_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Settings) if field.metadata["read"] is signing_keys]


def _from_environment() -> dict[str, str]:
    return {PREFIX + name: text for name in _secret_names() if (text := os.environ.get(f"PYRIMAGE_{name.upper()}"))}


MASK = "***"
_SECRET_NAME = re.compile("secret|pass|pwd|credential|token|dsn|key(?!stone)", re.IGNORECASE)
_SECRET_INSIDE = re.compile("(secret|pass[a-z]*|pwd|token|key)[\"']?\\s*[=:]", re.IGNORECASE)
_SECRET_PARAMETER = re.compile("([?&][^=&]*(?:secret|pass|pwd|credential|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
_PASSWORD = re.compile("(://[^:/]*:).*@", re.DOTALL)


def masked(key: str, value: object) -> str:
    """Return a setting's value for people to read: what is secret, or looks like it, is ``***``."""
    if value is None:
        return str(None)
    text = str(value)
    is_url = re.match(r"[a-z][\w+.-]*://", text, re.IGNORECASE)
    if key.removeprefix(PREFIX) in _secret_names() or _SECRET_NAME.search(key):
        return MASK
    if not is_url and (key.endswith("url") or _SECRET_INSIDE.search(text)):
        return MASK
    return _PASSWORD.sub(rf"\1{MASK}@", _SECRET_PARAMETER.sub(rf"\1{MASK}", text))


def find_config() -> Path:
    """Find the ini file of commands that were given none: the first hit of the documented places.

    Raises ConfigurationError listing the places.
    """
    for place in CONFIG_DIRECTORIES:
        # A directory that this user may not search, such as root's; a user without a home.
        with contextlib.suppress(PermissionError, RuntimeError):
            path = Path(place).expanduser() / CONFIG_NAME
            if path.is_file():
                return path.absolute()
    raise ConfigurationError(f"No {CONFIG_NAME} in {', '.join(CONFIG_DIRECTORIES)}.")


def config_from_environment() -> Path:
    """Return ``$PYRIMAGE_CONFIG``, or what ``find_config`` finds."""
    named = os.environ.get("PYRIMAGE_CONFIG")
    return Path(named).absolute() if named else find_config()
