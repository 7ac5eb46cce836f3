"""Where the schema stands, and how it gets to where the code wants it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from ..errors import ConfigurationError


def wanted_revision() -> str | None:
    """Return the revision that the code needs."""
    return _scripts().get_current_head()


def current_revision(engine: Engine) -> str | None:
    """Return the database's revision, None for an empty one or for a file that is not there. Raises DatabaseAway."""
    if (file := _sqlite_file(engine)) and not file.exists():
        return None
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Bring the database to the wanted revision."""
    config = _config()
    if file := _sqlite_file(engine):
        file.parent.mkdir(parents=True, exist_ok=True)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(engine: Engine) -> None:
    """Raise ConfigurationError, with the command to run, unless the database has the wanted revision."""
    current, wanted = current_revision(engine), wanted_revision()
    if current == wanted:
        return
    if current is not None and current not in {script.revision for script in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"The database's schema is of revision {current}, which this pyrimage does not know: it is newer. "
            "Install the pyrimage that it was made with, or a later one."
        )
    raise ConfigurationError(
        f"The database's schema is of revision {current}, but this pyrimage needs {wanted}. "
        "Run: pyrimage-manage --config FILE.ini db upgrade"
    )


def _sqlite_file(engine: Engine) -> Path | None:
    url = engine.url
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "pyrimage:alembic")
    return config
