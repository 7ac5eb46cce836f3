"""How views are registered: those of GET before others, for Pyramid tries the views of a resource in that order.

Each that does not take the request's method raises an exception that is an answer, made for nobody: without the order,
a thirteenth of all that a HEAD costs. Venusian by itself goes by the functions' names.
"""

from typing import Any

from pyramid.config import Configurator
from pyramid.view import view_config

_CATEGORIES = ("pyrimage.get", "pyramid")  # of Venusian's, in their order; the second is view_config's own


class get_view_config(view_config):  # noqa: N801 - spelled as its base
    """Register a view of GET and HEAD; the other options are those of ``view_config``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(request_method="GET", _category=_CATEGORIES[0], **options)


def scan_views(config: Configurator, package: str) -> None:
    """Register the views of a module, or of all below a package."""
    for category in _CATEGORIES:
        config.scan(package, categories=(category,))
