"""Formatters, and what decides where a program logs. Over real requests: tests/functional/test_logging.py."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from factories import ALICE, NOBODY
from logged import LOGGERS, logs_below, own_logging
from pyrimage.errors import ConfigurationError
from pyrimage.logs import IMAGE_ID, REQUEST_ID, JsonFormatter, LogFormatter, LogOptions, answering, log_file, set_up
from pyrimage.security import ADMINISTRATOR, IDENTITY, Identity
from pyrimage.settings import Settings, read_settings

ENVIRON = {REQUEST_ID: "req-of-this-test", IMAGE_ID: "f17", IDENTITY: ALICE}
FIELDS = "%(request_id)s %(image_id)s %(caller)s: %(message)s"


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


# What is known of the request

CALLERS = {"alice": ALICE, "admin": ADMINISTRATOR, "-": NOBODY}


@pytest.mark.parametrize(("name", "identity"), CALLERS.items(), ids=ascii)
def test_a_line_knows_the_request_that_is_answered(name: str, identity: Identity) -> None:
    environ = {**ENVIRON, IDENTITY: identity}
    said = formatted(LogFormatter(FIELDS), environ)
    assert said == f"req-of-this-test f17 {name}: hello"
    fields = json.loads(formatted(JsonFormatter(), environ))
    known = None if name == "-" else name
    assert (fields["request_id"], fields["image_id"], fields["caller"]) == ("req-of-this-test", "f17", known)


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


@pytest.mark.parametrize("name", ["eve\x85forged", "eve\x1b[2J", "eve\u2028forged", "eve\nforged"])
def test_a_callers_name_forges_no_line(name: str) -> None:
    said = formatted(LogFormatter(FIELDS), {IDENTITY: Identity(user=name)})
    assert said.splitlines() == [said]
    assert "\x1b" not in said
    assert (
        formatted(LogFormatter(FIELDS), request_fields={"caller": name, "image_id": None, "request_id": None}) == said
    )


# JSON


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


MESSAGES = ["line\nfeed", "\r\n", "\u2028\x85\x0b\x1c", '"quoted" \\', "a\0b", "f\xfcr \U0001f600", "\udcff", "{}", ""]


@pytest.mark.parametrize("message", MESSAGES, ids=ascii)
def test_any_message_is_one_json_line_of_ascii(message: str) -> None:
    """S46: a line feed forges no line."""
    assert JsonFormatter().format(record(message)).isascii()
    assert as_json(message)["message"] == message
    assert as_json("<%s>", message)["message"] == f"<{message}>"


@pytest.mark.parametrize(("message", "shown"), [(b"\xff\n", r"b'\xff\n'"), (5, "5"), (ValueError("no"), "no")])
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
    attached: dict[str, Any] = {
        "password": "secret",
        "headers": {"X-Auth-Token": "secret"},
        "taskName": "secret",
        "data": object(),
    }
    assert as_json(**attached).keys() == as_json().keys()
    assert "secret" not in JsonFormatter().format(record(**attached))


# What decides

LogsOf = dict[str, list[str]]


@pytest.fixture(autouse=True)
def loggers_of_its_own() -> Iterator[None]:
    with own_logging():
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of all logs; the program is started in one of those in it."""
    for name in ("etc", "started", "option", "key"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "started")
    return tmp_path


def placed(values: Mapping[str, str], here: Path) -> dict[str, str]:
    return {name: text.replace("HERE", str(here)) for name, text in values.items()}


def read(here: Path, keys: Mapping[str, str]) -> Settings:
    """Read ``pyrimage.log_*`` keys."""
    section = {"auth": "none", "filesystem_store_datadir": "/srv", **placed(keys, here)}
    return read_settings({f"pyrimage.{name}": text for name, text in section.items()})


def given(here: Path, options: Mapping[str, str]) -> LogOptions:
    """Return options as the command line's parser gives them."""
    paths = ("log_dir", "log_config")
    found = {name: Path(text) if name in paths else text for name, text in placed(options, here).items()}
    return LogOptions(**found)  # type: ignore[arg-type]


def start(here: Path, keys: Mapping[str, str], options: Mapping[str, str], loggers: str = LOGGERS) -> None:
    """Set up logging as a program does that is started with keys and loggers in its ini, and with options."""
    ini = here / "etc/pyrimage.ini"
    ini.write_text(f"[app:main]\nuse = egg:pyrimage\n{loggers}", encoding="utf-8")
    set_up("api", ini, read(here, keys), given(here, options))


def told(here: Path, keys: Mapping[str, str], options: Mapping[str, str], loggers: str = LOGGERS) -> LogsOf:
    """Set up logging, log one line, and return what all files hold."""
    start(here, keys, options, loggers)
    logging.getLogger("chatty.x").error("hello")
    return logs_below(here)


OF_THE_INI: LogsOf = {name: ["of the ini: hello"] for name in ("etc/first.log", "etc/second.log")}
SHORT = "%(levelname)s %(message)s"
# Options, keys, and what the files then hold.
DECIDED: dict[str, tuple[dict[str, str], dict[str, str], LogsOf]] = {
    "format of the key": (
        {},
        {"log_format": "key %(message)s", "log_file": "HERE/key/x.log"},
        {"key/x.log": ["key hello"]},
    ),
    "format of the option": (
        {"log_format": "option %(message)s"},
        {"log_format": "key %(message)s", "log_file": "HERE/key/x.log"},
        {"key/x.log": ["option hello"]},
    ),
    "file of the key": (
        {},
        {"log_file": "HERE/key/x.log", "log_format": SHORT},
        {"key/x.log": ["ERROR hello"]},
    ),
    "file of the option": (
        {"log_file": "HERE/option/x.log"},
        {"log_file": "HERE/key/x.log", "log_format": SHORT},
        {"option/x.log": ["ERROR hello"]},
    ),
    "directory of the key": (
        {},
        {"log_dir": "HERE/key", "log_format": SHORT},
        {"key/api.log": ["ERROR hello"]},
    ),
    "directory of the option": (
        {"log_dir": "HERE/option"},
        {"log_dir": "HERE/key", "log_format": SHORT},
        {"option/api.log": ["ERROR hello"]},
    ),
    "dates of the key": (
        {},
        {"log_date_format": "key", "log_format": "%(asctime)s", "log_dir": "HERE/key"},
        {"key/api.log": ["key"]},
    ),
    "dates of the option": (
        {"log_date_format": "option"},
        {"log_date_format": "key", "log_format": "%(asctime)s", "log_dir": "HERE/key"},
        {"key/api.log": ["option"]},
    ),
    "each from another place": (
        {"log_format": "%(asctime)s %(message)s", "log_file": "x.log"},
        {"log_format": "key", "log_dir": "HERE/key", "log_date_format": "dates"},
        {"key/x.log": ["dates hello"]},
    ),
}


@pytest.mark.parametrize("loggers", [LOGGERS, ""], ids=["loggers", "none"])
@pytest.mark.parametrize(("options", "keys", "logs"), DECIDED.values(), ids=DECIDED)
def test_an_option_comes_before_its_key_and_that_before_the_loggers_of_the_ini(
    options: dict[str, str], keys: dict[str, str], logs: LogsOf, loggers: str, here: Path
) -> None:
    assert told(here, keys, options, loggers) == logs


def test_the_loggers_of_the_ini_decide_where_nothing_else_does(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(here, {}, {}) == OF_THE_INI
    assert capsys.readouterr() == ("", "")


ALONE = {"log_format": ("<%(message)s>", "<hello>"), "log_date_format": ("then", "then    ERROR [chatty.x] hello")}


@pytest.mark.parametrize("by", ["option", "key"])
@pytest.mark.parametrize("name", ALONE)
def test_one_of_them_alone_replaces_all_handlers_of_the_inis_root_logger_by_standard_output(
    name: str, by: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, line = ALONE[name]
    said = {name: text}
    assert told(here, said if by == "key" else {}, said if by == "option" else {}) == {}
    assert capsys.readouterr() == (f"{line}\n", "")


def test_handlers_of_other_loggers_stay(here: Path) -> None:
    start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"})
    logging.getLogger("quiet").critical("aside")
    assert logs_below(here) == {"etc/quiet.log": ["of the ini: aside"], "option/api.log": ["aside"]}


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_handler_of_another_logger_goes_on_where_the_root_logger_had_it_too(mode: str, here: Path) -> None:
    shared = LOGGERS.replace("handlers = quiet", "handlers = first").replace("second, quiet", "second")
    shared = shared.replace('first.log",', f'first.log", "{mode}",')
    start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"}, shared)
    logging.getLogger("quiet").critical("aside")
    assert logs_below(here) == {"etc/first.log": ["of the ini: aside"], "option/api.log": ["aside"]}


def test_a_logger_that_was_there_before_goes_on(here: Path) -> None:
    before = logging.getLogger("made.before")
    start(here, {}, {})
    before.error("hello")
    assert logs_below(here) == OF_THE_INI


def test_an_ini_without_loggers_logs_warnings_to_standard_output_as_the_guide_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(here, {}, {}, "")
    for level in (logging.INFO, logging.WARNING):
        logging.getLogger("pyrimage.x").log(level, "hello")
    output, errors = capsys.readouterr()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  WARNING \[pyrimage\.x\] hello\n", output)
    assert errors == ""


def test_json_is_a_format(here: Path) -> None:
    (line,) = told(here, {"log_format": "json"}, {"log_dir": "HERE/option", "log_date_format": "%Z"})["option/api.log"]
    assert (json.loads(line)["message"], json.loads(line)["time"]) == ("hello", "UTC")


def test_our_fields_may_stand_in_a_format(here: Path) -> None:
    assert told(here, {"log_format": FIELDS}, {"log_dir": "HERE/option"}) == {"option/api.log": ["- - -: hello"]}


# Which file

FILES: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "none": ({}, {}, None),
    "empty keys": ({}, {"log_file": ""}, None),
    "key": ({}, {"log_file": "/var/log/x"}, "/var/log/x"),
    "key below key": ({}, {"log_file": "a/x", "log_dir": "/var/log"}, "/var/log/a/x"),
    "key below option": ({"log_dir": "/opt/log"}, {"log_file": "x", "log_dir": "/var/log"}, "/opt/log/x"),
    "absolute key": ({"log_dir": "/opt/log"}, {"log_file": "/x", "log_dir": "/var/log"}, "/x"),
    "option": ({"log_file": "/opt/x"}, {"log_file": "/var/log/x"}, "/opt/x"),
    "option where it was typed": ({"log_file": "a/x"}, {}, "HERE/started/a/x"),
    "option before a relative key": ({"log_file": "a"}, {"log_file": "x"}, "HERE/started/a"),
    "option below option": ({"log_file": "x", "log_dir": "/opt/log"}, {"log_dir": "/var/log"}, "/opt/log/x"),
    "option below key": ({"log_file": "x"}, {"log_file": "y", "log_dir": "/var/log"}, "/var/log/x"),
    "absolute option": ({"log_file": "/x", "log_dir": "/opt/log"}, {}, "/x"),
    "directory alone": ({"log_dir": "/opt/log"}, {}, "/opt/log/registry.log"),
    "directory of the key alone": ({}, {"log_dir": "/var/log"}, "/var/log/registry.log"),
}


@pytest.mark.parametrize(("options", "keys", "path"), FILES.values(), ids=FILES)
def test_the_directory_is_the_prefix_of_a_relative_file(
    options: dict[str, str], keys: dict[str, str], path: str | None, here: Path
) -> None:
    expected = None if path is None else Path(path.replace("HERE", str(here)))
    assert log_file("registry", read(here, keys), given(here, options)) == expected


@pytest.mark.parametrize("text", ["x.log", "./x.log", "log/x.log"])
def test_a_file_of_the_ini_does_not_depend_on_where_the_program_is_started(text: str, here: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start(here, {"log_file": text}, {})
    assert str(caught.value) == f"pyrimage.log_file = {text}: use an absolute path, or set pyrimage.log_dir."


@pytest.mark.parametrize("path", ["nowhere/x.log", "etc", "etc/pyrimage.ini/x.log"])
@pytest.mark.parametrize("by", ["option", "key"])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(by: str, path: str, here: Path) -> None:
    file = {"log_file": f"HERE/{path}"}
    with pytest.raises(ConfigurationError, match=f"The log file {here}/{path} cannot be opened: [NI].* directory"):
        start(here, file if by == "key" else {}, file if by == "option" else {})


def test_a_pipe_is_no_log_file(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with pytest.raises(ConfigurationError, match=f"The log file {here}/pipe is a pipe"):
        start(here, {"log_file": "HERE/pipe"}, {})


@pytest.mark.parametrize("by", ["option", "key"])
def test_a_directory_that_does_not_exist_is_not_made(by: str, here: Path) -> None:
    place = {"log_dir": "HERE/nowhere"}
    with pytest.raises(ConfigurationError, match=f"{here}/nowhere/api.log cannot be opened: No such file"):
        start(here, place if by == "key" else {}, place if by == "option" else {})
    assert not (here / "nowhere").exists()


@pytest.mark.parametrize("form", ["%(message)s", "json"])
def test_a_file_that_was_moved_or_removed_is_opened_anew(form: str, here: Path) -> None:
    path, log = here / "option/api.log", logging.getLogger("pyrimage.x")
    start(here, {}, {"log_dir": "HERE/option", "log_format": form})
    log.error("one")
    path.rename(path.with_name("api.log.1"))
    log.error("two")
    path.unlink()
    log.error("three")
    log.error("four")
    lines = logs_below(here)
    if form == "json":
        lines = {name: [json.loads(line)["message"] for line in each] for name, each in lines.items()}
    assert lines == {"option/api.log.1": ["one"], "option/api.log": ["three", "four"]}


def test_where_the_file_cannot_be_opened_anew_whoever_logs_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread that serves, say; and the lines go on when the directory is there again."""
    log, directory = logging.getLogger("pyrimage.x"), here / "option"
    start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"})
    log.error("one")
    directory.rename(here / "moved")
    log.error("two")
    assert "FileNotFoundError" in capsys.readouterr().err
    directory.mkdir()
    log.error("three")
    assert logs_below(here) == {"moved/api.log": ["one"], "option/api.log": ["three"]}


def test_a_file_is_gone_on_with_and_holds_utf8(here: Path) -> None:
    for _ in range(2):
        start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"})
        logging.getLogger("pyrimage.x").error("f\xfcr")
    assert (here / "option/api.log").read_bytes() == b"f\xc3\xbcr\n" * 2


@pytest.mark.parametrize("form", ["%(message)s", "json"])
def test_a_line_is_not_lost_for_a_character_that_cannot_be_written(
    form: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(here, {}, {"log_dir": "HERE/option", "log_format": form})
    logging.getLogger("pyrimage.x").error("a file's name: \udcff")
    (line,) = logs_below(here)["option/api.log"]
    assert r"a file's name: \udcff" in line
    assert capsys.readouterr() == ("", "")


# Formats

GOOD = ["%(levelno)d", "%(lineno)03d %(process)d %(thread)d", "%(created)f %(msecs)03.0f", "100 %% %(message)s", "json"]
BAD = ["%(nothing)s", "%(asctime", "%(message)d", "%(message)", "%s", "100 %", "message", "JSON", "{message}"]


@pytest.mark.parametrize("form", GOOD)
def test_a_format_that_can_work_is_taken(form: str, here: Path) -> None:
    (line,) = told(here, {}, {"log_dir": "HERE/option", "log_format": form})["option/api.log"]
    assert line


@pytest.mark.parametrize("by", ["option", "key"])
@pytest.mark.parametrize("form", BAD)
def test_a_format_that_cannot_work_is_told_at_once(form: str, by: str, here: Path) -> None:
    said = {"log_format": form}
    with pytest.raises(ConfigurationError) as caught:
        start(here, said if by == "key" else {}, said if by == "option" else {})
    assert f"log_format = {form}: " in str(caught.value)


@pytest.mark.parametrize("form", ["json", "%(asctime)s"])
def test_a_format_of_times_that_cannot_work_is_told_at_once(form: str, here: Path) -> None:
    """It was typed in another encoding, say."""
    with pytest.raises(ConfigurationError, match="log_date_format"):
        told(here, {}, {"log_dir": "HERE/option", "log_format": form, "log_date_format": "\udcff%H"})


# Levels


def levels() -> dict[str, str]:
    return {name or "root": logging.getLevelName(logging.getLogger(name).level) for name in LEVELS}


LEVELS = {"": "ERROR", "pyrimage": "WARNING", "chatty": "DEBUG", "quiet": "CRITICAL"}
INI_LEVELS = {name or "root": level for name, level in LEVELS.items()}
MORE_LINES = {
    (): INI_LEVELS,
    ("verbose",): {**INI_LEVELS, "root": "INFO", "pyrimage": "INFO"},
    ("debug",): {**INI_LEVELS, "root": "INFO", "pyrimage": "DEBUG"},
    ("debug", "verbose"): {**INI_LEVELS, "root": "INFO", "pyrimage": "DEBUG"},
}


@pytest.mark.parametrize("loggers", [LOGGERS, ""], ids=["loggers", "none"])
@pytest.mark.parametrize("words", MORE_LINES, ids=str)
def test_more_lines_are_ours_and_never_the_debug_lines_of_others(
    words: tuple[str, ...], loggers: str, here: Path
) -> None:
    """S44, S46: they hold passwords and headers."""
    start(here, {}, dict.fromkeys(words, "yes"), loggers)
    expected = dict(MORE_LINES[words])
    if not loggers:
        expected |= {"chatty": "NOTSET", "quiet": "NOTSET"}
        expected |= {} if words else {"root": "WARNING", "pyrimage": "NOTSET"}
    assert levels() == expected


def test_a_root_logger_of_the_ini_at_debug_is_silenced(here: Path) -> None:
    """S44, S46: whoever wants that can leave --debug away."""
    start(here, {}, {"debug": "yes"}, LOGGERS.replace("level = ERROR", "level = DEBUG"))
    assert levels()["root"] == "INFO"


# A file for Python's logging

CONFIG = LOGGERS.replace("of the ini", "of the file")
EVERYTHING = {
    "log_format": "json",
    "log_file": "HERE/option/x.log",
    "log_dir": "HERE/option",
    "log_date_format": "%Y",
    "debug": "yes",
    "verbose": "yes",
}


def test_a_file_for_logging_overrides_everything(here: Path) -> None:
    (here / "logging.conf").write_text(CONFIG, encoding="utf-8")
    keys = {name: text for name, text in EVERYTHING.items() if name.startswith("log_")}
    logs = told(here, keys, {**EVERYTHING, "log_config": "HERE/logging.conf"})
    assert logs == {name: ["of the file: hello"] for name in ("first.log", "second.log")}
    assert levels() == INI_LEVELS


def test_a_file_for_logging_saves_even_a_relative_file_of_the_ini(here: Path) -> None:
    (here / "logging.conf").write_text(CONFIG, encoding="utf-8")
    assert told(here, {"log_file": "x.log"}, {"log_config": "HERE/logging.conf"}) != {}


@pytest.mark.parametrize("name", ["nowhere.conf", "etc"])
def test_a_file_for_logging_that_is_none_is_named(name: str, here: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start(here, {}, {"log_config": f"HERE/{name}"})
    assert str(caught.value) == f"--log-config: {here}/{name} is not a file."


TO_A_TERMINAL = re.sub(r"class = FileHandler\nargs = .*", "class = StreamHandler\nargs = (sys.stderr,)", LOGGERS)
BROKEN = {
    "empty": "",
    "no sections": "root = DEBUG",
    "no such handler": TO_A_TERMINAL.replace("[handler_second]", "[handler_other]"),
    "no such class": TO_A_TERMINAL.replace("class = StreamHandler", "class = SmokeHandler"),
    "no such directory": LOGGERS.replace("/first.log", "/no/where.log"),
    "no level": TO_A_TERMINAL.replace("level = ERROR", "level = LOUD"),
    "no expression": TO_A_TERMINAL.replace("(sys.stderr,)", "(sys.stderr,"),
    "a literal %": TO_A_TERMINAL.replace("sys.stderr", "%sys.stderr"),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_file_for_logging_that_does_not_work_is_named(text: str, here: Path) -> None:
    (here / "logging.conf").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"^{here}/logging.conf does not configure logging: "):
        start(here, {}, {"log_config": "HERE/logging.conf"})


@pytest.mark.parametrize("text", [each for each in BROKEN.values() if "[loggers]" in each])
def test_loggers_of_the_ini_that_do_not_work_are_told_with_its_name(text: str, here: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{here}/etc/pyrimage.ini does not configure logging: "):
        start(here, {}, {}, text)


MAIL = '("mailhost", "from@x", ["to@x"], "subject", ("user", "S3cret"))'
WITH_PASSWORD = {
    "a literal %": MAIL.replace("S3cr", "%S3cr"),
    "a variable": MAIL.replace("S3cret", "%(S3cret)s"),
    "no expression": MAIL[:-1],
    "no quotes": MAIL.replace('"S3cret"', "S3cret"),
    "no end of the quotes": MAIL.replace('"S3cret"', '"S3cret'),
    "no such name": MAIL.replace('"from@x"', "sender"),
    "too few": '("S3cret",)',
    "too many": MAIL.replace('"mailhost"', ", ".join('"S3cret"' for _ in range(9))),
}


@pytest.mark.parametrize("by", ["ini", "file"])
@pytest.mark.parametrize("arguments", WITH_PASSWORD.values(), ids=WITH_PASSWORD)
def test_a_handlers_password_is_not_told_where_it_does_not_work(arguments: str, by: str, here: Path) -> None:
    """S44: handlers send mail, and log to services."""
    text = TO_A_TERMINAL.replace("(sys.stderr,)", arguments, 1).replace("StreamHandler", "handlers.SMTPHandler", 1)
    (here / "logging.conf").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        start(here, {}, {"log_config": "HERE/logging.conf"} if by == "file" else {}, text)
    assert "does not configure logging: " in str(caught.value)
    assert "S3cr" not in str(caught.value)
