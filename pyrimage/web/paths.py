"""The one spelling that a path may have: what traversal would take as well is refused."""

import re
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotImplemented
from pyramid.response import Response

from ..environ import REFUSAL
from ..errors import Invalid, NotFound
from .bodies import check_body_fields
from .request import Request

MAX_SEGMENTS = 8  # of a path; ours have five
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
NOTHING = "There is nothing at this path."

# What traversal would make sense of: doubled slashes, dots, views by @@name; and what no id or name may hold.
_NOT_CANONICAL = re.compile(r"//|/\.\.?(/|$)|/@@|[\x00-\x1f\x7f\\]|\xc2[\x80-\x9f]")  # at last, U+0080 to U+009F
_TARGET = re.compile(r"(?:/|https?://)[^\x00-\x20\x7f#]*", re.IGNORECASE)


def check_request(request: Request) -> None:
    """Refuse whom the authentication middleware refused, an unknown method, and any other spelling of a path.

    And a body that is not what it seems: here, so that no reader of a body can forget it.
    Called at the root of the tree. The server decodes ``%2f``, merges a leading ``//`` and drops tabs before PATH_INFO,
    so its REQUEST_URI is looked at too.
    """
    environ = request.environ
    if REFUSAL in environ:
        raise environ[REFUSAL]
    if environ["REQUEST_METHOD"] not in METHODS:
        name = environ["REQUEST_METHOD"][:20]
        raise HTTPNotImplemented(f"{name!a} is no method known here; GET, HEAD, POST, PUT and DELETE are.")
    raw = environ.get("REQUEST_URI", "/")
    if not _TARGET.fullmatch(raw) and (environ["REQUEST_METHOD"], raw) != ("OPTIONS", "*"):
        raise Invalid("A target begins with / or http://, and holds neither control characters nor #.")
    if environ["REQUEST_METHOD"] in ("POST", "PUT"):
        check_body_fields(environ)
    raw = re.sub("^[a-zA-Z]+://[^/]*", "", raw.partition("?")[0])
    path = environ["PATH_INFO"]
    # Pyramid keeps a thousand paths, each with all its segments.
    if path.count("/") > MAX_SEGMENTS or _NOT_CANONICAL.search(path) or raw.startswith("//") or "%2f" in raw.lower():
        raise NotFound(NOTHING)


def is_exact(request: Request) -> bool:
    """Say whether the path ends where the context and its view do; a slash at its end is for collections only."""
    if request.subpath:
        return False
    return not request.environ["PATH_INFO"].endswith("/") or (request.context.is_collection and not request.view_name)


def exact_path(view: Any, info: Any) -> Any:
    """Derive views that answer their own path alone: no path behind it, and a slash at its end for collections only."""
    if info.exception_only:
        return view

    def exact_view(context: Any, request: Request) -> Response:
        if not is_exact(request):
            raise NotFound(NOTHING)
        return view(context, request)

    return exact_view


def includeme(config: Configurator) -> None:
    """Let every view answer its exact path alone."""
    config.add_view_deriver(exact_path)
