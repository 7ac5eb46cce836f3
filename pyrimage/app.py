"""The paste application factory: settings, includes, one scan."""

import logging
from typing import Any

from pyramid.config import Configurator
from pyramid.paster import get_app, setup_logging
from sqlalchemy import Engine

from . import web
from .api.resources import find_root
from .blobs import Blobs
from .errors import ConfigurationError, DatabaseAway
from .images.claims import LocalClaims
from .models import make_engine, make_session_factory, migrations
from .security import LocalOnly, WSGIApp
from .settings import Settings, config_from_environment, read_settings
from .stores import make_stores

log = logging.getLogger(__name__)


def main(global_conf: dict[str, str], **ini: Any) -> WSGIApp:
    """Make the API application of an ini's ``[app:main]`` (``use = egg:pyrimage``).

    Opens one connection at most, and keeps none: workers may be forked afterwards. Raises ConfigurationError for a
    bad setting or a schema that is behind; pshell is warned only.
    """
    settings = read_settings(ini)
    engine = make_engine(ini)
    try:
        _check_schema(engine, settings)
    except DatabaseAway as error:
        log.warning("%s The schema is not checked. %s", error, error.__cause__ or error.__context__)
    except ConfigurationError as error:
        if global_conf.get("__script__") != "pshell":
            raise
        log.warning("%s", error)
    finally:
        engine.dispose()
    config = Configurator(settings=ini, root_factory=find_root)
    config.registry["pyrimage.settings"] = settings
    config.registry["pyrimage.engine"] = engine
    config.registry["pyrimage.sessions"] = make_session_factory(engine)
    config.registry["pyrimage.blobs"] = Blobs(make_stores(settings), LocalClaims(engine, settings))
    config.include(web)
    config.scan(f"{__package__}.api")
    return LocalOnly(config.make_wsgi_app(), settings)


def from_config() -> WSGIApp:
    """Make the application of ``$PYRIMAGE_CONFIG``, or of the ini found: for ``waitress-serve --call``."""
    path = str(config_from_environment())
    setup_logging(path)
    app: WSGIApp = get_app(path)
    return app


def _check_schema(engine: Engine, settings: Settings) -> None:
    if settings.auto_migrate:
        migrations.upgrade(engine)
    else:
        migrations.check(engine)
