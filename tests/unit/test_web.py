import contextlib
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
    HTTPMethodNotAllowed,
    HTTPMovedPermanently,
    HTTPNotFound,
    HTTPUnsupportedMediaType,
)
from pyramid.response import Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from webob import Request as WebObRequest

from pyrimage import errors
from pyrimage.environ import REFUSAL
from pyrimage.errors import (
    DatabaseAway,
    Forbidden,
    Invalid,
    NotFound,
    PyrimageError,
    RangeNotSatisfiable,
    StoreUnavailable,
)
from pyrimage.logs import answering
from pyrimage.web.errors import error_view
from pyrimage.web.paths import check_request
from pyrimage.web.request import Request
from pyrimage.web.tweens import answers_tween_factory, commit_veto

MakeRequest = Callable[..., Request]
URL_DECODE = URLDecodeError("utf-8", b"\xff", 0, 1, "invalid")

STATUSES = {
    **dict.fromkeys(("Invalid", "DataMismatch", "ClientLeft"), 400),
    "ClientTooSlow": 408,
    "Unauthenticated": 401,
    "Forbidden": 403,
    "PreconditionFailed": 412,
    "LimitExceeded": 413,
    "NotFound": 404,
    "UnsupportedEncoding": 415,
    "RangeNotSatisfiable": 416,
    **dict.fromkeys(("Conflict", "ImageExists", "UploadInProgress", "UploadEnded"), 409),
    **dict.fromkeys(("PyrimageError", "ConfigurationError", "StoreError", "BlobDamaged"), 500),
    **dict.fromkeys(("DatabaseError", "DatabaseRefused"), 500),
    **dict.fromkeys(("StoreUnavailable", "StoreMissing", "DatabaseBusy", "DatabaseAway"), 503),
    **dict.fromkeys(("StoreFull", "DatabaseFull"), 507),
}


def told(answer: Response) -> tuple[int, str]:
    error = json.loads(answer.body)["error"]
    assert answer.status == f"{error['code']} {error['title']}"
    return error["code"], error["message"]


@pytest.mark.parametrize(
    "name", [name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, PyrimageError)]
)
def test_every_error_of_ours_has_its_status(name: str, make_request: MakeRequest) -> None:
    more = {"RangeNotSatisfiable": (5,), "StoreMissing": ("Mount it.",), "Unauthenticated": ("Basic",)}.get(name, ())
    answer = error_view(getattr(errors, name)("Something is wrong.", *more), make_request())
    assert told(answer) == (STATUSES[name], "Something is wrong.")
    assert ("Retry-After" in answer.headers) == (STATUSES[name] == 503)
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
    ],
)
def test_errors_of_others_say_what_a_client_may_read(
    error: Exception, code: int, message: str, make_request: MakeRequest
) -> None:
    request = make_request(**{"pyrimage.request_id": "req-of-this-test"})
    request.context = None
    assert told(error_view(error, request)) == (code, message)


@pytest.mark.parametrize(("refusal", "code"), [(Forbidden("Not yours."), 403), (NotFound("Not yours."), 404)])
def test_a_place_may_say_what_a_refused_caller_is_told(
    refusal: PyrimageError, code: int, make_request: MakeRequest
) -> None:
    request = make_request()
    request.context = SimpleNamespace(refusal=refusal)
    assert told(error_view(HTTPForbidden(), request)) == (code, "Not yours.")


def test_a_range_behind_the_end_is_told_where_that_is(make_request: MakeRequest) -> None:
    answer = error_view(RangeNotSatisfiable("Too far.", 5), make_request())
    assert answer.headers["Content-Range"] == "bytes */5"


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        (None, '{"error": {"code": 404, "title": "Not Found", "message": "é \U0001f600 \\udfff"}}'),
        ("text/plain", "404 Not Found\n\né \U0001f600 \\udfff\n"),
    ],
)
def test_an_error_is_utf_8_and_escapes_nothing_but_halves_of_characters(
    accept: str | None, body: str, make_request: MakeRequest
) -> None:
    answer = error_view(NotFound("é \U0001f600 \udfff"), make_request(**{"HTTP_ACCEPT": accept} if accept else {}))
    assert answer.body == body.encode()


def test_a_redirection_is_no_error(make_request: MakeRequest) -> None:
    redirection = HTTPMovedPermanently("/elsewhere")
    assert error_view(redirection, make_request()) is redirection


def test_a_method_that_is_not_allowed_names_the_others(make_request: MakeRequest) -> None:
    request = make_request(REQUEST_METHOD="PATCH")
    answer = error_view(
        HTTPMethodNotAllowed("PATCH is not allowed here; GET, PUT are.", headers={"Allow": "GET, PUT"}), request
    )
    assert answer.headers["Allow"] == "GET, PUT"
    assert told(answer) == (405, "PATCH is not allowed here; GET, PUT are.")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "application/json"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("no media type", "application/json"),
        ("text/plain", "text/plain"),
        ("text/*", "text/plain"),
        ("text/plain, application/json;q=0.5", "text/plain"),
        ("text/plain, */*;q=0.1", "text/plain"),
    ],
)
def test_the_shape_is_negotiated(accept: str | None, content_type: str, make_request: MakeRequest) -> None:
    request = make_request(headers={} if accept is None else {"Accept": accept})
    answer = error_view(NotFound("Not there: für."), request)
    assert answer.content_type == content_type
    if content_type == "text/plain":
        assert answer.body.decode() == "404 Not Found\n\nNot there: für.\n"


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


def test_a_path_forges_no_log_line(make_request: MakeRequest, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        error_view(NotFound("Not there."), make_request(PATH_INFO="/a\r\nERROR forged\x1b[2J"))
    [record] = caplog.records
    assert "forged" in record.getMessage()
    assert not set(record.getMessage()) & set("\r\n\x1b")


def test_a_log_line_shows_four_kib_of_a_request_at_most(
    make_request: MakeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request = make_request(PATH_INFO="/\xff" + "a" * 260_000, REQUEST_METHOD="G" * 260_000)
    with caplog.at_level(logging.INFO):
        error_view(Invalid("\xff" * 260_000), request)
    [record] = caplog.records
    assert len(record.getMessage()) < 4096


def test_a_log_line_shows_no_password_of_a_url(make_request: MakeRequest, caplog: pytest.LogCaptureFixture) -> None:
    """S46."""
    with caplog.at_level(logging.INFO):
        error_view(Invalid("http://joe:hunter2@h is not accepted."), make_request(PATH_INFO="/http:%2f%2fu:hunter2@h"))
    [record] = caplog.records
    assert record.getMessage() == "GET /http:%2f%2f***@h: 400 http://***@h is not accepted."


# Every answer


def answered(handler: Callable[[Any], Response], request: Request) -> Response:
    return answers_tween_factory(handler, request.registry)(request)


def fail(request: Any) -> Response:
    raise DatabaseAway("The database cannot be reached.")


@pytest.mark.parametrize(("handler", "code"), [(lambda _: Response(), 200), (fail, 503)])
def test_every_answer_has_a_request_id_also_that_of_a_failing_tween(
    handler: Callable[[Any], Response], code: int, make_request: MakeRequest
) -> None:
    request = make_request()
    answer = answered(handler, request)
    assert answer.status_int == code
    assert answer.headers["x-openstack-request-id"] == request.environ["pyrimage.request_id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("fails", [False, True])
def test_log_lines_can_know_the_request_that_is_answered_and_only_while_it_is(
    fails: bool, make_request: MakeRequest
) -> None:
    seen: list[str] = []

    def handler(request: Any) -> Response:
        seen.append((answering.get() or {})["pyrimage.request_id"])
        return fail(request) if fails else Response()

    request = make_request()
    answered(handler, request)
    assert seen == [request.environ["pyrimage.request_id"]]
    assert answering.get() is None


@pytest.mark.parametrize(
    ("status", "error", "veto"),
    [
        (200, None, False),
        (201, None, False),
        (300, None, False),
        (400, None, True),
        (404, None, True),
        (503, None, True),
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


# The request


@pytest.mark.parametrize(
    "query",
    [
        "",
        "a",
        "a=",
        "=a",
        "a=1&a=2;b=3",
        "&&a=b=c&",
        "a+b=%2B%20",
        "%c3%bc=%C3%BC",
        "\xc3\xbc=\xc3\xbc",
        "a=100%",
    ],
)
def test_parameters_are_read_as_by_webob(query: str, make_request: MakeRequest) -> None:
    environ = make_request(QUERY_STRING=query).environ
    assert list(Request(environ).GET.items()) == list(WebObRequest(environ).GET.items())


@pytest.mark.parametrize("query", ["a=%ff", "%ff", "\xff"])
def test_parameters_are_utf_8(query: str, make_request: MakeRequest) -> None:
    with pytest.raises(UnicodeDecodeError):
        _ = make_request(QUERY_STRING=query).GET


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost"),
        ("images.example.org:9292", "http://images.example.org:9292"),
        ("[::1]:9292", "http://[::1]:9292"),
    ],
)
def test_the_services_url_is_what_the_client_called_us(host: str, url: str, make_request: MakeRequest) -> None:
    assert make_request(HTTP_HOST=host).service_url == url


@pytest.mark.parametrize(
    "host", ["//evil.example", "a/b", "a@b", " a", "a\tb", "a:b", "[::1", "a?b", "a#b", "a\\b", "é"]
)
def test_a_host_that_is_none_makes_no_url(host: str, make_request: MakeRequest) -> None:
    """S51."""
    with pytest.raises(Invalid, match="Host"):
        _ = make_request(HTTP_HOST=host).service_url


def admitted(make_request: MakeRequest, path_info: str, **environ: Any) -> bool:
    with contextlib.suppress(NotFound):
        check_request(make_request(PATH_INFO=path_info, **environ))
        return True
    return False


@pytest.mark.parametrize("path", ["/", "/images", "/images/", "/v1.0/images/a..b", "/images/.a", "/a@@b", "/für"])
def test_a_canonical_path_is_admitted(path: str, make_request: MakeRequest) -> None:
    assert admitted(make_request, path)


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/a//b",
        "/.",
        "/..",
        "/./a",
        "/a/../b",
        "/a/..",
        "/@@a",
        "/a/@@b",
        "/a\\b",
        "/\0",
        "/a\n",
        "/\x7f",
        "/\xc2\x85",
    ],
)
def test_another_spelling_is_not(path: str, make_request: MakeRequest) -> None:
    assert not admitted(make_request, path)


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("/a", True),
        ("/a?b=//c%2f", True),
        ("http://host/a", True),
        ("//a", False),
        ("/a%2fb", False),
        ("/a%2Fb", False),
        ("http://host//a", False),
        ("http://host/a%2fb", False),
    ],
)
def test_the_clients_own_spelling_counts(uri: str, canonical: bool, make_request: MakeRequest) -> None:
    assert admitted(make_request, "/a", REQUEST_URI=uri) is canonical


STRANGE = ["/a%2\tfmembers", "a+b://x//a", "ftp://x/a", "\x01/a", "/a\x7f", "/a b", "/a?b\n", "a", "", "x:80", "*"]


@pytest.mark.parametrize("uri", STRANGE)
def test_a_target_that_http_does_not_have_is_refused(uri: str, make_request: MakeRequest) -> None:
    """S26: the server, if it is not ours, has made a path of it."""
    with pytest.raises(Invalid, match="target"):
        check_request(make_request(PATH_INFO="/a", REQUEST_URI=uri))


def test_the_whole_server_is_a_target_of_options(make_request: MakeRequest) -> None:
    check_request(make_request(PATH_INFO="*", REQUEST_URI="*", REQUEST_METHOD="OPTIONS"))


def test_a_caller_whom_the_door_refused_is_not_admitted(make_request: MakeRequest) -> None:
    with pytest.raises(Forbidden, match="the reason"):
        check_request(make_request(**{REFUSAL: Forbidden("the reason")}))
