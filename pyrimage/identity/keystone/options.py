"""The section ``[keystone_authtoken]`` of the ini: the options of keystonemiddleware, by the names that Glance has."""

import configparser
import difflib
import os
from collections.abc import Mapping
from typing import Any

import plaster
from keystoneauth1 import exceptions, loading
from keystonemiddleware.auth_token import list_opts
from oslo_config import cfg

from ...errors import ConfigurationError
from ...masks import MASK
from ...readers import certificates, endpoint

SECTION = "keystone_authtoken"
VARIABLE = "PYRIMAGE_KEYSTONE_AUTHTOKEN_"  # with a secret option's name behind it, a variable of the environment

# In place of keystonemiddleware's: to wait for ever, and four times; to refuse tokens that have rules for services.
_DEFAULTS = {"http_connect_timeout": "5", "http_request_max_retries": "1", "service_type": "image"}
_FIXED = {"delay_auth_decision": "true"}  # whether a page needs a token is the application's to say
_REFUSED = {
    "auth_section": "write the options into this section.",
    "cache": "that is for Swift; use memcached_servers.",
    "delay_auth_decision": "it is always in force; pyrimage.anonymous says what callers without a token may do.",
    "include_service_catalog": "the rules of application credentials cannot be checked without the catalogue.",
    "insecure": "certificates are always checked; name those of your authority in cafile.",
}
_READERS = {"auth_url": endpoint, "www_authenticate_uri": endpoint, "cafile": certificates}


def read_options(ini: str | None) -> cfg.ConfigOpts:
    """Read and check the section of an ini file. Raises ConfigurationError, which quotes no secret."""
    texts = _read_section(ini)
    own, of_plugin = _known_options(texts)
    known = {name: option for option in [*own, *of_plugin] for name in _names(option)}
    values = {**_DEFAULTS, **_given(texts, known), **_FIXED}
    for option in of_plugin:
        if option.secret and option.dest not in values:
            raise _error(option.dest, f"it is not set, and neither is {_variable(option)} in the environment.")
    if "auth_url" not in values:
        raise _error("auth_url", "it is not set. It is the URL at which this server reaches Keystone.")
    values.setdefault("www_authenticate_uri", values["auth_url"])
    options = cfg.ConfigOpts()
    options([], project="pyrimage", default_config_files=[], default_config_dirs=[], use_env=False)
    options.register_opts([*own, *of_plugin], group=SECTION)
    for name, text in values.items():
        _set(options, known[name], text)
    if options[SECTION].token_cache_time == 0:  # which stands for ever, as memcached has it
        raise _error("token_cache_time", "use a number of seconds, or -1 to ask Keystone each time.")
    return options


def _given(texts: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, str]:
    """Return what the section sets, by today's names, and what secrets the environment has in its place."""
    values: dict[str, str] = {}
    for name, text in texts.items():
        if name in _REFUSED:
            raise _error(name, _REFUSED[name])
        if name not in known:
            near = difflib.get_close_matches(name, known.keys() - _REFUSED.keys(), n=1, cutoff=0)
            raise _error(name, f"there is no such option; did you mean {near[0]}?")
        values[known[name].dest] = text
    for option in known.values():
        if option.secret and option.dest not in values and (secret := os.environ.get(_variable(option))):
            values[option.dest] = secret
    return values


def _read_section(ini: str | None) -> Mapping[str, str]:
    try:
        section: Mapping[str, str] = plaster.get_loader(ini, protocols=["wsgi"]).get_settings(SECTION) if ini else {}
    except configparser.InterpolationError as error:
        raise _error(error.option, "a literal % is written %%, and what %(name)s names must be set.") from None
    if not section:
        raise ConfigurationError(f"pyrimage.auth = keystone needs a section [{SECTION}] in the ini file.")
    return section


def _known_options(texts: Mapping[str, str]) -> tuple[list[Any], list[Any]]:
    """Return the options of the middleware, and those of the way to log in that ``auth_type`` names."""
    ((_, own),) = list_opts()
    kind = texts.get("auth_type") or texts.get("auth_plugin")
    if not kind:
        raise _error("auth_type", "it is not set; use password.")
    try:
        return own, loading.get_auth_plugin_conf_options(loading.get_plugin_loader(kind))
    except exceptions.NoMatchingPlugin as error:
        raise _error("auth_type", f"{kind} is not known; use password.") from error


def _names(option: Any) -> list[str]:
    return [option.dest, *(deprecated.name for deprecated in option.deprecated_opts)]


def _variable(option: Any) -> str:
    return f"{VARIABLE}{option.dest.upper()}"


def _set(options: cfg.ConfigOpts, option: Any, text: str) -> None:
    try:
        _READERS.get(option.dest, str)(text)
        # A $ would stand for another option.
        options.set_override(option.dest, text.replace("$", "$$"), group=SECTION)
    except ValueError as error:
        raise _error(f"{option.dest} = {MASK if option.secret else text}", f"{error}.") from error


def _error(name: str, fault: str) -> ConfigurationError:
    return ConfigurationError(f"[{SECTION}] {name}: {fault}")
