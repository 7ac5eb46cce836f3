"""What the log shows of requests: bounded, printable, and without secrets, in lines of ours and of waitress."""

import logging
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from growth import check_growth
from pyrimage.server.logtext import LINE, SHOWN, shown
from servers.in_process_server import echo, receive_all, request, serving

MASKED = {
    "/x?a=1&Signature=hunter2&b=2": "/x?a=1&Signature=***&b=2",
    "/x?pwd=hunter2": "/x?pwd=***",
    "/x?api_key=hunter2&apikey=hunter2": "/x?api_key=***&apikey=***",
    "/x?%73i%2567=hunter2": "/x?%73i%2567=***",
    "/x?sig%3Dhunter2%26a=b": "/x?sig%3D***%26a=***",
    "/x?sig=hunter%26hunter2&a=b": "/x?sig=***&a=b",
    "/x?sig=hunter%2526hunter2&a=b": "/x?sig=***&a=b",
    "/x?a=b=sig=c": "/x?a=b=sig=c",
    "/x?a?sig=hunter2": "/x?a?sig=***",
    "/x#access_token=hunter2": "/x#access_token=***",
    "/x?a=b;sig=hunter2": "/x?a=b;sig=***",
    "/x?a=1%3Bsig%3Dhunter2&b=c": "/x?a=1%3Bsig%3D***&b=c",
    "/x?sig=hunter2;hunter2&b=c": "/x?sig=***&b=c",
    "/x?sort_key=name": "/x?sort_key=name",
    f"/images/pyr_{'a' * 43}/members": "/images/***/members",
    "/images/pyr_image": "/images/pyr_image",
    "/tokens/x?limit=3": "/tokens/x?limit=3",
    "/x?location=https://h/d?X-Amz-Signature=hunter2&a=b": "/x?location=https://h/d?X-Amz-Signature=***&a=b",
    "/x?location=https%3A//h/d%3Fsig%3Dhunter2%2526a%26b=c": "/x?location=https%3A//h/d%3Fsig%3D***%26b=c",
    "/x?location=https%253A//h/d%253Fsig%253Dhunter2&a=b": "/x?location=https%253A//h/d%253Fsig%253D***&a=b",
    "/x?location=http://joe:hunter2@h/d@e": "/x?location=http://***@h/d@e",
    "/x?location=http://joe:hun@ter2@h": "/x?location=http://***@h",
    "/x?location=//joe:hunter2@h": "/x?location=//***@h",
    "/x?location=http%3A%2F%2Fjoe%3Ahunter2%40h": "/x?location=http%3A%2F%2F***%40h",
    "/x?a=https%253A//u:hunter2@h": "/x?a=https%253A//***@h",
    "/x?a=https%253A%252F%252Fu%253Ahun%25ter2%2540h/d": "/x?a=https%253A%252F%252F***%2540h/d",
    "/x?a=http%3A//u:hunter%2F2@h": "/x?a=http%3A//***@h",
    "/x?a=http://u%3Ahunter2%40h": "/x?a=http://***%40h",
    "/x?a=https%3A%2F%2Fu:hunter2%26x%40h%2F": "/x?a=https%3A%2F%2F***%40h%2F",
    "http://joe:hunter2&x@h/x": "http://***@h/x",
    "/x?authkey=hunter2": "/x?authkey=***",
    "/x?name=joe@h&a=100%": "/x?name=joe@h&a=100%",
    # cut within a password
    "/?a=http://joe:hunter2" + "x" * SHOWN + "@h": "/?a=http://***...",
    "/?a=http%253A%252F%252Fjoe:hunter2" + "x" * SHOWN + "@h": "/?a=http%253A%252F%252F***...",
}


@pytest.mark.parametrize(("target", "said"), MASKED.items())
def test_what_is_secret_in_a_target_is_not_shown_s46(target: str, said: str) -> None:
    """S46: through two layers of percent-encoding."""
    assert shown(target) == said


@pytest.mark.parametrize("character", ["a", "\xff", "\0", "\U0001f600", "\\"])
def test_no_text_is_shown_longer_than_asked_for(character: str) -> None:
    assert shown(character * 100_000) == (character.encode("unicode_escape").decode() * 100_000)[:SHOWN] + "..."
    assert shown("a" * SHOWN) == "a" * SHOWN


UNITS = ["?sig", "?sig=", "&sig", ";", ";sig", "sig", "?", "&", "=", "?a=", "//", "//a@", "@", "%", "%25", "%3f", "#"]


@pytest.mark.parametrize("unit", [*UNITS, "%253Fsig%253D"])
@pytest.mark.parametrize("most", [LINE, 2**19])
def test_masks_take_time_that_grows_with_the_length(unit: str, most: int) -> None:
    """S40: also where all of a text were shown, so that no bound is what keeps them quick."""
    check_growth(lambda text: shown(text, most), lambda length: "/?" + unit * (length // len(unit)), 2**18)


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("it failed")


def leave(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["waitress.client_disconnected"].__self__.connected = False
    start_response("200 OK", [])
    return [b"x"]


LONG = {
    "access line": (echo, request("GET //" + "%ff" * 80_000, "Connection: close")),
    "access line of hostile characters": (echo, request("GET //\x85[2J\\n", "Connection: close", "X-User: eve\x85")),
    "access line of a long method": (echo, request("G" * 8000 + " /", "Connection: close")),
    "access line of a long name": (echo, request("GET /", "Connection: close", "X-User: " + "u\xe9" * 100_000)),
    "application that fails": (fail, request("GET /%0a" + "a" * 200_000, "Connection: close")),
    "client that leaves": (leave, request("GET /%0a" + "a" * 200_000, "Connection: close")),
    "header line at fault": (echo, request("GET /", "a" * 200_000)),
    "target at fault": (echo, request("GET a" + "a" * 200_000)),
}


@pytest.mark.parametrize(("app", "raw"), LONG.values(), ids=LONG)
def test_no_line_shows_more_than_four_kib_of_a_request(
    app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]], raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor anything that could be taken for another line."""
    with caplog.at_level(logging.INFO), serving(app) as server:
        receive_all(server.send(raw))
    texts = [record.getMessage() for record in caplog.records]
    fields = [str(vars(record).get("request_fields", "")) for record in caplog.records]
    assert texts
    assert max(len(text) + len(field) for text, field in zip(texts, fields, strict=True)) < LINE + 300
    assert all(text.isprintable() and text.isascii() for text in texts)
