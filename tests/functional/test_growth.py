"""S40: what the application reads takes time that grows with its length, in its own and others' patterns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from webob import Request

from factories import upload
from growth import check_growth

if TYPE_CHECKING:
    from conftest import Installation

LARGEST = 2**18  # bytes; as max_request_header_size in both inis
UNITS = [
    " ",
    '"',
    ",",
    ";",
    ":",
    "1",
    "a ",
    "*/*,",
    "a/b;c=d,",
    'W/"\\',
    "%",
    "-1,",
    "&a=?",
    "application/vnd.openstack.x;q=0.1,",
]
PLACES = [
    *(f"HTTP_{name}" for name in ("ACCEPT", "HOST", "ORIGIN", "COOKIE", "AUTHORIZATION", "USER_AGENT")),
    *(f"HTTP_{name}" for name in ("RANGE", "IF_RANGE", "IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE")),
    *("QUERY_STRING", "PATH_INFO", "REQUEST_URI", "REQUEST_METHOD"),
]
PLACES_OF_POST = ["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X_IMAGE_META_NAME", "HTTP_CONTENT_RANGE"]
PLACES_OF_LIST = ["QUERY_STRING", "HTTP_HOST"]
PREFIXES = {"QUERY_STRING": "changes-since=", "PATH_INFO": "/images/", "REQUEST_URI": "/images/"}


@pytest.fixture
def ask(installation: "Installation") -> Callable[[str, str, dict[str, str]], None]:
    """A function that asks for a path of an installation that has an image, with what ``environ`` says."""
    upload(installation.client(), id="f17")

    def ask_for(method: str, path: str, environ: dict[str, str]) -> None:
        whole: dict[str, Any] = {**Request.blank(path, method=method).environ, "REMOTE_ADDR": "127.0.0.1", **environ}
        content: Any = installation.wsgi(whole, lambda *_: None)
        if hasattr(content, "close"):
            content.close()

    return ask_for


REQUESTS = [
    ("GET", "/images/none", "HTTP_ACCEPT"),  # the error's shape is negotiated
    *(("GET", "/images/f17", place) for place in PLACES),
    *(("GET", "/images", place) for place in PLACES_OF_LIST),
    *(("POST", "/images", place) for place in PLACES_OF_POST),
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_request_is_answered_in_time_that_grows_with_its_length(unit: str, ask: Callable[..., None]) -> None:
    for method, path, place in REQUESTS:
        prefix = PREFIXES.get(place, "")
        try:
            check_growth(
                lambda value: ask(method, path, {place: value}),  # noqa: B023 - it is called at once
                lambda length: prefix + unit * (length // len(unit)),  # noqa: B023
                LARGEST,
            )
        except AssertionError as error:
            raise AssertionError(f"{method} {path}, {place}: {error}") from error
