"""Requests that come again, because an answer was lost or somebody had read them: they change nothing more.

A request that changes rows may name a key of its own in ``Idempotency-Key``. Its answer is written down in the same
transaction as what it changed. One that comes again gets that answer: before anybody looks for what it was about, which
may be gone, or after it has failed, if the first one was under way until then. Source: ours.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable
from datetime import timedelta

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.response import Response

from ..catalogue.interfaces import Answer, Answers
from ..catalogue.records import utcnow
from ..errors import Conflict, Invalid
from ..signatures import DIGEST, IDEMPOTENCY_KEY, PURGE_PROPERTIES, WHO
from ..web.request import Request
from ..web.tweens import READING
from .callers import is_signed

log = logging.getLogger(__name__)

Handler = Callable[[Request], Response]

KEPT = timedelta(minutes=10)  # longer than anybody sends a request again, and than its signature is good for
FORGET_EVERY = 60.0  # seconds


def replay_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Answer a request that comes again; over the transaction, so that one that failed is over."""
    answers = registry["pyrimage.catalogue"].answers
    forgotten_at, is_more = time.monotonic(), False

    def forget() -> None:
        nonlocal forgotten_at, is_more
        if is_more or time.monotonic() - forgotten_at > FORGET_EVERY:
            forgotten_at, is_more = time.monotonic(), False
            try:
                is_more = answers.forget(utcnow() - KEPT)
            except Exception:
                log.warning("old answers are not removed now", exc_info=True)

    def replay_tween(request: Request) -> Response:
        key = _key(request)
        if key is None:
            return handler(request)
        if (answer := answers.find(key)) is not None:
            return _replay(request, answer)
        try:
            response = handler(request)
        except Exception:  # of a COMMIT, say
            if (answer := answers.find(key)) is not None:
                return _replay(request, answer)
            raise
        if response.status_int >= 400 and (answer := answers.find(key)) is not None:
            return _replay(request, answer)
        forget()
        return response

    return replay_tween


def note_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Write down what a request is answered with, in its transaction."""

    def note_tween(request: Request) -> Response:
        response: Response = handler(request)
        key = _key(request)
        if key is not None and response.status_int < 400:
            request.writes.note_answer(Answer(key, _digest(request), response.text if response.body else ""))
        return response

    return note_tween


def block(request: Request, key: str) -> None:
    """Let no request with this key change anything any more."""
    answers: Answers = request.registry["pyrimage.catalogue"].answers
    answers.block(key)


def refuse_used(request: Request, key: str, message: str) -> None:
    """Refuse what a key was used for already. Raises Conflict."""
    answers: Answers = request.registry["pyrimage.catalogue"].answers
    if answers.find(key) is not None:
        raise Conflict(message)


def _key(request: Request) -> str | None:
    """Return the key of a request that changes something. Raises Invalid.

    If the request is signed: of others nothing says that the body is that of the first time, or who asked then.
    """
    environ = request.environ
    key: str | None = environ.get("HTTP_IDEMPOTENCY_KEY")
    if not key or environ["REQUEST_METHOD"] in READING or not is_signed(request):
        return None
    if not re.fullmatch("[!-~]{1,255}", key):
        raise Invalid(f"{IDEMPOTENCY_KEY}: must be 1 to 255 printable characters of ASCII, without blanks.")
    return key


def _digest(request: Request) -> str:
    """Return what a request is told from others by: what is asked, and by whom. The signature covers all of it."""
    environ = request.environ
    asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""))
    headers = (environ.get(f"HTTP_{name.upper().replace('-', '_')}", "") for name in (DIGEST, *WHO, PURGE_PROPERTIES))
    return hashlib.sha256("\n".join([*asked, *headers]).encode("latin-1")).hexdigest()


def _replay(request: Request, answer: Answer) -> Response:
    """Answer as the first time. Raises Conflict if the key was another request's."""
    if answer.request != _digest(request):
        raise Conflict(f"{IDEMPOTENCY_KEY}: was used for another request.")
    log.info("a request that was answered already came again")
    if not answer.body:
        return Response(status=204)
    return Response(answer.body.encode(), content_type="application/json", charset="UTF-8")


def includeme(config: Configurator) -> None:
    """Set up both tweens."""
    config.add_tween(
        f"{__name__}.note_tween_factory",
        over="pyramid.tweens.excview_tween_factory",
        under="pyramid_tm.tm_tween_factory",
    )
    config.add_tween(
        f"{__name__}.replay_tween_factory",
        over="pyramid_tm.tm_tween_factory",
        under="pyrimage.web.tweens.request_tween_factory",
    )
