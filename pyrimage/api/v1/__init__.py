"""The Image API of the guide, and Glance's v1: the same resources and views in two spellings."""

from pyramid.config import Configurator

from ...web.views import scan_views
from .resources import find_root


def includeme(config: Configurator) -> None:
    """Serve this face."""
    config.set_root_factory(find_root)
    scan_views(config, f"{__name__}.views")
