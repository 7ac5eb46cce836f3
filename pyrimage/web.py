"""What both servers share: the request, its id, the check of its path, and every error's shape."""

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from pyramid.config import Configurator
from pyramid.decorator import reify
from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import (
    HTTPException,
    HTTPForbidden,
    HTTPMethodNotAllowed,
    HTTPNotFound,
    HTTPNotImplemented,
)
from pyramid.registry import Registry
from pyramid.request import Request as PyramidRequest
from pyramid.response import Response
from pyramid_tm import explicit_manager
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from transaction import TransactionManager
from webob.multidict import MultiDict

from . import errors
from .blobs import BlobDataManager, Blobs
from .images.interfaces import Images, Members
from .images.local import LocalImages
from .images.members import LocalMembers
from .logs import REQUEST_ID, answering
from .models import make_session
from .schemas.headers import check_body_fields
from .security import REFUSAL, SecurityPolicy
from .server.logtext import shown
from .settings import Settings
from .stores import Stores

log = logging.getLogger(__name__)

Handler = Callable[[PyramidRequest], Response]

ERROR_KIND = "X-Pyrimage-Error"  # the registry's: four errors are 409, and its client must tell them apart
RETRY_AFTER = "5"  # seconds
MAX_SEGMENTS = 8  # of a path; ours have five
MAX_ACCEPT = 4096  # characters; a longer one is as good as none, for WebOb would take a second and 100 MB to read it
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})

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
    errors.StoreFull: (507, "Insufficient Storage"),
    errors.StoreUnavailable: (503, "Service Unavailable"),
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


class Request(PyramidRequest):
    """A request with what the views need, each made at its first use.

    Attributes of the class: Pyramid's ``add_request_method`` would build a new class for every request.
    """

    upload: BlobDataManager | None = None

    @reify
    def tm(self) -> TransactionManager:
        """The transaction manager of this request alone."""
        return explicit_manager(self)

    @reify
    def dbsession(self) -> Session:
        """The session that commits with the request's transaction."""
        return make_session(self)

    @reify
    def images(self) -> Images:
        """The catalogue."""
        return LocalImages(self.dbsession, self.settings)

    @reify
    def members(self) -> Members:
        """With whom images are shared."""
        return LocalMembers(self.dbsession, self.settings)

    @reify
    def GET(self) -> MultiDict:  # noqa: N802 - the name is WebOb's
        """The parameters of the query; WebOb takes time to decode them that grows with the square of their length."""
        query = self.environ.get("QUERY_STRING", "").encode("latin-1").replace(b"+", b" ")
        pairs = (pair.partition(b"=") for pair in re.split(b"[&;]", query) if pair)
        return MultiDict(
            [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, _, value in pairs]
        )

    @property
    def settings(self) -> Settings:
        """The ini's ``pyrimage.*`` keys."""
        settings: Settings = self.registry["pyrimage.settings"]
        return settings

    @property
    def blobs(self) -> Blobs:
        """This server's stores and claims."""
        blobs: Blobs = self.registry["pyrimage.blobs"]
        return blobs

    @property
    def stores(self) -> Stores:
        """The stores by scheme."""
        return self.blobs.stores

    @reify
    def service_url(self) -> str:
        """The URL of ``/``, without its slash: the setting's, or what the client called us."""
        if self.settings.public_endpoint is not None:
            return self.settings.public_endpoint
        if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", self.host):
            raise errors.Invalid("Host is not a host name.")
        return f"{self.scheme}://{self.host}{quote(self.script_name)}"


def answers_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Give every answer the headers that all have, and every request its id; the outermost tween."""

    def answers_tween(request: Request) -> Response:
        request_id = request.environ[REQUEST_ID] = f"req-{uuid.uuid4()}"
        if len(request.environ.get("HTTP_ACCEPT", "")) > MAX_ACCEPT:
            del request.environ["HTTP_ACCEPT"]
        token = answering.set(request.environ)
        try:
            response = handler(request)
        except Exception as error:  # noqa: BLE001 - the error views failed, or a tween did: error_view logs it
            response = error_view(error, request)
        finally:
            answering.reset(token)
        response.headers["x-openstack-request-id"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return answers_tween


def commit_veto(request: Request, response: Response) -> bool:
    """Abort whatever was raised or is answered with 4xx or 5xx.

    By status alone, a raised 304 or an error view that answers 200 would commit.
    """
    return request.exception is not None or response.status_int >= 400


def error_view(error: Exception, request: Request) -> Response:
    """Answer an exception: ``{"error": {"code": 409, "title": "Conflict", "message": "..."}}``, or plain text.

    The transaction may be over: neither the session nor the identity is touched. A place may know better than
    Pyramid's 403 what to tell a caller who may not; its ``refusal`` is one of our errors.
    """
    if isinstance(error, HTTPForbidden):
        error = getattr(request.context, "refusal", error)
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
    exc_info = error if ours and not isinstance(error, errors.StoreMissing) else None  # that has told what to do
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


def method_not_allowed(request: Request, *allowed: str) -> HTTPMethodNotAllowed:
    """Make the 405 of a place that knows these methods."""
    methods = ", ".join(allowed)
    return HTTPMethodNotAllowed(f"{request.method} is not allowed here; {methods} are.", headers={"Allow": methods})


# What traversal would make sense of: doubled slashes, dots, views by @@name; and what no id or name may hold.
_NOT_CANONICAL = re.compile(r"//|/\.\.?(/|$)|/@@|[\x00-\x1f\x7f\\]|\xc2[\x80-\x9f]")  # at last, U+0080 to U+009F
_TARGET = re.compile(r"(?:/|https?://)[^\x00-\x20\x7f#]*", re.IGNORECASE)


def admit(request: Request) -> None:
    """Refuse what the door did not let in, a method that HTTP does not know, and any other spelling of a path.

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
        raise errors.Invalid("A target begins with / or http://, and holds neither control characters nor #.")
    if environ["REQUEST_METHOD"] in ("POST", "PUT"):
        check_body_fields(environ)
    raw = re.sub("^[a-zA-Z]+://[^/]*", "", raw.partition("?")[0])
    path = environ["PATH_INFO"]
    # Pyramid keeps a thousand paths, each with all its segments.
    if path.count("/") > MAX_SEGMENTS or _NOT_CANONICAL.search(path) or raw.startswith("//") or "%2f" in raw.lower():
        raise errors.NotFound("There is nothing at this path.")


def exact_path(view: Any, info: Any) -> Any:
    """Derive views that answer their own path alone: no path behind it, and a slash at its end for collections only."""
    if info.exception_only:
        return view

    def exact_view(context: Any, request: Request) -> Response:
        takes_slash = context.is_collection and not request.view_name
        if request.subpath or (request.environ["PATH_INFO"].endswith("/") and not takes_slash):
            raise errors.NotFound("There is nothing at this path.")
        return view(context, request)

    return exact_view


def includeme(config: Configurator) -> None:
    """Set up what both servers share. Settings are made here, in code, so that no ini can forget them."""
    config.registry.settings.update({"tm.commit_veto": commit_veto, "tm.annotate_user": False})
    config.set_request_factory(Request)
    config.set_security_policy(SecurityPolicy())
    config.add_tween("pyramid_tm.tm_tween_factory", over="pyramid.tweens.excview_tween_factory")
    config.add_tween("pyrimage.blobs.claims_tween_factory", over="pyramid_tm.tm_tween_factory")
    config.add_tween("pyrimage.web.answers_tween_factory", over="pyrimage.blobs.claims_tween_factory")
    config.add_view_deriver(exact_path)
    config.add_exception_view(error_view, context=Exception)
    config.add_exception_view(error_view, context=HTTPException)
