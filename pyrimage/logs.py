"""What is logged where, and in which form: formatters for the ini, and the guide's five options for the programs."""

import contextlib
import contextvars
import json
import logging
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.config import fileConfig
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import plaster

from .environ import IDENTITY, IMAGE_ID, REQUEST_ID
from .errors import ConfigurationError
from .server.logtext import SHORT, shown
from .settings import Settings

DEFAULT_FORMAT = "%(asctime)s %(levelname)8s [%(name)s] %(message)s"
DEFAULT_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
JSON = "json"
NOBODY = "-"

# The environ of the request that this thread is answering.
answering: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("answering", default=None)


def _request_fields(record: logging.LogRecord) -> dict[str, str | None]:
    """Return request_id, image_id and caller, each None where there is none."""
    # The access line is written when its request is over; the server attaches what it knew of it.
    attached: dict[str, str | None] | None = getattr(record, "request_fields", None)
    if attached is not None:
        return attached
    environ = answering.get() or {}
    caller = str(environ.get(IDENTITY, NOBODY))[:SHORT]
    return {
        "request_id": environ.get(REQUEST_ID),
        "image_id": environ.get(IMAGE_ID) and shown(environ[IMAGE_ID]),  # somebody may have put a secret there
        "caller": None if caller == NOBODY else caller,
    }


class LogFormatter(logging.Formatter):
    """A formatter that knows ``%(request_id)s``, ``%(image_id)s`` and ``%(caller)s`` of the request, or ``-``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format with what is known of the request."""
        for name, value in _request_fields(record).items():
            # Escaped, for a line feed in a caller's name would forge a line.
            setattr(record, name, (value or NOBODY).encode("unicode_escape").decode())
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """A formatter that makes each record one line, a JSON object.

    Shape: time (ISO 8601, UTC), level, logger, process, message, request_id, image_id and caller (null where there is
    none), and exception where there is one. Of a record's other attributes nothing is shown: what libraries attach may
    be secret.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.strftime(self.datefmt) if self.datefmt else moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **_request_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LogFile(WatchedFileHandler):
    """A log file that is opened anew when it was moved or removed, as logrotate does; it is never for others to read.

    Where it cannot be opened, lines are lost, and whoever logs goes on: WatchedFileHandler alone would let the error
    reach a thread that serves, or a transaction that ends.
    """

    def _open(self) -> TextIOWrapper:
        """Open the file; WatchedFileHandler does so, too, when it was moved."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) and mode & stat.S_IRWXO:  # and never /dev/null, or a terminal
            with contextlib.suppress(OSError):  # it is another user's
                os.fchmod(descriptor, stat.S_IMODE(mode) & ~stat.S_IRWXO)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What a program's command line says about logging."""

    log_config: Path | None = None
    log_format: str | None = None
    log_file: str | None = None
    log_dir: Path | None = None
    log_date_format: str | None = None
    verbose: bool = False
    debug: bool = False


def set_up(program: str, ini: Path, settings: Settings, options: LogOptions) -> None:
    """Set up logging for a program: by its command line, then the ini's ``pyrimage.log_*``, then its ``[loggers]``.

    Where the first two say anything, one handler takes the place of those that ``[loggers]`` gives to the root logger.
    With ``log_config``, that file alone decides. program: ``api``, the name of a log file in ``log_dir``. Raises
    ConfigurationError. Source: docs/control.md, "Logging".
    """
    if options.log_config is not None:
        if not options.log_config.is_file():
            raise ConfigurationError(f"--log-config: {options.log_config} is not a file.")
        _read(options.log_config)
        return
    has_loggers = read_loggers(ini)
    formatter = make_formatter(settings, options)
    path = log_file(program, settings, options)
    root = logging.getLogger()
    if formatter or path or not has_loggers:
        handler = _open(path) if path else logging.StreamHandler(sys.stdout)
        handler.setFormatter(formatter or LogFormatter(DEFAULT_FORMAT, DEFAULT_DATE_FORMAT))
        _replace_handlers(root, handler)
    if options.debug or options.verbose:
        root.setLevel(logging.INFO)  # at DEBUG, other libraries show passwords
        logging.getLogger("pyrimage").setLevel(logging.DEBUG if options.debug else logging.INFO)


def read_loggers(ini: Path) -> bool:
    """Set up logging as an ini's ``[loggers]`` say; return whether it has them. Raises ConfigurationError."""
    has_loggers = "loggers" in plaster.get_loader(str(ini), protocols=["wsgi"]).get_sections()
    if has_loggers:
        _read(ini)
    return has_loggers


def _replace_handlers(root: logging.Logger, handler: logging.Handler) -> None:
    loggers = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for old in list(root.handlers):
        root.removeHandler(old)
        if not any(old in logger.handlers for logger in loggers):  # the ini may give it to another one, too
            old.close()
    root.addHandler(handler)


def log_file(program: str, settings: Settings, options: LogOptions) -> Path | None:
    """Return the log file that the options or the settings name; None for standard output, or what ``[loggers]`` says.

    Raises ConfigurationError for one that depends on where the server is started, and for a pipe, whose opening may
    take for ever.
    """
    path = _log_file(program, settings, options)
    if path is not None and path.is_fifo():
        raise ConfigurationError(f"The log file {path} is a pipe: use a file.")
    return path


def _log_file(program: str, settings: Settings, options: LogOptions) -> Path | None:
    directory = options.log_dir or settings.log_dir
    if options.log_file:
        return (directory or Path.cwd()) / options.log_file
    if settings.log_file and not directory and not Path(settings.log_file).is_absolute():
        raise ConfigurationError(
            f"pyrimage.log_file = {settings.log_file}: use an absolute path, or set pyrimage.log_dir."
        )
    if settings.log_file:
        return (directory or Path("/")) / settings.log_file
    return directory / f"{program}.log" if directory else None


def make_formatter(settings: Settings, options: LogOptions) -> logging.Formatter | None:
    """Make the formatter that the options or the settings ask for; None if they do not. Raises ConfigurationError."""
    form, dates = options.log_format or settings.log_format, options.log_date_format or settings.log_date_format
    if not form and not dates:
        return None
    try:
        datetime.now(UTC).strftime(dates or DEFAULT_DATE_FORMAT)
    except ValueError as error:
        raise ConfigurationError(f"log_date_format = {dates!a}: {error}.") from error
    if form == JSON:
        return JsonFormatter(datefmt=dates)
    try:
        formatter = LogFormatter(form or DEFAULT_FORMAT, dates or DEFAULT_DATE_FORMAT)
        formatter.format(logging.LogRecord("pyrimage", logging.INFO, __file__, 1, "", None, None))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"log_format = {form}: {error!r}.") from error
    return formatter


def _open(path: Path) -> logging.Handler:
    try:
        return LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigurationError(f"The log file {path} cannot be opened: {error.strerror}.") from error


def _read(path: Path) -> None:
    defaults = {"here": str(path.parent), "__file__": str(path)}
    try:
        path.open().close()  # configparser passes over a file that it cannot read
        fileConfig(path, defaults, disable_existing_loggers=False, encoding="utf-8")
    except Exception as error:  # the file holds Python expressions: anything may be raised
        # Others quote the line that is wrong, which may hold a handler's password.
        may_tell = isinstance(error, ImportError | KeyError | OSError | ValueError)
        reason = f"{type(error).__name__}: {error}" if may_tell else type(error).__name__
        if isinstance(error, KeyError):
            reason = f"{error} is missing"
        raise ConfigurationError(f"{path} does not configure logging: {reason}.") from error
