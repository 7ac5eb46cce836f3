"""Keystone says who is asking. What speaks to it is imported only where ``pyrimage.auth = keystone``."""

from ...errors import ConfigurationError
from ...settings import Settings
from ..policy import WSGIApp


def make_keystone(app: WSGIApp, settings: Settings, ini: str | None) -> WSGIApp:
    """Make the authentication middleware of ``auth = keystone``; opens no connection.

    ini: the path of the file with the section ``[keystone_authtoken]``. Raises ConfigurationError for a bad section,
    and where what is needed is not installed.
    """
    try:
        from .middleware import Keystone  # noqa: PLC0415 - servers without Keystone do without these libraries
    except ImportError as error:
        needed = f"needs {error.name}, which is not installed: pip install pyrimage[keystone]"
        raise ConfigurationError(f"pyrimage.auth = keystone {needed}.") from error
    return Keystone.of_ini(app, settings, ini)
