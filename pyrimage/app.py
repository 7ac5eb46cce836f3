"""The paste application factory, and the one function that makes the catalogue of a process."""

import logging
from collections.abc import Mapping
from typing import Any

from pyramid.paster import get_app, setup_logging
from pyramid.router import Router

from .audit import AuditLog
from .catalogue.interfaces import Catalogue
from .catalogue.remote.catalogue import RemoteCatalogue
from .catalogue.sql.catalogue import SqlCatalogue
from .errors import ConfigurationError, DatabaseAway, DatabaseError, StoreMissing, StoreUnavailable
from .identity.keystone import make_keystone
from .identity.logins import Logins, make_logins
from .identity.loopback import LoopbackOnly
from .identity.policy import WSGIApp
from .identity.registry import make_authentication
from .identity.users import Users
from .models import make_engine
from .settings import Settings, config_from_environment, read_settings, refuse_bare_names
from .stores import Stores, make_configurator, make_stores, store_kinds
from .uploads.claims import LiveClaims

log = logging.getLogger(__name__)

FACES = {"api": "pyrimage.api.v1", "registry": "pyrimage.registry"}


def main(global_conf: dict[str, str], **ini: Any) -> WSGIApp:
    """Make the application of an ini's section with ``use = egg:pyrimage``: the API, or the registry.

    Opens one connection at most, and keeps none: workers may be forked afterwards. Raises ConfigurationError for a
    bad setting, a schema that is behind or a directory that is not the store's; pshell is warned only, and marks none.
    """
    config = make_configurator(ini)  # includes the ini's plug-ins, which may bring kinds of stores
    kinds = store_kinds(config)
    refuse_bare_names(ini, kinds)
    settings = read_settings(ini, kinds)
    catalogue = make_catalogue(ini, settings)
    is_shell, identities = global_conf.get("__script__") == "pshell", catalogue.identities
    stores = make_stores(settings, identities.known if is_shell else identities.identify)
    _check(catalogue, stores, settings, is_shell=is_shell)
    config.registry["pyrimage.settings"] = settings
    config.registry["pyrimage.audit"] = None if is_shell else _open_audit_log(settings)
    config.registry["pyrimage.catalogue"] = catalogue
    config.registry["pyrimage.stores"] = stores
    config.registry["pyrimage.claims"] = LiveClaims(catalogue.claims, stores)
    config.include("pyrimage.web")
    config.include(FACES[settings.application])
    if settings.application == "api" and settings.auth == "users":
        config.registry["pyrimage.logins"] = make_logins(settings, catalogue.tokens)
        config.include("pyrimage.api.identity")
    return _authenticated(config.make_wsgi_app(), settings, global_conf.get("__file__"))


def _open_audit_log(settings: Settings) -> AuditLog | None:
    """Make the audit log, if there shall be one. Raises ConfigurationError if it cannot be written to."""
    if settings.audit_log is None:
        return None
    audit = AuditLog(settings.audit_log, takes_data=settings.application == "api")
    audit.check()
    return audit


def make_catalogue(ini: Mapping[str, str], settings: Settings) -> SqlCatalogue | RemoteCatalogue:
    """Make the process's catalogue; opens no connection. Raises ConfigurationError for a bad ``sqlalchemy.*`` key."""
    if settings.registry_host and settings.application == "api":
        return RemoteCatalogue(settings)
    return SqlCatalogue(make_engine(ini), settings)


def from_config() -> WSGIApp:
    """Make the application of ``$PYRIMAGE_CONFIG``, or of the ini found: for ``waitress-serve --call``."""
    path = str(config_from_environment())
    setup_logging(path)
    app: WSGIApp = get_app(path)
    return app


def _authenticated(app: Router, settings: Settings, ini: str | None) -> WSGIApp:
    """Put the middleware that says who is asking before the application. ini: the path of its file."""
    if settings.application == "registry":
        return make_authentication(app, settings, ini)
    if settings.auth == "keystone":
        return make_keystone(app, settings, ini)
    if settings.auth == "users":
        logins: Logins = app.registry["pyrimage.logins"]
        return Users(app, settings, logins.passwords, logins.tokens)
    return LoopbackOnly(app, settings)


def _check(catalogue: Catalogue, stores: Stores, settings: Settings, *, is_shell: bool) -> None:
    """Look at the database's schema and the stores once, before anybody asks for them."""
    try:
        catalogue.check(upgrade=settings.auto_migrate)
        if settings.application == "api":  # the registry has no store
            _check_stores(stores)
    except DatabaseAway as error:  # the stores are checked when they are first used
        log.warning("%s The schema is not checked. %s", error, error.__cause__ or error.__context__)
    except ConfigurationError as error:
        if not is_shell:
            raise
        log.warning("%s", error)
    finally:
        catalogue.close()


def _check_stores(stores: Stores) -> None:
    for store in stores.values():
        try:
            store.check()
        except StoreMissing as error:
            raise ConfigurationError(error.advice) from error
        except StoreUnavailable as error:
            log.warning("The store %s cannot be checked. %s", store.name, error)
        except DatabaseAway:
            raise
        except DatabaseError as error:
            reason = " ".join(str(error.__cause__).split())
            raise ConfigurationError(f"The store {store.name} cannot be checked. {error} {reason}") from error
