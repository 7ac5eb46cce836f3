"""Logging in at a Keystone, as OpenStack's tools do; needs ``pyrimage[keystone]``, and is imported by nobody else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from keystoneauth1 import exceptions, loading
from keystoneauth1.session import Session

from .environment import Place
from .errors import ClientError, ConfigurationError, ConnectionFailed, MultipleChoices, error_class
from .transport import Transport

SECONDS = 60.0  # for each request to Keystone

_VERSION = re.compile(r"/v([0-9]+)(\.[0-9]+)?/?$")


class Keystone:
    """Somebody who logs in at a Keystone, and again when the token ends.

    auth_type: ``password``, ``v3applicationcredential``, ``token`` or another plugin of keystoneauth1. options: those
    of the plugin; those of a password are auth_url, username, password, project_name, user_domain_name,
    project_domain_name.
    """

    def __init__(self, auth_type: str = "password", *, ca_file: str | Path | None = None, **options: Any) -> None:
        loader = _loader(auth_type)
        if unknown := options.keys() - _names(loader):
            raise ConfigurationError(f"Logins of type {auth_type} have no {', '.join(sorted(unknown))}.")
        try:
            plugin = loader.load_from_options_getter(lambda option: _value(option, options))
        except exceptions.ClientException as error:
            raise ConfigurationError(f"The login is not described well: {error}") from error
        self._shown = f"Keystone({auth_type!r}, auth_url={options.get('auth_url')!r}, ...)"
        verify: Any = True if ca_file is None else str(ca_file)
        self._session = Session(auth=plugin, verify=verify, timeout=SECONDS, user_agent="pyrimage-client")

    def __repr__(self) -> str:
        return self._shown

    def headers(self) -> Mapping[str, str]:
        """Return the token, a new one if need be."""
        try:
            return self._session.get_auth_headers() or {}
        except exceptions.ClientException as error:
            raise _told(error) from error

    def renew(self) -> bool:
        """Forget the token."""
        return self._session.invalidate()

    def find_service(self, region: str | None, interface: str | None) -> str:
        """Return the URL that Keystone's catalogue has for the image service."""
        try:
            url = self._session.get_endpoint(service_type="image", region_name=region, interface=interface or "public")
        except exceptions.ClientException as error:
            raise _told(error) from error
        if url is None:
            raise ConfigurationError("Keystone's catalogue has no image service there.")
        return url


def _loader(auth_type: str) -> Any:
    try:
        return loading.get_plugin_loader(auth_type)
    except exceptions.ClientException as error:
        raise ConfigurationError(f"Nobody knows how to log in by {auth_type!r}: {error}") from error


def _names(loader: Any) -> set[str]:
    """Return the names of a plugin's options, the older ones too."""
    return {name for option in loader.get_options() for name in _names_of(option)}


def _names_of(option: Any) -> list[str]:
    return [option.dest, *(each.dest for each in option.deprecated)]


def _value(option: Any, options: Mapping[str, Any]) -> Any:
    return next((options[name] for name in _names_of(option) if name in options), None)


def _told(error: exceptions.ClientException) -> ClientError:
    """Return what Keystone said as an error of ours."""
    if isinstance(error, exceptions.HttpError):
        return error_class(error.http_status)(f"Keystone: {error.message}", error.http_status, error.request_id)
    if isinstance(error, exceptions.ConnectionError):
        return ConnectionFailed(f"Keystone cannot be reached: {error}")
    return ConfigurationError(f"Logging in at Keystone failed: {error}")


def from_environment(environ: Mapping[str, str]) -> Place:
    """Log in as ``OS_*`` say. Raises ClientError."""
    is_credential = environ.get("OS_APPLICATION_CREDENTIAL_SECRET")
    guess = "token" if environ.get("OS_TOKEN") else "v3applicationcredential" if is_credential else "password"
    kind = environ.get("OS_AUTH_TYPE") or guess
    names = {name.removeprefix("OS_").lower(): value for name, value in environ.items() if name.startswith("OS_")}
    known = _names(_loader(kind))
    return _place(
        {
            "auth_type": kind,
            "auth": {name: value for name, value in names.items() if name in known and value},
            "region_name": names.get("region_name"),
            "interface": names.get("interface") or names.get("endpoint_type"),
            "cacert": names.get("cacert"),
            "image_endpoint_override": names.get("image_endpoint_override"),
        }
    )


def from_cloud(name: str) -> Place:
    """Log in at a cloud of ``clouds.yaml`` and ``secure.yaml``. Raises ClientError."""
    cloud: dict[str, Any] = {}
    for file in ("clouds.yaml", "secure.yaml"):
        found = _read_clouds(file).get(name, {})
        cloud = {**cloud, **found, "auth": {**cloud.get("auth", {}), **found.get("auth", {})}}
    if not cloud["auth"]:
        raise ConfigurationError(f"No clouds.yaml describes the cloud {name}; it is looked for in {_looked_for()}.")
    return _place(cloud)


def _looked_for() -> str:
    return ", ".join(str(each) for each in _directories())


def _directories() -> tuple[Path, ...]:
    return Path.cwd(), Path.home() / ".config/openstack", Path("/etc/openstack")


def _read_clouds(file: str) -> dict[str, Any]:
    """Return what the first file of that name describes."""
    path = next((each / file for each in _directories() if (each / file).is_file()), None)
    if path is None:
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(value["clouds"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}.") from None


def _place(cloud: Mapping[str, Any]) -> Place:
    if cloud.get("verify", True) is not True:
        raise ConfigurationError("Certificates are always verified; name those that are trusted with cacert.")
    ca_file = cloud.get("cacert")
    login = Keystone(cloud.get("auth_type", "password"), ca_file=ca_file, **cloud["auth"])
    url = cloud.get("image_endpoint_override")
    if url is None:
        interface = cloud.get("interface", cloud.get("endpoint_type"))
        url = login.find_service(cloud.get("region_name"), interface)
    return Place(_spelled(url, login, ca_file), login, ca_file)


def _spelled(url: str, login: Keystone, ca_file: str | None) -> str:
    """Return the URL as a client takes it: that of a Glance ends with ``/v1``, whatever the catalogue has."""
    found = _VERSION.search(url)
    if found and found[1] == "1":
        return url
    base = _VERSION.sub("", url).rstrip("/")
    transport = Transport(base, login, SECONDS, ca_file)
    try:
        transport.read("GET", "/images?limit=1")
    except MultipleChoices:
        return f"{base}/v1"
    finally:
        transport.close()
    return base
