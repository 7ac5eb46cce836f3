"""The paste application factory: settings, includes, and the views of one application."""

import logging
from typing import Any

from pyramid.config import Configurator
from pyramid.paster import get_app, setup_logging
from sqlalchemy import Engine

from . import api, registry, web
from .api.resources import find_root
from .api.views import members
from .blobs import Blobs
from .errors import ConfigurationError, DatabaseAway, DatabaseError, StoreMissing
from .images.claims import LocalClaims
from .images.identities import StoreIdentities
from .models import make_engine, make_session_factory, migrations
from .registry.resources import Root as RegistryRoot
from .security import LocalOnly, LocalRegistry, WSGIApp
from .settings import Settings, config_from_environment, read_settings, refuse_bare_names
from .signing import SignedOnly
from .stores import Stores, make_stores

log = logging.getLogger(__name__)


def main(global_conf: dict[str, str], **ini: Any) -> WSGIApp:
    """Make the application of an ini's section with ``use = egg:pyrimage``: the API, or the registry.

    Opens one connection at most, and keeps none: workers may be forked afterwards. Raises ConfigurationError for a
    bad setting, a schema that is behind or a directory that is not the store's; pshell is warned only, and marks none.
    """
    refuse_bare_names(ini)
    settings = read_settings(ini)
    engine = make_engine(ini)
    is_shell, identities = global_conf.get("__script__") == "pshell", StoreIdentities(engine)
    stores = make_stores(settings, identities.known if is_shell else identities.identify)
    try:
        _check_schema(engine, settings)
        if settings.application == "api":  # the registry has no store
            _check_stores(stores)
    except DatabaseAway as error:  # the stores are checked when they are first used
        log.warning("%s The schema is not checked. %s", error, error.__cause__ or error.__context__)
    except ConfigurationError as error:
        if not is_shell:
            raise
        log.warning("%s", error)
    finally:
        engine.dispose()
    is_registry = settings.application == "registry"
    config = Configurator(settings=ini, root_factory=RegistryRoot if is_registry else find_root)
    config.registry["pyrimage.settings"] = settings
    config.registry["pyrimage.engine"] = engine
    config.registry["pyrimage.sessions"] = make_session_factory(engine)
    config.registry["pyrimage.blobs"] = Blobs(stores, LocalClaims(engine, settings))
    config.include(web)
    for views in (registry, members) if is_registry else (api,):  # the API's views of members serve both
        config.scan(views)
    return _behind_its_door(config.make_wsgi_app(), settings)


def from_config() -> WSGIApp:
    """Make the application of ``$PYRIMAGE_CONFIG``, or of the ini found: for ``waitress-serve --call``."""
    path = str(config_from_environment())
    setup_logging(path)
    app: WSGIApp = get_app(path)
    return app


def _behind_its_door(app: WSGIApp, settings: Settings) -> WSGIApp:
    if settings.application == "api":
        return LocalOnly(app, settings)
    if settings.registry_secret is None:
        return LocalRegistry(app, settings)
    return SignedOnly(app, settings.registry_secret)


def _check_schema(engine: Engine, settings: Settings) -> None:
    if settings.auto_migrate:
        migrations.upgrade(engine)
    else:
        migrations.check(engine)


def _check_stores(stores: Stores) -> None:
    for store in stores.values():
        try:
            store.check()
        except StoreMissing as error:
            raise ConfigurationError(error.advice) from error
        except DatabaseAway:
            raise
        except DatabaseError as error:
            reason = " ".join(str(error.__cause__).split())
            raise ConfigurationError(f"The file store's directory cannot be checked. {error} {reason}") from error
