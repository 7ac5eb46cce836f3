"""What decides where a program logs, how, and how much: options, keys, loggers of its ini, a file for logging."""

import json
import logging
import re
from pathlib import Path

import pytest

from logged import FIELDS, LOGGERS, LogsOf, logs_below, start, told
from pyrimage.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("loggers_of_its_own")

OF_THE_INI: LogsOf = {name: ["of the ini: hello"] for name in ("etc/first.log", "etc/second.log")}
OPTIONS = {"log_file": "HERE/option/x.log", "log_format": "option %(asctime)s %(message)s", "log_date_format": "then"}
KEYS = {"log_file": "HERE/key/x.log", "log_format": "key %(asctime)s %(message)s", "log_date_format": "now"}
# Options, keys, and what the files then hold.
DECIDED: dict[str, tuple[dict[str, str], dict[str, str], LogsOf]] = {
    "keys": ({}, KEYS, {"key/x.log": ["key now hello"]}),
    "options": (OPTIONS, KEYS, {"option/x.log": ["option then hello"]}),
    "directory of the key": (
        {},
        {"log_dir": "HERE/key", "log_format": "%(levelname)s %(message)s"},
        {"key/api.log": ["ERROR hello"]},
    ),
    "directory of the option": (
        {"log_dir": "HERE/option"},
        {"log_dir": "HERE/key", "log_format": "%(message)s"},
        {"option/api.log": ["hello"]},
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


@pytest.mark.parametrize("name", ALONE)
def test_one_of_them_alone_replaces_all_handlers_of_the_inis_root_logger_by_standard_output(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, line = ALONE[name]
    assert told(here, {name: text}, {}) == {}
    assert capsys.readouterr() == (f"{line}\n", "")


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


def test_json_is_a_format_and_our_fields_may_stand_in_another(here: Path) -> None:
    (line,) = told(here, {"log_format": "json"}, {"log_dir": "HERE/option", "log_date_format": "%Z"})["option/api.log"]
    assert (json.loads(line)["message"], json.loads(line)["time"]) == ("hello", "UTC")
    assert told(here, {"log_format": FIELDS}, {"log_dir": "HERE/key"})["key/api.log"] == ["- - -: hello"]


# Formats

GOOD = ["%(lineno)03d %(process)d %(thread)d", "%(created)f %(msecs)03.0f", "100 %% %(message)s"]
BAD = ["%(nothing)s", "%(asctime", "%(message)d", "%(message)", "%s", "100 %", "message", "JSON", "{message}"]


@pytest.mark.parametrize("form", GOOD)
def test_a_format_that_can_work_is_taken(form: str, here: Path) -> None:
    (line,) = told(here, {}, {"log_dir": "HERE/option", "log_format": form})["option/api.log"]
    assert line


@pytest.mark.parametrize("form", BAD)
def test_a_format_that_cannot_work_is_told_at_once(form: str, here: Path) -> None:
    for keys, options in (({"log_format": form}, {}), ({}, {"log_format": form})):
        with pytest.raises(ConfigurationError) as caught:
            start(here, keys, options)
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


@pytest.mark.parametrize("loggers", [LOGGERS, LOGGERS.replace("level = ERROR", "level = DEBUG"), ""])
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
    elif loggers != LOGGERS and not words:
        expected["root"] = "DEBUG"  # as whoever wrote the ini wants it
    assert levels() == expected


# A file for Python's logging

CONFIG = LOGGERS.replace("of the ini", "of the file")


@pytest.mark.parametrize("file", ["HERE/option/x.log", "x.log"])
def test_a_file_for_logging_overrides_everything(file: str, here: Path) -> None:
    """Even a relative file of the ini, which would be refused."""
    (here / "logging.conf").write_text(CONFIG, encoding="utf-8")
    keys = {"log_format": "json", "log_file": file, "log_date_format": "%Y"}
    options = {**keys, "log_dir": "HERE/option", "debug": "yes", "verbose": "yes", "log_config": "HERE/logging.conf"}
    logs = told(here, keys, options)
    assert logs == {name: ["of the file: hello"] for name in ("first.log", "second.log")}
    assert levels() == INI_LEVELS


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
    "a literal %": TO_A_TERMINAL.replace("sys.stderr", "%sys.stderr"),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_does_not_configure_logging_is_named(text: str, here: Path) -> None:
    (here / "logging.conf").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"^{here}/logging.conf does not configure logging: "):
        start(here, {}, {"log_config": "HERE/logging.conf"})
    if "[loggers]" in text:
        with pytest.raises(ConfigurationError, match=f"^{here}/etc/pyrimage.ini does not configure logging: "):
            start(here, {}, {}, text)


MAIL = '("mailhost", "from@x", ["to@x"], "subject", ("user", "S3cret"))'
WITH_PASSWORD = {
    "a literal %": MAIL.replace("S3cr", "%S3cr"),
    "a variable": MAIL.replace("S3cret", "%(S3cret)s"),
    "no expression": MAIL[:-1],
    "no quotes": MAIL.replace('"S3cret"', "S3cret"),
    "no end of the quotes": MAIL.replace('"S3cret"', '"S3cret'),
    "too few": '("S3cret",)',
}


@pytest.mark.parametrize("arguments", WITH_PASSWORD.values(), ids=WITH_PASSWORD)
def test_a_handlers_password_is_not_told_where_it_does_not_work(arguments: str, here: Path) -> None:
    """S44: handlers send mail, and log to services."""
    text = TO_A_TERMINAL.replace("(sys.stderr,)", arguments, 1).replace("StreamHandler", "handlers.SMTPHandler", 1)
    (here / "logging.conf").write_text(text, encoding="utf-8")
    for options in ({"log_config": "HERE/logging.conf"}, {}):
        with pytest.raises(ConfigurationError) as caught:
            start(here, {}, options, text)
        assert "does not configure logging: " in str(caught.value)
        assert "S3cr" not in str(caught.value)
