"""Formatters: what a line holds, as text and as JSON. Over real requests: tests/functional/test_logging.py."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from factories import ALICE
from logged import FIELDS
from pyrimage.catalogue.records import Identity
from pyrimage.environ import IDENTITY, IMAGE_ID, REQUEST_ID
from pyrimage.logs import JsonFormatter, LogFormatter, answering

ENVIRON = {REQUEST_ID: "req-of-this-test", IMAGE_ID: "f17", IDENTITY: ALICE}


def record(message: object = "hello", *args: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("pyrimage.x", logging.WARNING, __file__, 1, message, args, None)
    vars(made).update(more)
    return made


def formatted(formatter: logging.Formatter, environ: Mapping[str, Any] | None = None, **more: Any) -> str:
    """Format a record while a request with this environ is answered."""
    token = answering.set(environ)
    try:
        return formatter.format(record(**more))
    finally:
        answering.reset(token)


def as_json(*args: object, formatter: logging.Formatter | None = None, **more: Any) -> dict[str, Any]:
    """Return a record's one line."""
    line = (formatter or JsonFormatter()).format(record(*args, **more))
    assert line.splitlines() == [line]
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("environ", [None, {}])
def test_a_line_of_no_request_says_so(environ: dict[str, Any] | None) -> None:
    assert formatted(LogFormatter(FIELDS), environ) == "- - -: hello"
    fields = json.loads(formatted(JsonFormatter(), environ))
    assert (fields["request_id"], fields["image_id"], fields["caller"]) == (None, None, None)


def test_what_a_record_brings_counts_and_not_what_is_answered_now() -> None:
    attached = {"request_id": "req-before", "image_id": None, "caller": "bob"}
    assert formatted(LogFormatter(FIELDS), ENVIRON, request_fields=attached) == "req-before - bob: hello"
    fields = json.loads(formatted(JsonFormatter(), ENVIRON, request_fields=attached))
    assert {name: fields[name] for name in attached} == attached


@pytest.mark.parametrize("name", ["eve\x85forged", "eve\x1b[2J", "eve\u2028forged", "eve\nforged", "e" * 100_000])
def test_a_callers_name_forges_no_line_and_has_a_limit(name: str) -> None:
    said = formatted(LogFormatter(FIELDS), {IDENTITY: Identity(user=name)})
    assert said.splitlines() == [said]
    assert "\x1b" not in said
    assert len(said) < 300


def test_a_json_line_holds_what_is_documented() -> None:
    moment = record(created=1356188400.0625)
    assert json.loads(JsonFormatter().format(moment)) == {
        "time": "2012-12-22T15:00:00.062+00:00",
        "level": "WARNING",
        "logger": "pyrimage.x",
        "process": moment.process,
        "message": "hello",
        "request_id": None,
        "image_id": None,
        "caller": None,
    }


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time that is hours from UTC."""
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_away")
def test_times_of_json_lines_are_utc_in_whatever_format() -> None:
    for dates, text in ((None, "2012-12-22T15:00:00.000+00:00"), ("%d %b %H:%M %z", "22 Dec 15:00 +0000")):
        assert as_json(created=1356188400.0, formatter=JsonFormatter(datefmt=dates))["time"] == text


MESSAGES = ["line\nfeed", "\u2028\x85\x0b\x1c", '"quoted" \\', "a\0b", "f\xfcr \U0001f600", "\udcff", "{}", ""]


@pytest.mark.parametrize("message", MESSAGES, ids=ascii)
def test_any_message_is_one_json_line_of_ascii(message: str) -> None:
    """S46: a line feed forges no line."""
    assert JsonFormatter().format(record(message)).isascii()
    assert as_json(message)["message"] == message
    assert as_json("<%s>", message)["message"] == f"<{message}>"


@pytest.mark.parametrize(("message", "shown"), [(b"\xff\n", r"b'\xff\n'"), (ValueError("no"), "no")])
def test_a_message_that_is_no_text_is_shown_as_text(message: object, shown: str) -> None:
    assert as_json(message)["message"] == as_json("%s", message)["message"] == shown


def test_a_traceback_stays_on_the_line_of_its_error() -> None:
    try:
        try:
            raise OSError("the \n cause")
        except OSError as cause:
            raise ValueError("f\xfcr \udcff") from cause
    except ValueError:
        found = as_json(exc_info=sys.exc_info())
    assert found["message"] == "hello"
    for text in ("Traceback (most recent call last)", "OSError: the \n cause", "test_logs.py", "ValueError: f\xfcr"):
        assert text in found["exception"]


def test_what_libraries_attach_to_a_record_is_not_shown() -> None:
    """S44, S46."""
    attached: dict[str, Any] = {"password": "secret", "headers": {"X-Auth-Token": "secret"}, "data": object()}
    assert as_json(**attached).keys() == as_json().keys()
