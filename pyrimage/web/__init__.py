"""What every face of the service shares: the request, its path and body, its transaction, its errors, and resources."""

from pyramid.config import Configurator

from ..identity.policy import SecurityPolicy
from .request import Request
from .views import scan_views


def includeme(config: Configurator) -> None:
    """Set up what every face shares."""
    config.set_request_factory(Request)
    config.set_security_policy(SecurityPolicy())
    for module in ("tweens", "errors", "paths", "resources"):
        config.include(f"{__name__}.{module}")
    for module in ("members", "resources"):
        scan_views(config, f"{__name__}.{module}")
