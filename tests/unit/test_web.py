"""What every answer has in common, where no request of the tests makes such answers."""

import inspect
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import (
    HTTPForbidden,
    HTTPMovedPermanently,
    HTTPNotFound,
    HTTPUnsupportedMediaType,
)
from pyramid.response import Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from webob import Request as WebObRequest

from pyrimage import errors
from pyrimage.errors import DatabaseAway, Invalid, NotFound, PyrimageError, RangeNotSatisfiable, StoreUnavailable
from pyrimage.logs import answering
from pyrimage.web.errors import error_view
from pyrimage.web.paths import check_request
from pyrimage.web.request import Request
from pyrimage.web.tweens import commit_veto, request_tween_factory

MakeRequest = Callable[..., Request]
URL_DECODE = URLDecodeError("utf-8", b"\xff", 0, 1, "invalid")

STATUSES = {
    **dict.fromkeys(("Invalid", "DataMismatch", "ClientLeft"), 400),
    "ClientTooSlow": 408,
    "Unauthenticated": 401,
    **dict.fromkeys(("Forbidden", "RightLost"), 403),
    "PreconditionFailed": 412,
    "LimitExceeded": 413,
    "NotFound": 404,
    "UnsupportedEncoding": 415,
    "RangeNotSatisfiable": 416,
    "TooManyAttempts": 429,
    **dict.fromkeys(("Conflict", "ImageExists", "UploadInProgress", "UploadEnded"), 409),
    **dict.fromkeys(("PyrimageError", "ConfigurationError", "StoreError", "BlobDamaged"), 500),
    **dict.fromkeys(("DatabaseError", "DatabaseRefused", "ExportUnusable"), 500),
    **dict.fromkeys(("StoreUnavailable", "StoreMissing", "IdentityServiceAway"), 503),
    **dict.fromkeys(("DatabaseBusy", "DatabaseConflict", "DatabaseAway"), 503),
    **dict.fromkeys(("StoreFull", "DatabaseFull"), 507),
    "OriginFailed": 502,
    "OriginTooSlow": 504,
}


def told(answer: Response) -> tuple[int, str]:
    error = json.loads(answer.body)["error"]
    assert answer.status == f"{error['code']} {error['title']}"
    return error["code"], error["message"]


@pytest.mark.parametrize(
    "name", [name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, PyrimageError)]
)
def test_every_error_of_ours_has_its_status(name: str, make_request: MakeRequest) -> None:
    more: dict[str, int | str] = {
        "RangeNotSatisfiable": 5,
        "StoreMissing": "Mount it.",
        "TooManyAttempts": 60,
        "Unauthenticated": "Basic",
    }
    answer = error_view(
        getattr(errors, name)("Something is wrong.", *([more[name]] if name in more else [])), make_request()
    )
    assert told(answer) == (STATUSES[name], "Something is wrong.")
    assert answer.headers.get("Retry-After") == {429: "60", 503: "5"}.get(STATUSES[name])
    assert answer.headers.get("WWW-Authenticate") == ("Basic" if STATUSES[name] == 401 else None)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("a secret"), 500, "An internal error; the server's log tells more under req-of-this-test."),
        (URL_DECODE, 400, "The path is not UTF-8."),
        (PoolTimeoutError("QueuePool limit of size 5"), 503, "All connections to the database are in use."),
        (HTTPNotFound("/images/secret"), 404, "There is nothing at this path."),
        (HTTPForbidden("ACLDenied secret"), 403, "You are not allowed to do this."),
        (HTTPUnsupportedMediaType("Only JSON."), 415, "Only JSON."),
        (HTTPUnsupportedMediaType(), 415, HTTPUnsupportedMediaType.explanation),
        (NotFound("\xe9 \U0001f600 \udfff"), 404, "\xe9 \U0001f600 \udfff"),
    ],
)
def test_errors_say_what_a_client_may_read(
    error: Exception, code: int, message: str, make_request: MakeRequest
) -> None:
    request = make_request(**{"pyrimage.request_id": "req-of-this-test"})
    request.context = SimpleNamespace()
    assert told(error_view(error, request)) == (code, message)


def test_a_redirection_is_no_error(make_request: MakeRequest) -> None:
    redirection = HTTPMovedPermanently("/elsewhere")
    assert error_view(redirection, make_request()) is redirection


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        *((accept, "application/json") for accept in (None, "", "application/*", "no media type")),
        *((accept, "application/json") for accept in ("text/html", "text/plain;q=0.5, application/json")),
        *((accept, "text/plain") for accept in ("text/*", "text/plain, application/json;q=0.5")),
    ],
)
def test_the_shape_is_negotiated(accept: str | None, content_type: str, make_request: MakeRequest) -> None:
    request = make_request(headers={} if accept is None else {"Accept": accept})
    answer = error_view(NotFound("Not there: f\xfcr \udfff."), request)
    assert answer.content_type == content_type
    if content_type == "text/plain":
        assert answer.body == b"404 Not Found\n\nNot there: f\xc3\xbcr \\udfff.\n"


@pytest.mark.parametrize(
    ("error", "level", "has_traceback"),
    [
        (Invalid("x"), logging.INFO, False),
        (StoreUnavailable("x"), logging.WARNING, True),
        (OSError(), logging.ERROR, True),
    ],
)
def test_faults_are_logged_with_their_traceback_as_errors_if_they_are_ours(
    error: Exception, level: int, has_traceback: bool, make_request: MakeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        error_view(error, make_request())
    [record] = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (level, has_traceback)


def test_a_log_line_shows_four_kib_of_a_request_at_most_and_no_password(
    make_request: MakeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """S46."""
    secret = "http://joe:hunter2@h "
    request = make_request(PATH_INFO=f"/{secret}\xff" + "a" * 260_000, REQUEST_METHOD="G" * 260_000)
    with caplog.at_level(logging.INFO):
        error_view(Invalid(secret + "\xff" * 260_000), request)
    [record] = caplog.records
    assert len(record.getMessage()) < 4096
    assert record.getMessage().count("http://***") == 2


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_of_a_failing_tween_is_one_as_any_other(fails: bool, make_request: MakeRequest) -> None:
    seen: list[str] = []

    def handler(request: Any) -> Response:
        seen.append((answering.get() or {})["pyrimage.request_id"])
        if fails:
            raise DatabaseAway("The database cannot be reached.")
        return Response()

    request = make_request()
    answer = request_tween_factory(handler, request.registry)(request)
    assert answer.status_int == (503 if fails else 200)
    assert seen == [answer.headers["x-openstack-request-id"]] == [request.environ["pyrimage.request_id"]]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answering.get() is None


@pytest.mark.parametrize(
    ("status", "error", "veto"),
    [
        *((status, None, False) for status in (200, 201, 300)),
        *((status, None, True) for status in (400, 404, 503)),
        (200, ValueError(), True),  # an error view that answers 200
        (304, HTTPMovedPermanently(), True),  # one that was raised
    ],
)
def test_whatever_was_raised_or_refused_is_not_committed(
    status: int, error: Exception | None, veto: bool, make_request: MakeRequest
) -> None:
    request = make_request()
    request.exception = error
    assert commit_veto(request, Response(status=status)) is veto


def test_a_range_behind_the_end_is_told_where_that_is(make_request: MakeRequest) -> None:
    assert error_view(RangeNotSatisfiable("Too far.", 5), make_request()).headers["Content-Range"] == "bytes */5"


@pytest.mark.parametrize(
    "query",
    ["", "a", "=a", "a=1&a=2;b=3", "&&a=b=c&", "a+b=%2B%20", "%c3%bc=%C3%BC", "\xc3\xbc=\xc3\xbc", "a=100%"],
)
def test_parameters_are_read_as_by_webob(query: str, make_request: MakeRequest) -> None:
    environ = make_request(QUERY_STRING=query).environ
    assert list(Request(environ).GET.items()) == list(WebObRequest(environ).GET.items())


STRANGE = ["/a%2\tfmembers", "a+b://x//a", "ftp://x/a", "\x01/a", "/a\x7f", "/a b", "/a?b\n", "a", "", "x:80", "*"]


@pytest.mark.parametrize("uri", STRANGE)
def test_a_target_that_http_does_not_have_is_refused(uri: str, make_request: MakeRequest) -> None:
    """S26: the server, if it is not ours, has made a path of it."""
    with pytest.raises(Invalid, match="target"):
        check_request(make_request(PATH_INFO="/a", REQUEST_URI=uri))
