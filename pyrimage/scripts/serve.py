"""``pyrimage-api`` and ``pyrimage-registry``: the servers of an ini, in the foreground, with the guide's options."""

import argparse
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from paste.deploy.loadwsgi import SERVER, loadcontext
from pyramid.paster import get_app, get_appsettings

from .. import __version__
from ..errors import ConfigurationError, DatabaseError, PyrimageError
from ..logs import DEFAULT_DATE_FORMAT, DEFAULT_FORMAT, LogOptions, set_up
from ..masks import masked
from ..server.options import Options
from ..settings import CONFIG_DIRECTORIES, CONFIG_NAME, Settings, find_config, shown_settings
from ..stores import load_settings
from . import FAILED, INTERRUPTED, OK, replace_closed_streams
from .ini import reading

log = logging.getLogger(__name__)

SECTIONS = {"api": "main", "registry": "registry"}  # of each server: [app:main], [server:main]

EPILOG = """\
Logging is set up by these options, then by pyrimage.log_* in the ini, then by the ini's [loggers]; --log-config alone
overrides all three. SIGTERM and Ctrl-C let transfers end; SIGHUP reads the ini again if [server:...] has workers.
"""


def api() -> int:
    """Run ``pyrimage-api``."""
    return main("api", sys.argv[1:])


def registry() -> int:
    """Run ``pyrimage-registry``."""
    return main("registry", sys.argv[1:])


def main(server: str, argv: Sequence[str]) -> int:
    """Serve until a signal comes; return the exit status: 0, or 1 with the reason on standard error."""
    replace_closed_streams()
    parser = argparse.ArgumentParser(
        prog=f"pyrimage-{server}",
        description=f"Serve {'the Image API' if server == 'api' else 'the registry'} until Ctrl-C or SIGTERM.",
        parents=[server_options()],
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pyrimage {__version__}")
    arguments = parser.parse_args(with_hyphens(argv))
    try:
        configuration = Configuration.read(server, arguments)
        set_up(server, configuration.ini, configuration.settings, configuration.log_options)
        configuration.show()
        serve = configuration.context.create()  # as pserve does: the server first, then what it serves
        app = get_app(str(configuration.ini), SECTIONS[server])
    except (PyrimageError, ImportError, OSError, ValueError) as error:
        log.debug("the server did not start", exc_info=True)
        words = error.__cause__ if isinstance(error, DatabaseError) else None  # the driver's are for operators alone
        print("ERROR:", error, *str(words or "").split(), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    serve(app)
    return OK


def server_options() -> argparse.ArgumentParser:
    """Make the parser of what both servers take; ``pyrimage-control`` takes it too, and hands it on."""
    parser = argparse.ArgumentParser(add_help=False)
    places = ", ".join(CONFIG_DIRECTORIES)
    parser.add_argument(
        "config",
        nargs="?",
        type=_absolute,
        metavar="CONFPATH",
        help=f"the ini file (default: the first {CONFIG_NAME} in {places})",
    )
    options = parser.add_argument_group("server options", "An underscore will do for each inner hyphen.")
    options.add_argument("--debug", action="store_true", help="log DEBUG lines, and the settings at start")
    options.add_argument("--verbose", action="store_true", help="log INFO lines")
    _add_log_options(options)
    options.add_argument(
        "--pid-file", type=_absolute, metavar="P", help="a file that names the process, which holds it locked"
    )
    options.add_argument("--host", help="address to listen on, instead of the ini's")
    options.add_argument("--port", metavar="N", help="port to listen on, instead of the ini's")
    options.add_argument("--shutdown-timeout", metavar="SECONDS", help="time that transfers get to end in at a stop")
    options.add_argument(
        "--supervised",
        action="store_true",
        help="with workers = 0, have one worker and its supervisor all the same, as pyrimage-control always does",
    )
    return parser


def _add_log_options(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--log-config",
        type=_absolute,
        metavar="PATH",
        help="a file for Python's logging that alone decides what is logged",
    )
    options.add_argument(
        "--log-format", metavar="F", help=f"format of log lines, or json (default: {_literal(DEFAULT_FORMAT)})"
    )
    options.add_argument("--log-file", metavar="P", help="where the log goes (default: as [loggers] say, or stdout)")
    options.add_argument(
        "--log-dir", type=_absolute, metavar="D", help="where a relative --log-file lies; alone: api.log, registry.log"
    )
    options.add_argument(
        "--log-date-format",
        metavar="F",
        help=f"format of times in log lines (default: {_literal(DEFAULT_DATE_FORMAT)})",
    )


def with_hyphens(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the guide's ``--log_file`` as ``--log-file``."""
    return [re.sub("^--[a-z_]+", lambda found: found[0].replace("_", "-"), each) for each in argv]


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _literal(text: str) -> str:
    return text.replace("%", "%%")  # argparse interpolates


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a server is started with: its ini, and what the command line says instead.

    context: PasteDeploy's, of the section ``[server:...]``; its ``local_conf`` is what the server will be given.
    """

    ini: Path
    settings: Settings
    log_options: LogOptions
    app: Mapping[str, str]
    context: Any

    @classmethod
    def read(cls, server: str, arguments: argparse.Namespace) -> Self:
        """Read what the arguments name. Raises ConfigurationError."""
        ini = arguments.config or _find(f"pyrimage-{server}")
        with reading(ini):
            app = get_appsettings(str(ini), SECTIONS[server], options=_given(server))
        context = server_context(server, ini)
        context.local_conf = _overridden(context.local_conf, arguments)
        log_options = LogOptions(**{field.name: getattr(arguments, field.name) for field in fields(LogOptions)})
        return cls(ini=ini, settings=load_settings(app), log_options=log_options, app=app, context=context)

    def show(self) -> None:
        """Log the settings that are in force, without secrets; what is not known may hold one, and is left out."""
        database = {key: masked(key, text) for key, text in self.app.items() if key.startswith("sqlalchemy.")}
        known = (pair for pair in self.context.local_conf.items() if pair[0] in Options._param_map)
        server = {key: masked(key, text) for key, text in known}
        for title, values in (("app", {**shown_settings(self.settings), **database}), ("server", server)):
            for key, text in sorted(values.items()):
                log.debug("%s: %s = %s", title, key, text)


def server_context(server: str, ini: Path) -> Any:
    """Return PasteDeploy's context of the section ``[server:...]``. Raises ConfigurationError."""
    with reading(ini):
        return loadcontext(SERVER, f"config:{ini}", SECTIONS[server], global_conf=_given(server))


def _given(server: str) -> dict[str, str]:
    return {"__script__": f"pyrimage-{server}"}


def _find(program: str) -> Path:
    try:
        return find_config()
    except ConfigurationError as error:
        reason = "Unable to locate any configuration file."  # in the guide's words
        raise ConfigurationError(f"{reason} Cannot load application {program}") from error


def _overridden(settings: Mapping[str, str], arguments: argparse.Namespace) -> dict[str, str]:
    """Return a server's settings with what the command line says of them."""
    changed = dict(settings)
    if arguments.port and not (arguments.port.isdecimal() and int(arguments.port) < 65536):
        raise ConfigurationError(f"--port {arguments.port}: use a number below 65536.")
    if arguments.host or arguments.port:
        changed.pop("unix_socket", None)
        alone = f"{_bracketed(changed.pop('host', Options.host))}:{changed.pop('port', Options.port)}"
        places = [_moved(place, arguments.host, arguments.port) for place in changed.get("listen", alone).split()]
        changed["listen"] = " ".join(dict.fromkeys(places))
    for name in ("shutdown_timeout", "pid_file"):
        if getattr(arguments, name):
            changed[name] = str(getattr(arguments, name))
    if arguments.supervised and re.fullmatch("0+", str(changed.get("workers", Options.workers)).strip()):
        changed["workers"] = "1"
    return changed


def _moved(place: str, host: str | None, port: str | None) -> str:
    """Return ``127.0.0.1:9292`` with another host or port."""
    old_host, colon, old_port = place.rpartition(":")
    if not colon or "]" in old_port:  # there is no port
        old_host, old_port = place, str(Options.port)
    return f"{_bracketed(host or old_host)}:{port or old_port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
