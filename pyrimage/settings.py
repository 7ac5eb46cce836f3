"""The ini's strings as one frozen dataclass, read once at start."""

import collections
import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .addresses import AllowedHosts
from .errors import ConfigurationError
from .masks import MASK, masked
from .readers import (
    SigningKey,
    addresses,
    allowed_hosts,
    certificates,
    directory,
    endpoint,
    file,
    flag,
    page_length,
    port,
    quota,
    seconds,
    setting,
    signing_keys,
    size,
    word,
)

PREFIX = "pyrimage."
CONFIG_NAME = "pyrimage.ini"
CONFIG_DIRECTORIES = (".", "~/.pyrimage", "~", "/etc/pyrimage", "/etc")
STORE_NAME_LENGTH = 64  # characters; the columns of the database have as many
STORE_NAME = re.compile(f"[A-Za-z0-9][A-Za-z0-9_-]{{0,{STORE_NAME_LENGTH - 1}}}")


def store_kinds(text: str) -> dict[str, str]:
    """Read ``file, fast:file``: the kind of each store by its name; a kind alone is its own name."""
    kinds: dict[str, str] = {}
    for part in text.split(","):
        name, colon, kind = map(str.strip, part.partition(":"))
        kind = kind if colon else name
        if not STORE_NAME.fullmatch(name) or not STORE_NAME.fullmatch(kind):
            most = f"of up to {STORE_NAME_LENGTH} letters, digits, - and _"
            raise ValueError(f"use names {most}, each with its kind: file, fast:file")
        if name in {field.name for field in dataclasses.fields(Settings)}:
            raise ValueError(f"{name} is the name of a setting; use another one")
        # In names of variables of the environment, which may hold secrets, all these are the same.
        if _variable(name) in map(_variable, kinds):
            raise ValueError(f"{name} is there twice; use names that differ in more than case, - and _")
        kinds[name] = kind
    return kinds


@dataclasses.dataclass(frozen=True, slots=True)
class StoreSettings:
    """A store of ``pyrimage.stores``. factory: the checked settings of its kind, which make the store."""

    name: str
    kind: str
    factory: Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every ``pyrimage.*`` key of the ini, without its prefix."""

    application: str = setting(
        word("api", "registry"), "What is served: the Image API, or the registry's API.", default="api"
    )
    auth: str = setting(
        word("none", "users", "keystone"),
        "Who may come in. none: everybody on this machine is an administrator. users: those that "
        "pyrimage.users_file names, with their passwords or tokens. keystone: who has a token of Keystone.",
    )
    users_file: Path | None = setting(
        file,
        "With auth = users, the file that says which user is in which projects. `pyrimage-manage user` writes it.",
        default=None,
    )
    htpasswd_file: Path | None = setting(
        file,
        "The file with the passwords of the users.",
        default=None,
        default_text="`htpasswd` beside pyrimage.users_file",
    )
    token_lifetime: int = setting(
        seconds, "With auth = users, seconds for which the token is valid that a login gives out.", default=3600
    )
    admin_role: str = setting(
        str, "With auth = keystone, the role whose holders are administrators, in whatever project.", default="admin"
    )
    anonymous: str = setting(
        word("none", "public"),
        "With auth = users or keystone, what callers without credentials may do. public: list and read public images.",
        default="none",
    )
    allow_anonymous: bool = setting(
        flag, "With auth = none, answer callers from other machines too: everybody is an administrator.", default=False
    )
    publicize_image: str = setting(word("owner", "admin"), "Who may make an image public.", default="owner")
    public_endpoint: str | None = setting(
        endpoint, "URL under which clients reach the service; taken from the request if unset.", default=None
    )
    stores: tuple[StoreSettings, ...] = setting(
        store_kinds,
        "The stores, each by its name and kind: `file, fast:file`. A kind alone is its own name. Images remember the "
        "name of their store, so a name that was used must stay.",
        default=(),
        default_text="`file`",
    )
    default_store: str = setting(
        str, "Name of the store of uploads that name none.", default="file", default_text="the first of the stores"
    )
    redirect_downloads: str = setting(
        word("never", "anonymous"),
        "Whose downloads are sent to the store, where it gives out URLs for that. anonymous: those of requests without "
        "credentials, for clients may send theirs on to wherever they are sent.",
        default="never",
    )
    set_image_location: str = setting(
        word("owner", "admin"), "Who may register the location of an image's bytes at a URL.", default="owner"
    )
    allowed_hosts: AllowedHosts = setting(
        allowed_hosts,
        "Hosts that the server may ask for the bytes of images though they are no public ones: names, addresses and "
        "networks, with commas between them. All others with an address of this machine, of a private network or of "
        "many receivers are refused.",
        default=AllowedHosts(),
        default_text="none",
    )
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
    registry_host: tuple[tuple[str, int | None], ...] = setting(
        addresses,
        "Registry servers that the API server asks instead of a database: names of hosts or addresses, each with its "
        "port where that is another one (10.1.2.3, 10.1.2.4:9192), with commas between them. They are asked in turn.",
        default=(),
        default_text="none: the API server talks to the database itself",
    )
    registry_port: int = setting(port, "The port of the registry servers.", default=9191)
    registry_client_protocol: str = setting(
        word("http", "https"), "How the API server talks to the registry servers.", default="http"
    )
    registry_client_ca_file: Path | None = setting(
        certificates,
        "A file with the certificates of those who may have signed the registry servers', in PEM format.",
        default=None,
        default_text="what the system trusts",
    )
    registry_client_timeout: int = setting(
        seconds,
        "Seconds for which the API server waits for a registry server's answer, and then for the end of it.",
        default=20,
    )
    registry_auth: str = setting(
        word("none", "keystone"),
        "Who may ask the registry beside servers that sign. none: without a secret, callers on this machine. keystone: "
        "who has a token of Keystone.",
        default="none",
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
    audit_log: Path | None = setting(
        file,
        "A file that tells who did what: a line of JSON for each request that writes, downloads or is refused.",
        default=None,
    )
    database_prepared_statements: bool = setting(
        flag, "Let PostgreSQL's driver prepare statements; false behind PgBouncer in transaction mode.", default=True
    )
    auto_migrate: bool = setting(flag, "Bring the database's schema up to date at start.", default=False)

    def find_store(self, text: str) -> str | None:
        """Return the name of the store that a client means: its name, or a kind for the first store of that kind."""
        kinds = {store.name: store.kind for store in self.stores}
        return text if text in kinds else next((name for name, kind in kinds.items() if kind == text), None)


Kinds = Mapping[str, type[Any]]  # by its name, what makes stores of that kind: a dataclass of settings


@dataclasses.dataclass(frozen=True, slots=True)
class _Key:
    """A key that the ini may have, without its prefix. store: the one that it sets up, if it is not for the service."""

    name: str
    field: dataclasses.Field[Any]
    store: str | None = None


def read_settings(ini: Mapping[str, str], kinds: Kinds) -> Settings:
    """Read and check every ``pyrimage.*`` key; other keys belong to Pyramid and SQLAlchemy.

    A secret that the ini does not set is read from the environment: ``pyrimage.registry_secret`` from
    ``PYRIMAGE_REGISTRY_SECRET``. kinds: those of stores that are known here.

    Raises ConfigurationError naming the key, its value's fault, and for an unknown key the nearest known one.
    """
    texts = {key.removeprefix(PREFIX): text for key, text in ini.items() if key.startswith(PREFIX)}
    stores = _read_stores(texts, kinds)
    known = _known_keys(stores, kinds)
    values: dict[str | None, dict[str, Any]] = {None: {}, **{name: {} for name in stores}}
    for name, text in texts.items():
        if name not in known:
            raise ConfigurationError(_why_unknown(name, known, stores, kinds))
        key = known[name]
        if key.field.name in values[key.store]:
            both = f"{PREFIX}{key.field.name} and {PREFIX}{key.store}.{key.field.name}"
            raise ConfigurationError(f"{both} are the same setting: set one of them.")
        values[key.store][key.field.name] = _read(key, text)
    for key in known.values():
        found = values[key.store]
        if key.field.metadata["secret"] and key.field.name not in found and (secret := _from_environment(key)):
            found[key.field.name] = _read(key, secret)
    for key in known.values():
        if _is_required(key.field) and key.field.name not in values[key.store]:
            raise ConfigurationError(f"{PREFIX}{key.name} is not set. {key.field.metadata['doc']}")
    ours = values[None] | {"stores": tuple(_store(name, stores[name], kinds, values[name]) for name in stores)}
    default = ours.setdefault("default_store", next(iter(stores)))
    if default not in stores:
        raise ConfigurationError(f"{PREFIX}default_store = {default}: use {' or '.join(stores)}.")
    _refuse_contradictions(ours)
    return Settings(**ours)


def _refuse_contradictions(ours: Mapping[str, Any]) -> None:
    if ours.get("registry_host") and ours.get("registry_secret") is None:
        raise ConfigurationError(f"{PREFIX}registry_host needs {PREFIX}registry_secret, the same as the registry's.")
    if ours["auth"] == "none" and ours.get("anonymous") == "public":
        raise ConfigurationError(f"{PREFIX}anonymous = public: with {PREFIX}auth = none everybody is an administrator.")


def read_setting(ini: Mapping[str, str], name: str) -> Any:
    """Read one of the service's settings by itself. Raises ConfigurationError."""
    key = _Key(name, Settings.__dataclass_fields__[name])
    return _read(key, ini[PREFIX + name]) if PREFIX + name in ini else key.field.default


def refuse_bare_names(section: Mapping[str, str], kinds: Kinds) -> None:
    """Raise ConfigurationError for one of our settings without its prefix in an application's own section.

    Nothing would read it: a limit, say, would not be in force.
    """
    texts = {key.removeprefix(PREFIX): text for key, text in section.items() if key.startswith(PREFIX)}
    for name in sorted(section.keys() & _known_keys(_read_stores(texts, kinds), kinds)):
        raise ConfigurationError(f"{name} is no setting; did you mean {PREFIX}{name}?")


def shown_settings(settings: Settings) -> dict[str, str]:
    """Return every setting that is in force, by its key, as people may read it: secrets are ``***``."""
    values = {field.name: (field, getattr(settings, field.name)) for field in dataclasses.fields(Settings)}
    for store in settings.stores:
        for field in dataclasses.fields(store.factory):
            values[f"{store.name}.{field.name}"] = field, getattr(store.factory, field.name)
    values["stores"] = values["stores"][0], ", ".join(f"{store.name}:{store.kind}" for store in settings.stores)
    return {f"{PREFIX}{name}": _shown(field, f"{PREFIX}{name}", value) for name, (field, value) in values.items()}


def store_directories(settings: Settings) -> list[Path]:
    """Return the directories that the settings of stores name."""
    factories = [store.factory for store in settings.stores]
    values = [getattr(each, field.name) for each in factories for field in dataclasses.fields(each)]
    return [value for value in values if isinstance(value, Path)]


def _read_stores(texts: Mapping[str, str], kinds: Kinds) -> dict[str, str]:
    """Return the kind of each store by its name."""
    text = texts.get("stores", "file")
    stores: dict[str, str] = _read(_Key("stores", Settings.__dataclass_fields__["stores"]), text)
    for kind in stores.values():
        if kind not in kinds:
            raise ConfigurationError(f"{PREFIX}stores = {text}: {kind} is no kind of store here; use {_any(kinds)}.")
    return stores


def _known_keys(stores: Mapping[str, str], kinds: Kinds) -> dict[str, _Key]:
    """Return the keys that may be set, by their names; where a setting has two, the shorter one comes first.

    A store's setting is ``<store>.<setting>``, or the setting alone where only one store has it.
    """
    keys = [_Key(field.name, field) for field in dataclasses.fields(Settings)]
    of_stores = [(field, name) for name, kind in stores.items() for field in dataclasses.fields(kinds[kind])]
    count = collections.Counter(field.name for field, _ in of_stores)
    keys += [_Key(field.name, field, name) for field, name in of_stores if count[field.name] == 1]
    keys += [_Key(f"{name}.{field.name}", field, name) for field, name in of_stores]
    return {key.name: key for key in keys}


def _why_unknown(name: str, known: Mapping[str, _Key], stores: Mapping[str, str], kinds: Kinds) -> str:
    several = [key.name for key in known.values() if key.field.name == name]
    if several:
        return f"{PREFIX}{name} could be for several stores; use {_any(PREFIX + each for each in several)}."
    unused = [kind for kind, made_by in kinds.items() if name in {field.name for field in dataclasses.fields(made_by)}]
    if unused:
        return f"{PREFIX}{name} is for stores of the kind {_any(unused)}, of which {PREFIX}stores names none."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"Unknown setting {PREFIX}{name}; did you mean {PREFIX}{near[0]}?"


def _any(words: Iterable[str]) -> str:
    return " or ".join(words)


def _read(key: _Key, text: str) -> Any:
    try:
        return key.field.metadata["read"](text.strip())
    except (OSError, ValueError) as error:
        name = PREFIX + key.name
        raise ConfigurationError(f"{name} = {_shown(key.field, name, text)}: {error}.") from error


def _store(name: str, kind: str, kinds: Kinds, values: Mapping[str, Any]) -> StoreSettings:
    try:
        return StoreSettings(name, kind, kinds[kind](**values))
    except ValueError as error:  # settings that do not go together
        raise ConfigurationError(f"The settings of the store {name}: {error}.") from error


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _variable(name: str) -> str:
    return name.upper().replace(".", "_").replace("-", "_")


def _from_environment(key: _Key) -> str | None:
    return os.environ.get(_variable(PREFIX + key.name))


def _shown(field: "dataclasses.Field[Any]", name: str, value: object) -> str:
    return MASK if field.metadata["secret"] and value is not None else masked(name, value)


def find_config() -> Path:
    """Find the ini of commands that were given none, in the documented places. Raises ConfigurationError."""
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
