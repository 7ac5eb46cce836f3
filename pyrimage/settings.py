"""The ini's strings as one frozen dataclass, read once at start."""

import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigurationError
from .readers import directory, endpoint, flag, page_length, quota, setting, size, word

PREFIX = "pyrimage."
CONFIG_NAME = "pyrimage.ini"
CONFIG_DIRECTORIES = (".", "~/.pyrimage", "~", "/etc/pyrimage", "/etc")
STORE_NAME_LENGTH = 64  # characters; the columns of the database have as many


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every ``pyrimage.*`` key of the ini, without its prefix."""

    application: str = setting(
        word("api", "registry"), "What is served: the Image API, or the registry's API.", default="api"
    )
    auth: str = setting(word("none"), "Who may come in. none: everybody on this machine is an administrator.")
    filesystem_store_datadir: Path = setting(directory, "Where the file store keeps its bytes, staging included.")
    allow_anonymous: bool = setting(
        flag, "With auth = none, answer callers from other machines too: everybody is an administrator.", default=False
    )
    publicize_image: str = setting(word("owner", "admin"), "Who may make an image public.", default="owner")
    public_endpoint: str | None = setting(
        endpoint, "URL under which clients reach the service; taken from the request if unset.", default=None
    )
    default_store: str = setting(word("file"), "Store of uploads that name none.", default="file")
    require_formats: bool = setting(flag, "Refuse data for an image without disk and container format.", default=False)
    limit_param_default: int = setting(page_length, "Images on a page of a list that asks for no limit.", default=25)
    api_limit_max: int = setting(page_length, "Images on a page at most; a higher limit is cut.", default=1000)
    image_size_cap: int | None = setting(size, "Bytes of one image at most (500MB, 2TB); 0: no limit.", default=None)
    image_property_quota: int | None = setting(
        quota, "Free properties of one image at most; -1: no limit.", default=None
    )
    image_property_bytes: int | None = setting(
        size,
        "Bytes of the free properties of one image at most, keys and values in UTF-8 together; 0: no limit.",
        default=16_384,
    )
    image_member_quota: int | None = setting(
        quota, "Members that one image is shared with at most; -1: no limit.", default=None
    )
    user_image_quota: int | None = setting(quota, "Images of one owner at most; -1: no limit.", default=None)
    user_storage_quota: int | None = setting(
        size, "Bytes of one owner's images at most (500MB, 2TB), uploads under way included; 0: no limit.", default=None
    )
    registry_secret: tuple[SigningKey, ...] | None = setting(
        signing_keys,
        "What requests to the registry are signed with; without it the registry serves its own machine only. "
        "Of several (id:secret, id:secret) the first signs, and all are accepted: so one can be changed without a gap. "
        "May stand in the environment instead, as PYRIMAGE_REGISTRY_SECRET.",
        secret=True,
        default=None,
    )
    log_format: str | None = setting(
        str, "Format of log lines, as Python's logging has it, or json: an object a line.", default=None
    )
    log_file: str | None = setting(
        str, "Where the log goes; an absolute path, or one below pyrimage.log_dir.", default=None
    )
    log_dir: Path | None = setting(
        directory, "Where a relative log_file lies; without log_file, api.log and registry.log.", default=None
    )
    log_date_format: str | None = setting(str, "Format of times in log lines, as strftime has it.", default=None)
    auto_migrate: bool = setting(flag, "Bring the database's schema up to date at start.", default=False)


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
    return [field.name for field in dataclasses.fields(Settings) if field.metadata["secret"]]


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
