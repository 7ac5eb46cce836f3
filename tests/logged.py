"""Logging that a test sets up for itself, and an ini with loggers of its own."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyrimage.logs import LogOptions, set_up
from pyrimage.settings import Settings
from pyrimage.stores import load_settings

LogsOf = dict[str, list[str]]
FIELDS = "%(request_id)s %(image_id)s %(caller)s: %(message)s"  # a format of what is ours alone

# Two handlers of the root logger, and one that belongs to another; levels that are nobody's default.
LOGGERS = """
[loggers]
keys = root, ours, chatty, quiet

[handlers]
keys = first, second, quiet

[formatters]
keys = ini

[logger_root]
level = ERROR
handlers = first, second

[logger_ours]
level = WARNING
handlers =
qualname = pyrimage

[logger_chatty]
level = DEBUG
handlers =
qualname = chatty

[logger_quiet]
level = CRITICAL
handlers = quiet
qualname = quiet

[handler_first]
class = FileHandler
args = (r"%(here)s/first.log",)
formatter = ini

[handler_second]
class = FileHandler
args = (r"%(here)s/second.log",)
formatter = ini

[handler_quiet]
class = FileHandler
args = (r"%(here)s/quiet.log",)
formatter = ini

[formatter_ini]
class = pyrimage.logs.LogFormatter
format = of the ini: %(message)s
"""


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Let the block begin as a program does, without handlers and levels; what it sets up ends with it."""
    root = logging.getLogger()
    known = {logger: (logger.level, logger.propagate, logger.disabled, logger.handlers) for logger in _loggers()}
    handlers, names = logging._handlerList[:], logging._handlers.copy()  # type: ignore[attr-defined]
    # fileConfig closes what is listed here, and pytest's own handlers are.
    logging._handlerList[:] = []  # type: ignore[attr-defined]
    logging._handlers.clear()  # type: ignore[attr-defined]
    for logger in known:
        logger.setLevel(logging.WARNING if logger is root else logging.NOTSET)
        logger.propagate, logger.disabled, logger.handlers = True, False, []
    try:
        yield
    finally:
        for reference in logging._handlerList[:]:  # type: ignore[attr-defined]
            if (handler := reference()) is not None:
                handler.close()
        for logger in _loggers():
            level, propagate, disabled, own = known.get(logger, (logging.NOTSET, True, False, []))
            logger.setLevel(level)
            logger.propagate, logger.disabled, logger.handlers = propagate, disabled, own
        logging._handlerList[:] = handlers  # type: ignore[attr-defined]
        logging._handlers.update(names)  # type: ignore[attr-defined]


def _loggers() -> list[logging.Logger]:
    found = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    return [logging.getLogger(), *found]


def logs_below(directory: Path) -> dict[str, list[str]]:
    """Return the lines of every log file, by its path below the directory; no entry where none was written."""
    texts = {str(path.relative_to(directory)): path.read_text(encoding="utf-8") for path in directory.rglob("*.log*")}
    return {name: text.splitlines() for name, text in texts.items() if text}


def placed(values: Mapping[str, str], here: Path) -> dict[str, str]:
    return {name: text.replace("HERE", str(here)) for name, text in values.items()}


def read(here: Path, keys: Mapping[str, str]) -> Settings:
    """Read ``pyrimage.log_*`` keys."""
    section = {"auth": "none", "filesystem_store_datadir": "/srv", **placed(keys, here)}
    return load_settings({f"pyrimage.{name}": text for name, text in section.items()})


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
