"""What the servers under test serve beside pyrimage, to compare it with."""

from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


def both(loader: Any, global_conf: dict[str, str]) -> Application:
    """Serve ``/bare``, a view without any rules, beside the application: a ``paste.composite_factory``."""
    config = Configurator()
    config.add_view(lambda request: {"name": "bare"}, name="bare", renderer="json")
    bare, main = config.make_wsgi_app(), loader.get_app("main", global_conf=global_conf)

    def dispatch(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return (bare if environ["PATH_INFO"] == "/bare" else main)(environ, start_response)

    return dispatch
