"""What happens around every request: its id, its answer's headers, its transaction, and the end of its upload."""

import uuid
from collections.abc import Callable

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.response import Response

from ..audit import AuditLog
from ..environ import REQUEST_ID
from ..errors import PyrimageError
from ..logs import answering
from .errors import error_view
from .request import Request

Handler = Callable[[Request], Response]

MAX_ACCEPT = 4096  # characters; a longer one is as good as none, for WebOb would take a second and 100 MB to read it
READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def request_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Wrap all that happens to a request: its id, the headers that all answers have, the end of its upload, the audit.

    The outermost tween, over pyramid_tm, for an upload ends when the transaction is over: within it, a flushed session
    still holds SQLite's write lock.
    """
    audit: AuditLog | None = registry.get("pyrimage.audit")

    def request_tween(request: Request) -> Response:
        request_id = request.environ[REQUEST_ID] = f"req-{uuid.uuid4()}"
        if len(request.environ.get("HTTP_ACCEPT", "")) > MAX_ACCEPT:
            del request.environ["HTTP_ACCEPT"]
        token, failure = answering.set(request.environ), None
        try:
            response = handler(request)
        except Exception as error:  # noqa: BLE001 - of the COMMIT, of error views or a tween: error_view logs it
            failure = error
            response = error_view(error, request)
        finally:
            if request.upload is not None:
                request.upload.end(_reason(failure or request.exception))
            answering.reset(token)
        if audit is not None:
            audit.note(request.environ, response.status_int, is_download=_is_download(request, response))
        # Added, for to set a header WebOb looks through all that are there.
        response.headers.add("x-openstack-request-id", request_id)
        response.headers.add("X-Content-Type-Options", "nosniff")
        # Of Authorization, caches know by themselves that an answer is not for all (RFC 9111, 3.5).
        if "HTTP_X_AUTH_TOKEN" in request.environ and "Cache-Control" not in response.headers:
            response.headers.add("Cache-Control", "private")
        return response

    return request_tween


def _is_download(request: Request, response: Response) -> bool:
    """Say whether the answer is an image's bytes, or the URL of the store that has them."""
    has_bytes = response.status_int in (200, 206) and "Content-Disposition" in response.headers
    return request.environ["REQUEST_METHOD"] == "GET" and (has_bytes or response.status_int == 307)


def _reason(error: Exception | None) -> str:
    """Say why an upload failed; what strangers' errors say of themselves is for the log."""
    return str(error) if isinstance(error, PyrimageError) else "The upload failed."


def commit_veto(request: Request, response: Response) -> bool:
    """Abort whatever was raised or is answered with 4xx or 5xx.

    By status alone, a raised 304 or an error view that answers 200 would commit.
    """
    return request.exception is not None or response.status_int >= 400


def has_transaction(request: Request) -> bool:
    """Say whether the request is one that may write; what only reads asks on connections of its own."""
    return request.environ["REQUEST_METHOD"] not in READING


def includeme(config: Configurator) -> None:
    """Set up the tweens, in code, so that no ini can forget them."""
    config.registry.settings.update(
        {"tm.commit_veto": commit_veto, "tm.annotate_user": False, "tm.activate_hook": has_transaction}
    )
    config.add_tween("pyramid_tm.tm_tween_factory", over="pyramid.tweens.excview_tween_factory")
    config.add_tween("pyrimage.web.tweens.request_tween_factory", over="pyramid_tm.tm_tween_factory")
