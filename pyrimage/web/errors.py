"""How errors are answered: one table of statuses, one shape, and 405 where no view takes the method."""

import json
import logging
from collections.abc import Iterator

from pyramid.config import Configurator
from pyramid.exceptions import PredicateMismatch, URLDecodeError
from pyramid.httpexceptions import HTTPException, HTTPForbidden, HTTPMethodNotAllowed, HTTPNotFound
from pyramid.response import Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .. import errors
from ..environ import REQUEST_ID
from ..server.logtext import shown
from ..signatures import ERROR_KIND
from .paths import is_exact
from .request import Request

log = logging.getLogger(__name__)

RETRY_AFTER = "5"  # seconds

_ORDER = ("GET", "HEAD", "POST", "PUT", "DELETE")  # of methods, as they are told

STATUS: dict[type[Exception], tuple[int, str]] = {
    errors.Invalid: (400, "Bad Request"),
    errors.ClientLeft: (400, "Bad Request"),
    errors.ClientTooSlow: (408, "Request Timeout"),
    errors.Unauthenticated: (401, "Unauthorized"),
    errors.Forbidden: (403, "Forbidden"),
    errors.NotFound: (404, "Not Found"),
    errors.Conflict: (409, "Conflict"),
    errors.PreconditionFailed: (412, "Precondition Failed"),
    errors.LimitExceeded: (413, "Request Entity Too Large"),
    errors.UnsupportedEncoding: (415, "Unsupported Media Type"),
    errors.RangeNotSatisfiable: (416, "Range Not Satisfiable"),
    errors.TooManyAttempts: (429, "Too Many Requests"),
    errors.StoreFull: (507, "Insufficient Storage"),
    errors.StoreUnavailable: (503, "Service Unavailable"),
    errors.OriginFailed: (502, "Bad Gateway"),
    errors.OriginTooSlow: (504, "Gateway Timeout"),
    errors.IdentityServiceAway: (503, "Service Unavailable"),
    errors.DatabaseFull: (507, "Insufficient Storage"),
    errors.DatabaseBusy: (503, "Service Unavailable"),
    errors.DatabaseAway: (503, "Service Unavailable"),
    errors.PyrimageError: (500, "Internal Server Error"),
    URLDecodeError: (400, "Bad Request"),
    PoolTimeoutError: (503, "Service Unavailable"),
    Exception: (500, "Internal Server Error"),
}

# Words of others that a client may read; what an exception says of itself is for the log.
_MESSAGES: dict[type[Exception], str] = {
    HTTPNotFound: "There is nothing at this path.",
    HTTPForbidden: "You are not allowed to do this.",
    URLDecodeError: "The path is not UTF-8.",
    PoolTimeoutError: "All connections to the database are in use.",
}


def error_view(error: Exception, request: Request) -> Response:
    """Answer an exception: ``{"error": {"code": 409, "title": "Conflict", "message": "..."}}``, or plain text.

    The transaction may be over: neither the session nor the identity is touched. A resource may know better than
    Pyramid's 403 what to tell a caller who may not; its ``refusal`` is one of our errors.
    """
    if isinstance(error, HTTPForbidden | errors.RightLost):
        error = getattr(getattr(request, "context", None), "refusal", error)
    if isinstance(error, HTTPException):
        if error.code < 400:
            return error
        code, title = error.code, error.title
    else:
        code, title = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    message = _message(error, request)
    ours = code >= 500 and code != 501  # that is for methods of the client's own making
    level = logging.INFO if not ours else logging.ERROR if code == 500 else logging.WARNING
    path = shown(request.environ.get("PATH_INFO", ""))
    # Then it is told already what to do, or whose fault it is.
    told = isinstance(error, errors.StoreMissing | errors.OriginFailed | errors.IdentityServiceAway)
    exc_info = error if ours and not told else None
    log.log(level, "%s %s: %d %s", shown(request.method), path, code, shown(message), exc_info=exc_info)
    response = Response(status=f"{code} {title}", content_type="application/json", charset="UTF-8")
    if _wants_text(request):
        response.content_type = "text/plain"
        text = f"{code} {title}\n\n{message}\n"
    else:
        text = json.dumps({"error": {"code": code, "title": title, "message": message}}, ensure_ascii=False)
    response.body = text.encode(errors="backslashreplace")  # halves of characters, which UTF-8 cannot hold
    response.headers.extend(_headers_of(error, code, request))
    return response


def _headers_of(error: Exception, code: int, request: Request) -> Iterator[tuple[str, str]]:
    if code == 503:
        yield "Retry-After", RETRY_AFTER
    if isinstance(error, errors.TooManyAttempts):
        yield "Retry-After", str(error.seconds)
    if isinstance(error, errors.RangeNotSatisfiable):
        yield "Content-Range", f"bytes */{error.size}"
    if isinstance(error, errors.PyrimageError) and request.settings.application == "registry":
        yield ERROR_KIND, type(error).__name__
    if isinstance(error, errors.UnsupportedEncoding):
        yield "Accept-Encoding", "identity"  # what a client could send instead (RFC 9110, 15.5.16)
    if isinstance(error, errors.Unauthenticated):
        yield "WWW-Authenticate", error.challenge
    if isinstance(error, HTTPException) and "Allow" in error.headers:
        yield "Allow", error.headers["Allow"]


def _message(error: Exception, request: Request) -> str:
    if isinstance(error, errors.PyrimageError):
        return str(error)
    for kind, message in _MESSAGES.items():
        if isinstance(error, kind):
            return message
    if isinstance(error, HTTPException):
        return str(error.detail or error.explanation)
    return f"An internal error; the server's log tells more under {request.environ.get(REQUEST_ID)}."


def _wants_text(request: Request) -> bool:
    offers = request.accept.acceptable_offers(["application/json", "text/plain"])
    return bool(offers) and offers[0][0] == "text/plain"


def method_not_allowed(error: PredicateMismatch, request: Request) -> Response:
    """Answer 405, with the methods that the resource's views take, where a view is there but not for this method."""
    if not is_exact(request):
        return error_view(HTTPNotFound(), request)
    allowed = _methods(request)
    text = f"{request.method} is not allowed here; {allowed} are."
    return error_view(HTTPMethodNotAllowed(text, headers={"Allow": allowed}), request)


def _methods(request: Request) -> str:
    """Ask Pyramid which methods the views of this context and name take; those for some paths only do not count."""
    found: set[str] = set()
    for view in request.registry.introspector.get_category("views") or ():
        described = view["introspectable"]
        is_here = described["name"] == request.view_name and described["path_info"] is None
        if is_here and isinstance(described["context"], type) and isinstance(request.context, described["context"]):
            found.add(described["request_methods"])
    return ", ".join(method for method in _ORDER if method in found or (method == "HEAD" and "GET" in found))


def includeme(config: Configurator) -> None:
    """Set up the views of errors."""
    config.add_exception_view(error_view, context=Exception)
    config.add_exception_view(error_view, context=HTTPException)
    config.add_exception_view(method_not_allowed, context=PredicateMismatch)
