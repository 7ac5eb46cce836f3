"""Where the schema stands, and how it gets to where the code wants it."""

import logging

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from ..errors import ConfigurationError

log = logging.getLogger(__name__)


def wanted_revision() -> str | None:
    """Return the revision that the code needs."""
    return _scripts().get_current_head()


def current_revision(engine: Engine) -> str | None:
    """Return the database's revision, None for an empty one. Raises DatabaseAway."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Bring the database to the wanted revision. Raises ConfigurationError if it has a newer one."""
    before = current_revision(engine)
    _refuse_newer(before)
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    if before != wanted_revision():
        log.info("the database's schema was brought from revision %s to %s", before, wanted_revision())


def check(engine: Engine) -> None:
    """Raise ConfigurationError, with the command to run, unless the database has the wanted revision."""
    current, wanted = current_revision(engine), wanted_revision()
    _refuse_newer(current)
    if current != wanted:
        raise ConfigurationError(
            f"The database's schema is of revision {current}, but this pyrimage needs {wanted}. "
            "Run: pyrimage-manage --config FILE.ini db upgrade"
        )


def _refuse_newer(current: str | None) -> None:
    if current is not None and current not in {script.revision for script in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"The database's schema is of revision {current}, which this pyrimage does not know: it is newer. "
            "Install the pyrimage that it was made with, or a later one."
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "pyrimage:alembic")
    return config
